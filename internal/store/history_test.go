package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/store"
	"chronik/internal/vfs"
)

// TestHistory runs seeded random histories of a node's storage over the crashable file system, against a model: appends
// of several partitions at the same time (as a leader with idempotent producers, as a follower, in bulk by reference),
// epochs, truncations, resets, log starts, retention, deletions and recreations, checkpoints and recycling, clean
// shutdowns, kills and power losses in the middle of any call, a failed sync, a full disk, recoveries that are cut short
// themselves. After each reopening it demands, of every partition, that
//
//   - what was reported durable is there byte for byte, and nothing that was not appended, was cut, or was deleted;
//   - of an operation that had not returned, all or nothing is there;
//   - epoch history, log start and the producers' sequences are what the log's content calls for: a batch that is
//     sent again is a duplicate, a gap is refused;
//   - `log verify` finds no fault after a clean shutdown, and none in the WAL and the node's own files after a crash.
//
// CHRONIK_SEEDS=n runs n seeds, CHRONIK_SEED=s only that one. It was seen to fail when the code was broken in these ways:
// no sync of the WAL's groups, of a segment, of the checkpoint or identity file, of a directory after a rename, of the
// name of a partition's directory; pages of a dead process believed without dropping them from the page cache; generations ignored, or given again to a partition that was
// deleted and made again; a partition not marked dirty; a checkpoint that starts behind what is durable; replay that goes on
// behind a reference which is not there.
func TestHistory(t *testing.T) {
	for _, seed := range historySeeds(t, 300) {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, seed)
			defer func() {
				if t.Failed() {
					t.Logf("seed %d:\n%s\nreplay: CHRONIK_SEED=%d go test -count=30 -run 'TestHistory$' ./internal/store", seed, strings.Join(h.trace, "\n"), seed)
				}
			}()
			h.run()
		})
		if t.Failed() {
			return
		}
	}
}

// historySeeds are those to run: 1 to n, unless the environment says otherwise.
func historySeeds(t *testing.T, n int) []uint64 {
	number := func(name string) (int, bool) {
		s := os.Getenv(name)
		v, err := strconv.Atoi(s)
		if s != "" && err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return v, s != ""
	}
	if s, ok := number("CHRONIK_SEED"); ok {
		return []uint64{uint64(s)}
	}
	if v, ok := number("CHRONIK_SEEDS"); ok {
		n = v
	} else if testing.Short() {
		n /= 10
	}
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i + 1)
	}
	return list
}

// history is one run: the machine, the store, and what the store has promised.
type history struct {
	t      *testing.T
	rng    *rand.Rand
	disk   *vfs.Mem
	faulty *vfs.Fault // over disk
	config config.Config
	parts  []*modelPartition
	store  *store.Store

	traceMu sync.Mutex
	trace   []string

	// Of the present process:
	slow   bool // syncs take time, so that groups gather
	ailing bool // one of its syncs fails
	full   bool // its disk is full for a while
	fatals atomic.Int32
	failed chan struct{} // closed by Fatal
	died   <-chan struct{}
}

func newHistory(t *testing.T, seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 0xD4))
	h := &history{t: t, rng: rng, disk: vfs.NewMem(0), slow: rng.IntN(2) == 0}
	c := *config.Default()
	c.WALFileBytes = int64(16+rng.IntN(64)) << 10
	c.WALMaxBytes = c.WALFileBytes * int64(2+rng.IntN(4))
	c.WALReferenceMinBytes = int64(1+rng.IntN(8)) << 10
	c.CheckpointBytes = int64(8+rng.IntN(120)) << 10
	c.FreeSpaceReserveBytes = 0
	c.FollowerCacheBytes = c.WALFileBytes / 4
	c.OpenFilesMax = 2 + rng.IntN(20)
	c.Topic.SegmentBytes = int32(24+rng.IntN(32)) << 10
	c.Topic.IndexIntervalBytes = int32(512 + rng.IntN(4096))
	c.Topic.RetentionMillis, c.Topic.RetentionBytes = -1, -1
	h.config = c
	for i := range 1 + rng.IntN(4) {
		h.parts = append(h.parts, newModelPartition(h, i))
	}
	return h
}

