package ext4_test

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"chronik/test/ext4"
)

var rounds = flag.Int("rounds", 3, "how often the power is cut, of each kind of file")

// synced is one fdatasync that ended without an error.
type synced struct {
	file       string
	offset     int64
	start, end time.Time
}

// What a sync brought to the disk that ended before the cut began is there after it: what the tests of power cuts stand on.
// A sync that the cut overtakes may end without an error all the same and without its bytes, where it had extents to
// allocate or to convert; the log counts these. docs/decisions/2026-11-22-power-cut-test.md.
func TestCut(t *testing.T) {
	disk := ext4.New(t)
	for _, kind := range []string{"growing", "fallocated", "zeroed"} {
		t.Run(kind, func(t *testing.T) {
			var before, during, lies int
			for round := range *rounds {
				cut, all := cutWhileSyncing(t, disk, kind, round)
				for _, s := range all {
					switch kept := holds(t, s); {
					case s.end.Before(cut) && !kept:
						t.Errorf("round %d: %s lacks what was synced to byte %d, %v before the cut", round, filepath.Base(s.file), s.offset+chunk, cut.Sub(s.end))
					case s.end.Before(cut):
						before++
					case kept:
						during++
					default:
						lies++
					}
				}
				for _, s := range all {
					_ = os.Remove(s.file)
				}
			}
			t.Logf("%d syncs ended before the cut began, and all are there; %d that ended later without an error are there, %d are not", before, during, lies)
			if before == 0 {
				t.Error("no sync ended before the cut")
			}
		})
	}
}

const (
	chunk = 512 << 10
	size  = 24 << 20
)

// cutWhileSyncing cuts the power while two files are written and synced.
func cutWhileSyncing(t *testing.T, disk *ext4.Disk, kind string, round int) (time.Time, []synced) {
	var mu sync.Mutex
	var all []synced
	var ready, writers sync.WaitGroup
	stop := make(chan struct{})
	for i := range 2 {
		name := filepath.Join(disk.Mount, fmt.Sprintf("%s-%d-%d", kind, round, i))
		f := prepare(t, name, kind)
		ready.Add(1)
		writers.Go(func() {
			defer func() { _ = f.Close() }()
			for offset := int64(0); offset < size; offset += chunk {
				if offset == 3*chunk {
					ready.Done()
				}
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f.WriteAt(pattern(name, offset), offset); err != nil {
					return // the power is gone
				}
				s := synced{file: name, offset: offset, start: time.Now()}
				if unix.Fdatasync(int(f.Fd())) != nil {
					return
				}
				s.end = time.Now()
				mu.Lock()
				all = append(all, s)
				mu.Unlock()
			}
		})
	}
	ready.Wait()
	time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
	cut := time.Now()
	disk.Cut()
	time.Sleep(20 * time.Millisecond) // for those that lie
	close(stop)
	writers.Wait()
	disk.Remount()
	return cut, all
}

// prepare makes the file, and its name durable.
func prepare(t *testing.T, name, kind string) *os.File {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Create(name)
	must(err)
	switch kind {
	case "fallocated":
		must(unix.Fallocate(int(f.Fd()), 0, 0, size))
	case "zeroed":
		_, err := f.WriteAt(make([]byte, size), 0)
		must(err)
	}
	must(f.Sync())
	dir, err := os.Open(filepath.Dir(name))
	must(err)
	must(dir.Sync())
	must(dir.Close())
	return f
}

// pattern is what belongs at an offset: never zeros.
func pattern(name string, offset int64) []byte {
	b := make([]byte, 0, chunk)
	for len(b) < chunk {
		b = binary.LittleEndian.AppendUint64(b, uint64(offset)+uint64(len(b))|1<<63|uint64(name[len(name)-1])<<48)
	}
	return b
}

func holds(t *testing.T, s synced) bool {
	t.Helper()
	f, err := os.Open(s.file)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	got := make([]byte, chunk)
	n, _ := f.ReadAt(got, s.offset) // a short file is a finding, not an error
	return n == chunk && bytes.Equal(got, pattern(s.file, s.offset))
}
