package powercut

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"chronik/test/ext4"
	"chronik/test/node"
)

var (
	rounds = flag.Int("rounds", 6, "how often the power is cut")
	seed   = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the moments to cut at")
)

// TestPowerCut cuts the power again and again while producers, a committing group and topic creations are at work, and
// demands after each start that all is there that was acknowledged, once and in order.
func TestPowerCut(t *testing.T) {
	r := newRun(t, node.Binary(t))
	for range *rounds {
		r.round()
		if err := r.verify(); err != nil {
			t.Fatal(err)
		}
	}
	r.finish()
	if err := r.n.Stop(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(r.n.Bin, "log", "verify", r.n.Dir).CombinedOutput()
	if err != nil {
		t.Errorf("log verify: %v\n%s", err, out)
	}
}

// TestPowerCutIsNoticed runs a build that never calls fsync: if nothing is lost then, TestPowerCut proves nothing.
func TestPowerCutIsNoticed(t *testing.T) {
	ext4.New(t).Unmount() // or skip before the build
	bin := filepath.Join(t.TempDir(), "chronik")
	build := exec.Command("go", "build", "-tags", "chronik_nofsync", "-o", bin, "./cmd/chronik")
	build.Dir = node.Root(t)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build without fsync: %v\n%s", err, out)
	}
	r := newRun(t, bin)
	for i := range 5 {
		r.cut()
		err := r.n.TryStart()
		if err == nil {
			err = r.verify()
		}
		if err != nil {
			t.Logf("as it must, after cut %d: %v", i+1, err)
			r.abandon()
			return
		}
	}
	t.Error("without fsync, five power cuts lost nothing that was acknowledged")
	r.finish()
}

// run is a node on a disk whose power is cut, and those who use it.
type run struct {
	t      *testing.T
	rng    *rand.Rand
	disk   *ext4.Disk
	n      *node.Node
	users  *users
	cancel context.CancelFunc
	cuts   int
}

func newRun(t *testing.T, bin string) *run {
	t.Helper()
	d := ext4.New(t)
	t.Logf("to repeat the moments of the cuts: go test ./test/powercut -seed %d", *seed)
	r := &run{t: t, rng: rand.New(rand.NewPCG(*seed, 1)), disk: d}
	// Small limits, so that files are recycled and checkpoints made while the test lasts.
	r.n = node.New(t, filepath.Join(d.Mount, "data"), "--set", "wal.file.bytes=4194304", "--set", "wal.max.bytes=33554432",
		"--set", "checkpoint.bytes=8388608", "--set", "log.segment.bytes=4194304")
	r.n.Bin = bin
	r.n.Start()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	t.Cleanup(cancel)
	r.users = newUsers(t, ctx, r.n.Kafka)
	return r
}

// cut lets the users work for a while and cuts the power.
func (r *run) cut() {
	r.t.Helper()
	before := r.users.acked()
	time.Sleep(time.Duration(200+r.rng.IntN(2500)) * time.Millisecond)
	for deadline := time.Now().Add(2 * time.Minute); r.users.acked() < before+1000; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("only %d records were acknowledged in two minutes\n%s", r.users.acked()-before, r.n.Log())
		}
	}
	// A process that runs on after the shutdown may be told that an fsync succeeded which began before it: ext4 drops the
	// conversion of extents then without an error. A power cut leaves nobody to believe that.
	r.n.Freeze()
	r.disk.Cut()
	r.n.Kill()
	r.disk.Remount()
	r.cuts++
}

func (r *run) round() {
	r.t.Helper()
	r.cut()
	r.n.Start()
}

// verify compares with what was acknowledged so far, while the users go on.
func (r *run) verify() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return r.users.verify(ctx)
}

// finish lets the users end in peace and compares for the last time.
func (r *run) finish() {
	r.t.Helper()
	if err := r.users.stop(); err != nil {
		r.t.Error(err)
	}
	if err := r.verify(); err != nil {
		r.t.Error(err)
	}
	r.t.Logf("%d cuts; acknowledged: %s", r.cuts, r.users.summary())
}

// abandon is for a node that has lost what they were promised.
func (r *run) abandon() {
	r.cancel()
	r.n.Kill()
	_ = r.users.stop()
}

var errLost = errors.New("lost what was acknowledged")

func lost(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errLost, fmt.Sprintf(format, args...))
}
