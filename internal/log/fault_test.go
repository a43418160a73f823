package log

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"path"
	"strings"
	"syscall"
	"testing"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// TestFailedWrite: an append that fails half-way leaves nothing, and the next one takes its offset and its bytes.
func TestFailedWrite(t *testing.T) {
	mem := vfs.NewMem(0)
	fault := vfs.NewFault(mem, clock.System{})
	l := openFresh(t, options(fault, Config{}))
	var want []byte
	for i := range 10 {
		batch := plain(3, 100, int64(i))
		remove := fault.Add(vfs.Rule{Path: dataSuffix, Op: vfs.OpWrite, Times: 1, Err: syscall.ENOSPC, Short: i * 20})
		if i > 0 { // the first append makes the file
			if _, err := l.Append(bytes.Clone(batch), 0, record.FromClient); !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		remove()
		if l.LogEnd() != kafka.Offset(3*i) {
			t.Fatalf("the log ends at %d", l.LogEnd())
		}
		mustAppend(t, l, batch, 0)
		want = append(want, batch...)
	}
	if got := readAll(t, l, 0, 1<<20); !bytes.Equal(got, want) {
		t.Error("content differs")
	}
	verifyClean(t, l)
	// Where it can be neither completed nor undone, nothing more is taken.
	fault.Add(vfs.Rule{Path: dataSuffix, Op: vfs.OpWrite, Err: syscall.EIO, Short: 10})
	fault.Add(vfs.Rule{Path: dataSuffix, Op: vfs.OpTruncate, Err: syscall.EIO})
	if _, err := l.Append(plain(1, 1, 1), 0, record.FromClient); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	fault.Clear()
	if _, err := l.Append(plain(1, 1, 1), 0, record.FromClient); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	if got := readAll(t, l, 0, 1<<20); !bytes.Equal(got, want) {
		t.Error("it does not serve what it has")
	}
}

// TestFailedSync: an error of a sync comes out, and the state is not called synced.
func TestFailedSync(t *testing.T) {
	for _, suffix := range []string{dataSuffix, indexSuffix, epochsName} {
		fault := vfs.NewFault(vfs.NewMem(0), clock.System{})
		l := openFresh(t, options(fault, Config{}))
		p := mustAppend(t, l, plain(3, 100, 1), 1)
		fault.Add(vfs.Rule{Path: suffix, Op: vfs.OpSync, Err: syscall.EIO})
		if _, err := l.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", suffix, err)
		}
		if c := l.Synced(); c.EndOffset != 0 {
			t.Errorf("%s: synced to %d", suffix, c.EndOffset)
		}
		if err := p.Segment.Sync(); (err != nil) != (suffix == dataSuffix) {
			t.Errorf("%s: %v", suffix, err)
		}
	}
}

