package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/store"
	"chronik/internal/vfs"
)

// flipped is a data directory with something of everything, and what must be found in it.
type flipped struct {
	disk   *vfs.Mem
	config config.Config
	want   map[kafka.TopicPartition]*flippedPartition
	last   kafka.TopicPartition // got the last append, alone in its group
}

type flippedPartition struct {
	content []byte
	end     kafka.Offset
	epoch   log.EpochOffset
	aborted int
	again   []byte // the last batch of an idempotent producer
}

const flipDir = "/data"

func fillForFlips(t *testing.T, clean bool) *flipped {
	f := &flipped{disk: vfs.NewMem(0), config: *config.Default(), want: map[kafka.TopicPartition]*flippedPartition{}}
	f.config.WALFileBytes, f.config.WALMaxBytes = 64<<10, 16<<20
	f.config.WALReferenceMinBytes, f.config.FreeSpaceReserveBytes = 4<<10, 0
	f.config.Topic.SegmentBytes, f.config.Topic.IndexIntervalBytes = 32<<10, 1024
	s := f.open(t, f.disk, nil)
	ctx := context.Background()
	for n := range 3 {
		id := kafka.TopicPartition{Topic: kafka.TopicID{9, byte(n)}, Partition: int32(n)}
		p, err := s.CreatePartition(id, f.config.Topic)
		if err != nil {
			t.Fatal(err)
		}
		w := &flippedPartition{}
		f.want[id], f.last = w, id
		sequence := int32(0)
		for i := range 60 {
			if i%20 == 0 {
				if err := p.StartEpoch(ctx, kafka.LeaderEpoch(i/20)); err != nil {
					t.Fatal(err)
				}
			}
			if i == 40 && !clean {
				if err := s.Checkpoint(); err != nil {
					t.Fatal(err)
				}
			}
			b := record.NewBuilder()
			b.ProducerID, b.ProducerEpoch, b.BaseSequence = 7, 0, sequence
			b.Add(int64(i), []byte("key"), bytes.Repeat([]byte{byte(i)}, 100+i%7*900))
			sequence++
			again := b.Build()
			f.append(t, p, w, bytes.Clone(again), kafka.LeaderEpoch(i/20), record.FromClient)
			w.again = again
			if i%10 == 9 { // a transaction that is aborted
				tx := record.NewBuilder()
				tx.ProducerID, tx.ProducerEpoch, tx.BaseSequence, tx.Transactional = 8, 0, int32(i/10), true
				tx.Add(int64(i), nil, []byte("undone"))
				f.append(t, p, w, tx.Build(), kafka.LeaderEpoch(i/20), record.FromClient)
				marker := record.AppendEndTransaction(nil, 8, 0, record.EndTransaction{Type: record.ControlAbort}, int64(i))
				f.append(t, p, w, marker, kafka.LeaderEpoch(i/20), record.FromCoordinator)
				w.aborted++
			}
		}
		w.end, w.epoch = p.LogEnd(), p.Epoch()
		for p.DurableEnd() < w.end {
			time.Sleep(time.Millisecond)
		}
	}
	if clean {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return f
	}
	f.disk = f.disk.PowerLoss(nil)
	_ = s.Close() // of a dead process
	return f
}

func (f *flipped) append(t *testing.T, p *store.Partition, w *flippedPartition, b []byte, epoch kafka.LeaderEpoch, origin record.Origin) {
	r, err := p.Append(b, epoch, origin)
	if err != nil {
		t.Fatal(err)
	}
	for p.DurableEnd() < r.EndOffset() {
		time.Sleep(100 * time.Microsecond)
	}
	w.content = append(w.content, b...)
}

func (f *flipped) open(t *testing.T, disk *vfs.Mem, logger *slog.Logger) *store.Store {
	s, err := f.tryOpen(disk, logger)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (f *flipped) tryOpen(disk *vfs.Mem, logger *slog.Logger) (*store.Store, error) {
	return store.Open(context.Background(), store.Options{FS: disk, Dir: flipDir, NodeID: 1, Config: &f.config, Logger: logger})
}

// TestBitFlipsAtRest flips one bit of a data directory, after a clean shutdown and after a power loss, in every kind of
// file. The node must name the file and where in it, or make good for it; it must never pass over the loss of what was
// durable, nor answer wrongly. Two things cannot be told at the start: a segment's bytes below the checkpoint, which `log
// verify` and the scrub find, and the last group of the WAL, which then looks like a torn tail.
func TestBitFlipsAtRest(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			f := fillForFlips(t, clean)
			if diff := f.compare(f.disk.Clone(), slog.New(slog.DiscardHandler)); diff != "" {
				t.Fatalf("without a flip: %s", diff)
			}
			outcomes := map[string]int{}
			seen := map[string]int{}
			for _, name := range filesBelow(t, f.disk, flipDir) {
				size := fileSize(t, f.disk, name)
				for _, seed := range historySeeds(t, 10) {
					rng := rand.New(rand.NewPCG(seed, uint64(len(name))))
					if size == 0 {
						continue
					}
					at, mask := rng.Int64N(size), byte(1)<<rng.IntN(8)
					if seed%3 == 0 {
						at = rng.Int64N(min(size, 64)) // the header
					}
					outcome := f.flip(t, name, at, mask)
					outcomes[kindOf(name)+": "+outcome]++
					seen[kindOf(name)]++
				}
			}
			t.Log(outcomes)
			for _, kind := range []string{"node", "checkpoint", ".wal", ".log", ".index", ".txnindex", ".snapshot", "leader-epochs"} {
				if seen[kind] == 0 {
					t.Errorf("no file of kind %s", kind)
				}
			}
		})
	}
}