func (h *history) note(format string, args ...any) {
	h.traceMu.Lock()
	defer h.traceMu.Unlock()
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *history) run() {
	defer func() {
		if h.t.Failed() && h.store != nil {
			h.disk.Kill()
			_ = h.store.Close() // its goroutines must end
		}
	}()
	for range 3 + h.rng.IntN(6) {
		if h.open(true) {
			h.work()
		}
		if h.t.Failed() {
			return
		}
	}
	if h.open(false) {
		if err := h.store.Close(); err != nil {
			h.t.Errorf("close: %v", err)
		}
		h.store = nil
		h.verify(true)
	}
}

// fatal is what the store calls when nothing can be made durable any more.
func (h *history) fatal(err error) {
	h.note("fatal: %v", err)
	if h.fatals.Add(1) > 1 {
		h.t.Errorf("fatal again: %v", err)
		return
	}
	dead := h.ended() // before it could say so
	if !dead && !(h.ailing && errors.Is(err, syscall.EIO)) {
		h.t.Errorf("fatal without a cause: %v", err)
	}
	close(h.failed)
}

// ended tells whether the process can do nothing any more.
func (h *history) ended() bool {
	select {
	case <-h.died:
		return true
	case <-h.failed:
		return true
	default:
		return false
	}
}

// open starts a process and compares what it finds with the model; false if a crash ended that.
func (h *history) open(mayFail bool) bool {
	h.faulty = vfs.NewFault(h.disk, clock.System{})
	h.ailing, h.full, h.failed = false, false, make(chan struct{})
	h.died = h.disk.Died()
	h.fatals.Store(0)
	if mayFail {
		switch h.rng.IntN(8) {
		case 0:
			h.disk.KillAfter(1+h.rng.Int64N(60), rand.New(rand.NewPCG(h.rng.Uint64(), 0)))
		case 1:
			h.ailing = true
			ops := []vfs.Operation{vfs.OpSync | vfs.OpSyncDir, vfs.OpRead, vfs.OpAny}[h.rng.IntN(3)]
			h.faulty.Add(vfs.Rule{Op: ops, After: h.rng.IntN(40), Times: 1, Err: syscall.EIO})
		}
	}
	if h.slow {
		h.faulty.Add(vfs.Rule{Op: vfs.OpSync, Delay: time.Millisecond})
	}
	config := h.config
	s, err := store.Open(context.Background(), store.Options{
		FS: h.faulty, Dir: "/var/lib/chronik", NodeID: 1, Config: &config, Fatal: h.fatal,
	})
	if err == nil {
		h.store = s
		h.note("opened: %+v", s.Recovery())
		for _, m := range h.parts {
			if !m.compare(s) {
				err = errors.New("reading back")
				break
			}
		}
	}
	if h.t.Failed() {
		return false
	}
	if err == nil {
		h.faulty.Clear()
		if h.slow {
			h.faulty.Add(vfs.Rule{Op: vfs.OpSync, Delay: time.Millisecond})
		}
		h.ailing = false
		return true
	}
	select {
	case <-h.disk.Died():
	default:
		if !h.ailing || h.store == nil && !errors.Is(err, syscall.EIO) {
			h.t.Fatalf("open: %v", err)
		}
	}
	h.note("failed to open: %v", err)
	h.crash()
	h.closeDead()
	return false
}

