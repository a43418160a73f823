package controller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/metadata"
)

// topics creates a number of them, with partitions, in one command.
func (m *machine) topics(t *testing.T, prefix string, count int, partitions int32) {
	t.Helper()
	var topics []metadata.CreateTopic
	for i := range count {
		topics = append(topics, metadata.CreateTopic{Name: fmt.Sprint(prefix, "-", i), Partitions: partitions, ReplicationFactor: 1})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, r := range m.controller().CreateTopics(ctx, topics, false) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// TestSnapshotInstallCrashes ends a node at each of its disk operations while it gets a snapshot from the leader: a voter
// that is behind the others' log, and one that joins. It starts again and gets there.
func TestSnapshotInstallCrashes(t *testing.T) {
	stride := int64(1)
	if testing.Short() {
		stride = 5
	}
	for _, joiner := range []bool{false, true} {
		for step, more := int64(1), true; more; step += stride {
			synctest.Test(t, func(t *testing.T) { more = snapshotInstallCrash(t, joiner, step) })
		}
	}
}

func snapshotInstallCrash(t *testing.T, joiner bool, step int64) (died bool) {
	f := newFleet(t, 3000+uint64(step), 3)
	f.snapshot = 2 << 10
	defer f.close()
	f.startAll()
	f.formed()
	rng := rand.New(rand.NewPCG(uint64(step), 7))
	m := f.machines[2]
	if joiner {
		m = f.add(4, nil, "node1:9291")
	} else {
		m.kill(nil)
	}
	for i := range 30 { // more than the others keep of their logs
		if err := f.machines[0].create(fmt.Sprint("t-", i), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	f.machines[0].topics(t, "more", 3, 10)
	m.fs.KillAfter(step, rng)
	m.start()
	for range 300 {
		time.Sleep(10 * time.Millisecond)
		if m.died() || m.registered() {
			break
		}
	}
	if died = m.died(); died {
		m.kill(rng)
		m.start()
	} else {
		m.fs.KillAfter(1<<60, rng)
	}
	f.formed()
	f.converged()
	f.oneCluster()
	return died
}

// TestLargeSnapshot: an image of more than one part reaches who joins, and heartbeats do not wait behind it.
func TestLargeSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 31, 3)
		f.net.delay = 20 * time.Millisecond
		f.net.loss = 0.02
		defer f.close()
		f.startAll()
		f.formed()
		for i := range 4 {
			f.machines[0].topics(t, fmt.Sprint("large-", i), 10, 500)
		}
		leader, term := f.leader(), uint64(0)
		if size := len(leader.controller().Image().EncodeSnapshot()); size < 3*partBytes {
			t.Fatalf("the image has %d bytes only", size)
		}
		leader.controller().inbox.post(func() { term = leader.controller().loop.leading })
		f.add(4, nil, "node2:9291").start()
		f.formed()
		f.converged()
		f.machines[3].kill(nil)
		f.machines[3].wipe()
		f.machines[3].start()
		f.formed()
		f.converged()
		now := uint64(0)
		done := make(chan struct{})
		leader.controller().inbox.post(func() { now = leader.controller().loop.leading; close(done) })
		<-done
		if now != term {
			t.Fatalf("the leadership changed from term %d to %d", term, now)
		}
	})
}

// TestInstallAfterManyStarts: a node that was started so often that it owes a snapshot, and has applied nothing since its last one,
// gets one from the leader. It must not write its own, older one behind that: it would not start any more.
func TestInstallAfterManyStarts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFleet(t, 91, 3)
		f.snapshot = 8 << 10
		f.sync = 20 * time.Millisecond
		defer f.close()
		f.startAll()
		f.formed()
		f.converged()
		m := f.machines[int(f.leader().id)%3]
		m.inLoop(func(l *loop) { l.snapshot.due = true })
		time.Sleep(3 * time.Second)
		f.net.set(func() { f.net.cut[m.id] = true })
		m.inLoop(func(l *loop) {
			if l.snapshot.index != uint64(l.image.Offset()) {
				t.Errorf("the last snapshot is of offset %d of %d: nothing is tested", l.snapshot.index, l.image.Offset())
			}
			l.snapshot.due = true // as after many starts
		})
		leader := f.leader()
		for i := range 300 { // more than the others keep for who lags
			if err := leader.create(fmt.Sprint("t-", i), 10*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		f.net.set(func() { clear(f.net.cut) })
		f.converged()
		time.Sleep(time.Second)
		m.kill(nil)
		m.start()
		f.formed()
		f.converged()
	})
}