// flip flips one bit and says what came of it.
func (f *flipped) flip(t *testing.T, name string, at int64, mask byte) string {
	disk := f.disk.Clone()
	if err := disk.Corrupt(name, at, mask); err != nil {
		t.Fatal(err)
	}
	found := ""
	_, err := store.Verify(context.Background(), disk.Clone(), flipDir, func(p store.Problem) { found += p.String() + "\n" })
	if err != nil {
		found += err.Error()
	}
	var logged bytes.Buffer
	diff := f.compare(disk, slog.New(slog.NewTextHandler(&logged, nil)))
	named := func(s string) bool { return strings.Contains(s, path.Base(name)) }
	switch {
	case diff == "" && named(found+logged.String()):
		return "made good, and named"
	case diff == "":
		return "harmless"
	case named(diff):
		return "refused, and named"
	case path.Ext(name) == ".log" && strings.HasPrefix(diff, "content") && named(found):
		return "found by verify"
	case path.Ext(name) == ".wal" && diff == "last batch lost" && !f.clean():
		return "taken for a torn tail"
	}
	t.Errorf("%s, byte %d, mask %02x: %s\nverify: %s\nlog: %s", name, at, mask, diff, found, logged.String())
	return "missed"
}

func (f *flipped) clean() bool {
	s, err := f.tryOpen(f.disk.Clone(), nil)
	if err != nil {
		return false
	}
	defer s.Close()
	return !s.Unclean()
}

// compare opens the directory and compares everything with what must be there; "" if all is well, else the first
// difference or error.
func (f *flipped) compare(disk *vfs.Mem, logger *slog.Logger) string {
	s, err := f.tryOpen(disk, logger)
	if err != nil {
		return "open: " + err.Error()
	}
	defer s.Close()
	lost := ""
	for id, w := range f.want {
		p := s.Partition(id)
		if p == nil {
			return "partition " + id.String() + " is missing"
		}
		content, end := w.content, w.end
		if id == f.last && p.LogEnd() == end-1 {
			lost, end = "last batch lost", end-1
			content = content[:len(content)-lastSize(content)]
		}
		if p.LogEnd() != end || p.LogStart() != 0 {
			return fmt.Sprintf("partition %s holds %d..%d instead of 0..%d", id, p.LogStart(), p.LogEnd(), end)
		}
		var got []byte
		for from := kafka.Offset(0); from < end; {
			b, err := p.ReadCopy(nil, from, 1<<20, end, true)
			if err != nil {
				return "read: " + err.Error()
			}
			if len(b) == 0 {
				return fmt.Sprintf("content: nothing at %d of %s", from, id)
			}
			got = append(got, b...)
			for rest := b; len(rest) > 0; {
				batch, more, err := record.Next(rest)
				if err != nil || batch.NextOffset() <= from {
					return fmt.Sprintf("content: %s at %d is no batch: %v", id, from, err)
				}
				from, rest = batch.NextOffset(), more
			}
		}
		if !bytes.Equal(got, content) {
			return fmt.Sprintf("content of %s differs", id)
		}
		if e := p.Epoch(); e != w.epoch {
			return fmt.Sprintf("last epoch of %s is %v instead of %v", id, e, w.epoch)
		}
		for e := range kafka.LeaderEpoch(2) {
			if got := p.EndOffsetForEpoch(e); got.Epoch != e || got.Offset >= w.epoch.Offset+1 {
				return fmt.Sprintf("epoch %d of %s ends at %v", e, id, got)
			}
		}
		if lost != "" {
			continue
		}
		list, err := p.AbortedTransactions(0, end)
		if err != nil {
			return "aborted transactions: " + err.Error()
		}
		if len(list) != w.aborted {
			return fmt.Sprintf("%s has %d aborted transactions instead of %d", id, len(list), w.aborted)
		}
		r, err := p.Append(bytes.Clone(w.again), w.epoch.Epoch, record.FromClient)
		if err != nil {
			return "sent again: " + err.Error()
		}
		if !r.Duplicate {
			return fmt.Sprintf("%s took a batch twice", id)
		}
	}
	return lost
}

func lastSize(batches []byte) int {
	size := 0
	for len(batches) > 0 {
		b, rest, _ := record.Next(batches)
		size, batches = len(b), rest
	}
	return size
}

func kindOf(name string) string {
	if ext := path.Ext(name); ext != "" {
		return ext
	}
	return path.Base(name)
}

func filesBelow(t *testing.T, disk *vfs.Mem, dir string) []string {
	names, err := disk.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := disk.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Dir {
			files = append(files, filesBelow(t, disk, name)...)
		} else {
			files = append(files, name)
		}
	}
	return files
}

func fileSize(t *testing.T, disk *vfs.Mem, name string) int64 {
	info, err := disk.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size
}