// work lets every partition, and the node's housekeeping, do something until they are done or the process ends.
func (h *history) work() {
	switch h.rng.IntN(8) {
	case 0, 1, 2, 3:
		h.disk.KillAfter(1+h.rng.Int64N(400), rand.New(rand.NewPCG(h.rng.Uint64(), 0)))
	case 4:
		h.note("a sync fails")
		h.ailing = true
		path := []string{"", "/wal/", "/partitions/", "checkpoint"}[h.rng.IntN(4)]
		h.faulty.Clear()
		h.faulty.Add(vfs.Rule{Path: path, Op: vfs.OpSync | vfs.OpSyncDir, After: h.rng.IntN(60), Times: 1, Err: syscall.EIO})
	case 5:
		h.note("no space for a while")
		h.full = true
		h.disk.SetCapacity(h.disk.Used() + h.rng.Int64N(4*h.config.WALFileBytes))
		defer time.AfterFunc(2*time.Second, func() { h.disk.SetCapacity(0) }).Stop()
		defer func() { h.disk.SetCapacity(0) }()
	}
	var actors sync.WaitGroup
	stop := make(chan struct{})
	for _, m := range h.parts {
		steps := 5 + h.rng.IntN(60)
		m.rng = rand.New(rand.NewPCG(h.rng.Uint64(), 1))
		actors.Go(func() { m.act(h.store, steps) })
	}
	var keeper sync.WaitGroup
	rng := rand.New(rand.NewPCG(h.rng.Uint64(), 2))
	keeper.Go(func() { h.keep(rng, stop) })
	actors.Wait()
	close(stop)
	keeper.Wait()
	if h.full {
		h.disk.SetCapacity(0)
		time.Sleep(3 * time.Second)
		h.heal()
	}
	if !h.ended() && h.rng.IntN(3) == 0 {
		h.shutdown()
		return
	}
	h.crash()
	h.closeDead()
}

// keep is the housekeeping besides the store's own.
func (h *history) keep(rng *rand.Rand, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-h.failed:
			return
		case <-time.After(time.Duration(1+rng.IntN(20)) * time.Millisecond):
		}
		if rng.IntN(2) == 0 {
			h.store.ApplyRetention()
		} else if err := h.store.Checkpoint(); err != nil && !h.ended() && !errors.Is(err, syscall.ENOSPC) {
			h.t.Errorf("checkpoint: %v", err)
		}
	}
}

// heal demands that appends work once there is space again.
func (h *history) heal() {
	for _, m := range h.parts {
		if h.ended() {
			return
		}
		m.step(h.store, m.append)
		if m.refused && !h.ended() {
			h.t.Errorf("partition %d takes nothing although there is space again", m.n)
		}
	}
}

// shutdown ends the process in order: nothing is lost then, acknowledged or not.
func (h *history) shutdown() {
	err := h.store.Close()
	h.store = nil
	if err != nil {
		if !h.ended() && !h.ailing {
			h.t.Errorf("close: %v", err)
		}
		h.crash()
		return
	}
	h.note("closed")
	h.verify(true)
	for _, m := range h.parts {
		m.closed()
	}
	if h.rng.IntN(2) == 0 {
		h.crash()
	} else {
		h.disk = h.disk.Kill() // the next process
	}
}

// crash kills the process, if it is not dead yet, and perhaps cuts the power.
func (h *history) crash() {
	for _, m := range h.parts {
		m.freeze()
	}
	switch h.rng.IntN(4) {
	case 0:
		h.note("kill")
		h.disk = h.disk.Kill()
	case 1:
		h.note("kill, then power loss")
		h.disk = h.disk.Kill().PowerLoss(h.rng)
	default:
		h.note("power loss")
		h.disk = h.disk.PowerLoss(h.rng)
	}
	if !h.ailing {
		h.verify(false)
	}
}

func (h *history) closeDead() {
	if h.store != nil {
		_ = h.store.Close() // of a dead process only its goroutines have to end
		h.store = nil
	}
}

// verify runs `log verify` on what is left: a crash is no damage.
func (h *history) verify(clean bool) {
	left := h.disk.Clone()
	if _, err := left.Stat("/var/lib/chronik/checkpoint"); err != nil {
		return
	}
	_, err := store.Verify(context.Background(), left, "/var/lib/chronik", func(p store.Problem) {
		// A crash may leave what was cut in a partition's files, where the next start cuts it again.
		if clean || !strings.Contains(p.File, "/partitions/") {
			h.t.Errorf("verify: %v", p)
		}
	})
	if err != nil {
		h.t.Errorf("verify: %v", err)
	}
}
