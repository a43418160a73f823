package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/node"
)

// Committed offsets that were acknowledged are there after every kill, and never those of a commit that came before.
func TestKillOffsets(t *testing.T) {
	rng := rand.New(rand.NewPCG(*seed, 2))
	n := node.New(t, t.TempDir())
	n.Start()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(newClient(t, n.Kafka)).CreateTopics(ctx, 1, 1, nil, "jobs"); err != nil {
		t.Fatal(err)
	}

	const groups = 16
	var acked, tried [groups]int64 // of the group's one committer
	var commits atomic.Int64
	var serving sync.WaitGroup // until each group has committed once
	serving.Add(groups)
	stop := make(chan struct{})
	var done sync.WaitGroup
	for g := range groups {
		adm := kadm.NewClient(newClient(t, n.Kafka, kgo.RetryTimeout(200*time.Millisecond)))
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				tried[g]++
				var o kadm.Offsets
				o.AddOffset("jobs", 0, tried[g], -1)
				short, cancel := context.WithTimeout(ctx, 5*time.Second)
				if err := adm.CommitAllOffsets(short, fmt.Sprint("group", g), o); err == nil {
					if acked[g] == 0 {
						serving.Done()
					}
					acked[g] = tried[g]
					commits.Add(1)
				}
				cancel()
			}
		})
	}
	// However slow the machine is, there are commits between two kills, and some of each group.
	work := func() {
		for enough := commits.Load() + 10*groups; commits.Load() < enough && ctx.Err() == nil; {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
	}
	for range 6 {
		work()
		n.Kill()
		n.Start()
	}
	work()
	all := make(chan struct{})
	go func() { serving.Wait(); close(all) }()
	select {
	case <-all:
	case <-ctx.Done():
		t.Errorf("not every group has committed: %v", ctx.Err())
	}
	close(stop)
	n.Kill()
	done.Wait()
	n.Start()

	adm := kadm.NewClient(newClient(t, n.Kafka))
	var total int64
	for g := range groups {
		got, err := adm.FetchOffsets(ctx, fmt.Sprint("group", g))
		if err != nil {
			t.Fatal(err)
		}
		o, ok := got.Lookup("jobs", 0)
		if !ok || o.Err != nil || o.At < acked[g] || o.At > tried[g] {
			t.Errorf("group %d: offset %d (%v), acknowledged %d, tried %d", g, o.At, o.Err, acked[g], tried[g])
		}
		if acked[g] == 0 {
			t.Errorf("group %d: nothing was acknowledged", g)
		}
		total += acked[g]
	}
	t.Logf("%d commits acknowledged over 7 kills", total)
}
