package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sys/unix"

	"chronik/test/ext4"
	"chronik/test/node"
)

// The power of one node is cut, then that of all three at the same moment, while a producer, a committing group and an
// administrator are at work: what was acknowledged is there, once and in order, on every replica.
func TestPowerCut(t *testing.T) {
	disks := []*ext4.Disk{ext4.New(t), ext4.New(t), ext4.New(t)}
	dir := t.TempDir()
	for i, d := range disks {
		data := filepath.Join(d.Mount, "data")
		if err := os.Mkdir(data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(data, filepath.Join(dir, fmt.Sprintf("node-%d", i+1))); err != nil {
			t.Fatal(err)
		}
	}
	c := node.NewClusterIn(t, dir, 3, "wal.file.bytes=4194304", "wal.max.bytes=33554432", "checkpoint.bytes=8388608", "log.segment.bytes=4194304")
	explain(t, c)
	for _, d := range disks { // the nodes' configuration is to survive
		syncDisk(t, d)
	}
	c.Start()
	create(t, c, 3, "records")
	p := newProducer(t, c.Bootstrap(), "records", 3)
	a := newAdministrator(t, c)
	for _, cut := range [][]int{{1}, {1, 2, 3}, {1, 2, 3}, {2}, {1, 2, 3}} {
		p.await(t, 2000)
		a.await(t, 5)
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
		for _, id := range cut { // nobody acts on a sync that ends after the cut
			c.Member(id).Freeze()
		}
		for _, id := range cut {
			disks[id-1].Cut()
		}
		for _, id := range cut {
			c.Member(id).Kill()
			disks[id-1].Remount()
		}
		for _, id := range cut {
			c.Member(id).Launch()
		}
		for _, id := range cut {
			if err := c.Member(id).AwaitServing(); err != nil {
				t.Fatalf("node %d after the cut of %v: %v", id, cut, err)
			}
		}
		c.WaitUp(3)
		inSync(t, c, "records")
	}
	p.await(t, 100)
	p.stop(t)
	p.verify(t, c)
	a.verify(t, c)
	imagesEqual(t, c)
	c.Start()
	inSync(t, c, "records")
	stopAndCompare(t, c, map[string]int{"records": -1})
}

func syncDisk(t *testing.T, d *ext4.Disk) {
	t.Helper()
	f, err := os.Open(d.Mount)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		t.Fatal(err)
	}
}

// administrator commits offsets of a group and creates topics, and keeps what was acknowledged.
type administrator struct {
	stopped chan struct{}
	ended   sync.WaitGroup

	mu     sync.Mutex
	commit int64
	topics []string
}

func newAdministrator(t *testing.T, c *node.Cluster) *administrator {
	t.Helper()
	a := &administrator{stopped: make(chan struct{})}
	admin := kadm.NewClient(client(t, c.Bootstrap()))
	ctx := within(t, 10*time.Minute)
	a.ended.Go(func() {
		for i := int64(1); ctx.Err() == nil; i++ {
			select {
			case <-a.stopped:
				return
			default:
			}
			attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
			var offsets kadm.Offsets
			offsets.AddOffset("records", 0, i, -1)
			if err := admin.CommitAllOffsets(attempt, "committers", offsets); err == nil {
				a.mu.Lock()
				a.commit = i
				a.mu.Unlock()
			}
			if i%10 == 0 {
				name := fmt.Sprintf("made-%d", i)
				if res, err := admin.CreateTopic(attempt, 1, 3, nil, name); err == nil && res.Err == nil {
					a.mu.Lock()
					a.topics = append(a.topics, name)
					a.mu.Unlock()
				}
			}
			cancel()
			time.Sleep(5 * time.Millisecond)
		}
	})
	return a
}

// await waits for so many more commits.
func (a *administrator) await(t *testing.T, n int64) {
	t.Helper()
	committed := func() int64 {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.commit
	}
	enough := committed() + n
	for end := time.Now().Add(node.Patience); committed() < enough; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no offset is committed within %v", node.Patience)
		}
	}
}

func (a *administrator) verify(t *testing.T, c *node.Cluster) {
	t.Helper()
	close(a.stopped)
	a.ended.Wait()
	admin := kadm.NewClient(client(t, c.Bootstrap()))
	got, err := admin.FetchOffsets(within(t, time.Minute), "committers")
	if o, ok := got.Lookup("records", 0); err != nil || !ok || o.At < a.commit {
		t.Errorf("the group's offset is %v, %v; %d was acknowledged", o.At, err, a.commit)
	}
	for _, m := range c.Members {
		known := mustMetadata(t, m).Topics
		for _, name := range a.topics {
			if !known.Has(name) {
				t.Errorf("node %d does not know topic %s", m.ID, name)
			}
		}
	}
	t.Logf("%d commits and %d topics are there", a.commit, len(a.topics))
}
