package wal_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/clock"
	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// TestHistory runs seeded random histories of a log over the crashable file system, against a model: several writers,
// records in the log and by reference, release and recycling, clean closes, kills and power losses in the middle of any
// call, recoveries that are cut short themselves. It demands after each reopening that
//
//   - every record that was reported durable is there, with its content, in its place;
//   - nothing else is: no record of an earlier use of a file, of a timeline that a crash ended, or made up;
//   - no broken reference lies below the LSN up to which the log says that references are synced.
//
// CHRONIK_SEEDS=n runs n seeds, CHRONIK_SEED=s only that one. It was seen to fail when the code was broken in these ways:
// the group's sync left out; the directory's, or its parent's; references not synced, or their groups completed although
// an earlier one failed; a stream's entries completed before its references; "synced until" covering the group's own
// references; files not synced, or not dropped from the page cache, before the log is read, or headers read before that;
// files released one group too early; removed files whose removal is not synced before their numbers are given again.
// A stale salt alone is not caught here: LSNs are given again only where no whole group held them.
func TestHistory(t *testing.T) {
	for _, seed := range historySeeds(t, 400) {
		synctest.Test(t, func(t *testing.T) {
			h := newHistory(t, seed)
			defer func() {
				if t.Failed() {
					t.Logf("seed %d:\n%s\nreplay: CHRONIK_SEED=%d go test -count=30 -run 'TestHistory$' ./internal/wal", seed, strings.Join(h.trace, "\n"), seed)
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

const historyDir = "data/wal"

// history is one run: the machine, the log, and what the log has promised.
type history struct {
	t       *testing.T
	rng     *rand.Rand
	disk    *vfs.Mem
	log     *wal.Log
	faulty  *vfs.Fault // over disk
	slow    bool       // syncs take time, so that groups gather
	closing bool
	ailing  bool // a sync of this process fails
	fatals  int  // of this process
	trace   []string

	fileSize  int64
	filesMax  int
	reference int64

	mu struct {
		sync.Mutex
		entries map[string]*historyEntry // by head, all that may be in the log
	}
	serial  int
	durable wal.LSN // the log's end as it was found, or a WaitDurable since
	from    wal.LSN // the owner's checkpoint: what is below was released
	clean   wal.LSN // where the checkpoint says that a clean close ended the log; 0 if it does not
}

// historyEntry is a record that was submitted, in the present timeline.
type historyEntry struct {
	stream   string
	body     string
	lsn      wal.LSN // 0 until Submit returned
	promised bool    // reported durable
	found    bool    // by the last replay
}

func newHistory(t *testing.T, seed uint64) *history {
	rng := rand.New(rand.NewPCG(seed, 0xA1))
	h := &history{
		t: t, rng: rng, disk: vfs.NewMem(0), slow: rng.IntN(2) == 0, durable: 1,
		fileSize: int64(8+rng.IntN(40)) << 10, filesMax: 2 + rng.IntN(4), reference: int64(1+rng.IntN(4)) << 10,
	}
	h.mu.entries = map[string]*historyEntry{}
	return h
}

func (h *history) note(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

// die takes the errors that a history allows: those of a process that was killed, and of one whose sync failed.
func (h *history) die(err error) {
	switch {
	case errors.Is(err, vfs.ErrKilled), h.ailing && errors.Is(err, syscall.EIO):
	case h.closing && errors.Is(err, syscall.ENOSPC): // a close cannot wait for space for ever
	default:
		h.t.Errorf("an error without a crash: %v", err)
	}
}

// fatal is called once in a process; it must stop then.
func (h *history) fatal(err error) {
	h.die(err)
	if h.fatals++; h.fatals > 1 {
		h.t.Errorf("fatal again: %v", err)
	}
}

func (h *history) run() {
	defer func() {
		if h.t.Failed() && h.log != nil {
			h.disk.Kill()
			_ = h.log.Close() // its goroutines must end
		}
	}()
	h.die(errors.Join(h.disk.MkdirAll("data"), h.disk.SyncDir("/"), vfs.ErrKilled)) // the owner's directory
	for range 4 + h.rng.IntN(6) {
		if l := h.open(true); l != nil {
			h.work(l)
		}
		if h.t.Failed() {
			return
		}
	}
	if l := h.open(false); l != nil {
		h.note("last: %d records", len(h.mu.entries))
		h.die(errors.Join(l.Close(), vfs.ErrKilled))
	}
}

// open recovers the log and compares it with the model; nil if a crash ended that.
func (h *history) open(mayDie bool) *wal.Log {
	if mayDie && h.rng.IntN(4) == 0 {
		h.disk.KillAfter(1+h.rng.Int64N(30), rand.New(rand.NewPCG(h.rng.Uint64(), 0)))
	}
	h.faulty, h.ailing, h.closing, h.fatals = vfs.NewFault(h.disk, clock.System{}), false, false, 0
	if err := h.settle(); err != nil {
		h.die(err)
		h.crash()
		return nil
	}
	if h.slow {
		h.faulty.Add(vfs.Rule{Op: vfs.OpSync, Delay: time.Millisecond})
	}
	l, err := wal.Open(wal.Options{
		FS: h.faulty, Dir: historyDir, FileSize: h.fileSize, FilesMax: h.filesMax, ReferenceBytes: h.reference,
		GroupBytesMax: 4 << 10, From: h.from, Clean: h.clean, Fatal: h.fatal,
	})
	if err == nil {
		h.log = l
		if err = h.compare(l); err != nil {
			_ = l.Close() // the first error says more
		}
	}
	if errors.Is(err, vfs.ErrKilled) {
		h.note("died while opening")
		h.crash()
		return nil
	}
	if err != nil {
		h.t.Fatalf("open: %v", err)
	}
	return l
}

// settle brings the files with bodies to the disk, as an owner must before it believes what a dead process wrote.
func (h *history) settle() error {
	names, err := h.disk.ReadDir("data")
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "segment") {
			continue
		}
		f, err := h.disk.OpenReadWrite(path.Join("data", name))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.DropCache(0, 0), f.Close()); err != nil {
			return err
		}
	}
	return h.disk.SyncDir("data")
}

func (h *history) compare(l *wal.Log) error {
	end := l.Next()
	h.note("opened from %d: ends at %d, clean %v", max(h.from, h.clean), end, l.Clean())
	next := max(h.from, h.clean, 1)
	broken := map[string]wal.LSN{} // the first record of a stream whose body is not there
	for _, e := range h.mu.entries {
		e.found = false
	}
	err := l.Replay(h.from, func(r wal.Record) error {
		if r.LSN != next {
			h.t.Fatalf("replay yields %d instead of %d", r.LSN, next)
		}
		next++
		e, whole, err := h.match(r)
		if err != nil || whole {
			return err
		}
		if r.LSN < r.ReferencesUntil || r.LSN < h.durable {
			h.t.Fatalf("the body of record %d is broken, and was said to be synced (until %d), or all below %d to be durable", r.LSN, r.ReferencesUntil, h.durable)
		}
		if broken[e.stream] == 0 {
			broken[e.stream] = r.LSN
		}
		return nil
	})
	if err != nil {
		return err
	}
	if next != end {
		h.t.Fatalf("replay ends at %d, the log at %d", next, end)
	}
	if end < h.durable {
		h.t.Fatalf("the log ends at %d, but all below %d was durable", end, h.durable)
	}
	for head, e := range h.mu.entries {
		behind := broken[e.stream] != 0 && e.lsn >= broken[e.stream]
		switch gone := e.lsn < max(h.from, h.clean); {
		case !gone && e.promised && (!e.found || behind):
			h.t.Fatalf("record %d (%s) was durable and is lost; a body is broken at %v", e.lsn, head, broken)
		case gone, !e.found, behind:
			delete(h.mu.entries, head) // never to be seen again
		}
	}
	if len(broken) > 0 { // the owner makes a checkpoint, and disowns what is behind
		h.from, h.clean = end, 0
	}
	h.durable = end
	return nil
}

// match compares a record with what was submitted under its head. whole is false if its body, in another file, is not
// what the head says.
func (h *history) match(r wal.Record) (e *historyEntry, whole bool, err error) {
	head, body, _ := strings.Cut(string(r.Data), "|")
	e = h.mu.entries[head]
	if e == nil || e.lsn != r.LSN {
		h.t.Fatalf("record %d is %.60q, which was not submitted there", r.LSN, r.Data)
	}
	e.found = true
	if !r.ByReference {
		if body != e.body {
			h.t.Fatalf("record %d (%s) has another body: %d bytes instead of %d", r.LSN, head, len(body), len(e.body))
		}
		return e, true, nil
	}
	var serial int
	var name string
	var at, length int64
	var sum uint32
	if _, err := fmt.Sscanf(head, "%d %s %d %d %d", &serial, &name, &at, &length, &sum); err != nil {
		h.t.Fatalf("record %d: %q: %v", r.LSN, head, err)
	}
	f, err := h.disk.Open(path.Join("data", name))
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	defer f.Close()
	b := make([]byte, length)
	if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
		return e, false, err
	}
	return e, crc32.ChecksumIEEE(b) == sum, nil
}

// work lets several writers append until they are done or the process dies, and ends the process.
func (h *history) work(l *wal.Log) {
	if h.rng.IntN(3) > 0 {
		h.disk.KillAfter(1+h.rng.Int64N(150), rand.New(rand.NewPCG(h.rng.Uint64(), 0)))
	}
	switch h.rng.IntN(6) {
	case 0:
		h.note("a sync fails")
		h.ailing = true
		h.faulty.Add(vfs.Rule{Op: vfs.OpSync | vfs.OpSyncDir, After: h.rng.IntN(40), Times: 1, Err: syscall.EIO})
	case 1:
		h.note("no space for a while")
		h.disk.SetCapacity(h.disk.Used() + h.rng.Int64N(2*h.fileSize))
		defer time.AfterFunc(time.Second, func() { h.disk.SetCapacity(0) }).Stop()
		defer func() { h.disk.SetCapacity(0) }()
	}
	var writers, owner sync.WaitGroup
	for range 1 + h.rng.IntN(3) {
		writers.Go(h.newWriter(l).run)
	}
	stop := make(chan struct{})
	rng := rand.New(rand.NewPCG(h.rng.Uint64(), 1))
	died := h.disk.Died()
	owner.Go(func() { h.release(l, died, rng, stop) })
	writers.Wait()
	closed := h.rng.IntN(3) == 0
	if !closed {
		h.crash()
	}
	h.closing = true
	err := l.Close() // may wait for Release; of a dead process only its goroutines have to end
	close(stop)
	owner.Wait()
	if closed && err == nil {
		end := l.Next()
		h.note("closed at %d", end)
		h.from, h.clean, h.durable = end, end, end
		if h.rng.IntN(2) == 0 {
			h.disk = h.disk.Kill() // the next process
			return
		}
	}
	if err != nil {
		h.die(err)
	}
	if closed {
		h.crash()
	}
}

// release is what the owner does from time to time: a checkpoint, durable, and then Release.
func (h *history) release(l *wal.Log, died <-chan struct{}, rng *rand.Rand, stop chan struct{}) {
	l.Release(max(h.from, h.clean))
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rng.IntN(4)) * time.Millisecond):
		}
		from := l.Durable()
		select {
		case <-died:
			l.Release(from) // lets a writer that waits for room see that it is dead
			continue
		default:
		}
		if rng.IntN(2) == 0 {
			from -= min(from-1, wal.LSN(rng.IntN(20)))
		}
		if from > max(h.from, h.clean) {
			h.from, h.clean = from, 0
			l.Release(from)
		}
	}
}

// crash kills the process, if it is not dead yet, and perhaps cuts the power.
func (h *history) crash() {
	switch h.rng.IntN(4) {
	case 0:
		h.note("kill; durable to %d", h.durable)
		h.disk = h.disk.Kill()
	case 1:
		h.note("kill, then power loss; durable to %d", h.durable)
		h.disk = h.disk.Kill().PowerLoss(h.rng)
	default:
		h.note("power loss; durable to %d", h.durable)
		h.disk = h.disk.PowerLoss(h.rng)
	}
}