// filled is a log with every kind of file, synced; it returns the checkpoint.
func filled(t *testing.T, fs vfs.FS) (Options, Checkpoint, []byte) {
	t.Helper()
	o := options(fs, Config{SegmentBytes: 4000, IndexIntervalBytes: 300})
	l := openFresh(t, o)
	var all []byte
	add := func(batch []byte, origin record.Origin) {
		p, err := l.Append(batch, kafka.LeaderEpoch(len(all)/4000), origin)
		if err != nil || p.Duplicate {
			t.Fatal(p, err)
		}
		all = append(all, batch...)
	}
	for i := range 60 {
		b := record.NewBuilder()
		b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = 7, 0, int32(i), true
		b.Add(int64(i)*10, nil, bytes.Repeat([]byte{byte(i)}, 100))
		add(b.Build(), record.FromClient)
		if i%7 == 6 {
			add(record.AppendEndTransaction(nil, 7, 0, record.EndTransaction{Type: record.ControlAbort}, int64(i)*10), record.FromCoordinator)
		}
	}
	c, err := l.Sync()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Snapshot(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o.Checkpoint = &c
	return o, c, all
}

// TestBitFlips flips one bit in every file and demands that it is named by opening or verifying, and that what is served
// is right or an error; but for the segments, whose bytes only a check sees, what is served must be right.
func TestBitFlips(t *testing.T) {
	mem := vfs.NewMem(0)
	o, _, all := filled(t, mem)
	names, err := mem.ReadDir(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	kinds := map[string]int{}
	for _, name := range names {
		name = path.Join(o.Dir, name)
		info, err := mem.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			at := rng.Int64N(info.Size)
			fs := mem.Clone()
			if err := fs.Corrupt(name, at, 1<<rng.IntN(8)); err != nil {
				t.Fatal(err)
			}
			var warned strings.Builder
			o.FS, o.Logger = fs, testLogger(&warned)
			named := false
			note := func(err error) {
				var c *Corruption
				if errors.As(err, &c) && c.File == name {
					named = true
				}
			}
			l, err := Open(o)
			note(err)
			if err == nil {
				err = l.Verify(context.Background(), func(c *Corruption) { note(c) })
				note(err)
				if !strings.HasSuffix(name, dataSuffix) {
					if got := readAll(t, l, 0, 500); !bytes.Equal(got, all) {
						t.Errorf("%s, byte %d: wrong bytes are served", name, at)
					}
					if list, err := l.AbortedTransactions(0, l.LogEnd()); err != nil || len(list) != 8 {
						t.Errorf("%s, byte %d: %d aborted transactions, %v", name, at, len(list), err)
					}
				}
				_ = l.Close()
			}
			if !named && !strings.Contains(warned.String(), path.Base(name)) {
				t.Errorf("%s, byte %d of %d: not found", name, at, info.Size)
			}
			kinds[path.Ext(name)]++
		}
	}
	if len(kinds) != 5 {
		t.Errorf("kinds of files: %v", kinds)
	}
}

// TestMissingFiles: everything but segments is made again.
func TestMissingFiles(t *testing.T) {
	mem := vfs.NewMem(0)
	o, _, all := filled(t, mem)
	full := openFresh(t, o)
	epochs := full.Epochs()
	for _, suffix := range []string{indexSuffix, abortedSuffix, snapshotSuffix, epochsName} {
		fs := mem.Clone()
		names, _ := fs.ReadDir(o.Dir)
		for _, name := range names {
			if strings.HasSuffix(name, suffix) && suffix != abortedSuffix {
				if err := fs.Remove(path.Join(o.Dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		o.FS = fs
		l := openFresh(t, o)
		if got := readAll(t, l, 0, 500); !bytes.Equal(got, all) {
			t.Errorf("without %s: content differs", suffix)
		}
		if list, err := l.AbortedTransactions(0, l.LogEnd()); err != nil || len(list) != 8 {
			t.Errorf("without %s: %d aborted transactions, %v", suffix, len(list), err)
		}
		if got := l.Epochs(); len(got) != len(epochs) || got[len(got)-1] != epochs[len(epochs)-1] {
			t.Errorf("without %s: epochs %v, want %v", suffix, got, epochs)
		}
		if l.Producers() != 1 {
			t.Errorf("without %s: %d producers", suffix, l.Producers())
		}
		if _, _, err := l.OffsetForTimestamp(300, l.LogEnd()); err != nil {
			t.Error(err)
		}
		verifyClean(t, l)
	}
	// A segment that is missing or cut is named.
	for _, cut := range []bool{false, true} {
		fs := mem.Clone()
		names, _ := fs.ReadDir(o.Dir)
		var last string
		for _, name := range names {
			if strings.HasSuffix(name, dataSuffix) {
				last = path.Join(o.Dir, name)
			}
		}
		if cut {
			f, err := fs.OpenReadWrite(last)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(10); err != nil {
				t.Fatal(err)
			}
		} else if err := fs.Remove(last); err != nil {
			t.Fatal(err)
		}
		o.FS = fs
		var c *Corruption
		if _, err := Open(o); !errors.As(err, &c) || c.File != last {
			t.Errorf("cut %v: %v", cut, err)
		}
	}
}

// TestDiscover: without a checkpoint the log ends at the last sound batch.
func TestDiscover(t *testing.T) {
	mem := vfs.NewMem(0)
	o, c, all := filled(t, mem)
	last := path.Join(o.Dir, fileName(c.Segment, dataSuffix))
	f, err := mem.OpenReadWrite(last)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(plain(5, 10, 1)[:80], c.Position); err != nil {
		t.Fatal(err)
	}
	o.Checkpoint = nil
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if l.LogEnd() != c.EndOffset {
		t.Errorf("ends at %d, want %d", l.LogEnd(), c.EndOffset)
	}
	found := 0
	if err := l.Verify(context.Background(), func(*Corruption) { found++ }); err != nil || found != 1 {
		t.Errorf("%d faults, %v", found, err)
	}
	if err := l.FinishRecovery(); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, l, 0, 500); !bytes.Equal(got, all) {
		t.Error("content differs")
	}
	mustAppend(t, l, plain(5, 10, 1), 99)
	verifyClean(t, l)
}
