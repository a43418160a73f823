package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// scrubbed is a store whose log lines are kept and that scrubs as fast as it can when it is told to.
func scrubbed(t *testing.T, fs vfs.FS, lines *bytes.Buffer) *Store {
	return openStore(t, fs, func(o *Options) {
		o.NoBackground = true
		o.Config.ScrubBytesPerSecond, o.Config.ScrubInterval = 1<<50, time.Nanosecond
		o.Logger = slog.New(slog.NewTextHandler(lines, nil))
	})
}

// scrubFile is the path of the first or last segment file.
func scrubFile(t *testing.T, fs vfs.FS, p *Partition, last bool) string {
	t.Helper()
	names, err := fs.ReadDir(p.s.partitionDir(p.id))
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range names {
		if path.Ext(name) == ".log" {
			found = append(found, path.Join(p.s.partitionDir(p.id), name))
		}
	}
	if last {
		return found[len(found)-1]
	}
	return found[0]
}

// readAround reads a partition to its end, going on behind what is refused, and returns the offsets refused.
func readAround(t *testing.T, p *Partition) (refused map[kafka.Offset]bool) {
	t.Helper()
	refused = map[kafka.Offset]bool{}
	for from := p.LogStart(); from < p.LogEnd(); {
		b, err := p.ReadCopy(nil, from, 3000, p.LogEnd(), true)
		if err != nil {
			if kafka.CodeOf(err) != kafka.ErrCorruptMessage.Code {
				t.Fatalf("offset %d is refused with %v", from, err)
			}
			refused[from] = true
			from++
			continue
		}
		if len(b) == 0 {
			t.Fatalf("nothing at offset %d", from)
		}
		for len(b) > 0 {
			batch, more, err := record.Next(b)
			if err != nil || !batch.VerifyCRC() || batch.BaseOffset() > from {
				t.Fatalf("what is served at offset %d is no sound batch that goes on there: %v", from, err)
			}
			from, b = batch.NextOffset(), more
		}
	}
	return refused
}

func TestScrubFindsNamesAndRefuses(t *testing.T) {
	for _, active := range []bool{false, true} {
		for _, at := range []int64{3, 20, 60, 300, 5000, 9000} { // base offset, CRC, header and records of some batches
			t.Run(fmt.Sprintf("active=%v,byte=%d", active, at), func(t *testing.T) {
				fs, lines := vfs.NewMem(0), &bytes.Buffer{}
				s := scrubbed(t, fs, lines)
				p, other := create(t, s, 1), create(t, s, 2)
				for i := range 150 {
					produce(t, p, 0, 1000, fmt.Sprint("a", i))
					produce(t, other, 0, 1000, fmt.Sprint("b", i))
				}
				waitDurable(t, p)
				if err := s.Checkpoint(); err != nil {
					t.Fatal(err)
				}
				s.scrubPass()
				if n := s.Stats().Damaged; n != 0 || s.Stats().Scrubbed < 300_000 {
					t.Fatalf("without damage: %d found, %d bytes read\n%s", n, s.Stats().Scrubbed, lines)
				}
				name := scrubFile(t, fs, p, active)
				if err := fs.Corrupt(name, at, 4); err != nil {
					t.Fatal(err)
				}
				s.scrubPass()
				s.scrubPass() // finds nothing new
				check := func(s *Store, p, other *Partition, lines string) {
					t.Helper()
					if n := s.Stats().Damaged; n != 1 {
						t.Fatalf("%d damaged ranges\n%s", n, lines)
					}
					l, _ := p.opened()
					d := l.Damaged()[0]
					if d.File != name || d.Position > at || d.Position+d.Length <= at {
						t.Fatalf("found %+v", d)
					}
					for _, s := range []string{"level=ERROR", "partition=" + p.name(), "file=" + name, "firstOffset=", "Stop the node and restore"} {
						if !strings.Contains(lines, s) {
							t.Fatalf("no %q in\n%s", s, lines)
						}
					}
					refused := readAround(t, p)
					for o := p.LogStart(); o < p.LogEnd(); o++ {
						if refused[o] != (d.First <= o && o < d.End) {
							t.Fatalf("offset %d: refused %v; the damage is %+v", o, refused[o], d)
						}
					}
					if len(refused) == 0 || len(refused) > 10 || len(readAround(t, other)) > 0 {
						t.Fatalf("%d offsets refused", len(refused))
					}
					if _, err := p.Read(d.First, 1<<20, p.LogEnd(), true); !errors.Is(err, kafka.ErrCorruptMessage) {
						t.Fatalf("read for sendfile: %v", err)
					}
				}
				check(s, p, other, lines.String())
				produce(t, p, 0, 1000, "more")
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				var again bytes.Buffer
				s = scrubbed(t, fs, &again)
				defer s.Close()
				s.scrubPass()
				p = s.Partition(id(1))
				check(s, p, s.Partition(id(2)), again.String())
				l, _ := p.opened()
				p.SetHighWatermark(p.LogEnd())
				if err := p.SetLogStart(background, l.Damaged()[0].End); err != nil { // what the message recommends
					t.Fatal(err)
				}
				if n := len(readAround(t, p)); n > 0 || p.LogStart() == p.LogEnd() {
					t.Fatalf("%d offsets refused behind the damage", n)
				}
			})
		}
	}
}

// TestScrubRaisesNoFalseAlarm scrubs beside everything else that changes a log.
func TestScrubRaisesNoFalseAlarm(t *testing.T) {
	fs := vfs.NewMem(0)
	var mu sync.Mutex
	var lines bytes.Buffer
	s := openStore(t, fs, func(o *Options) {
		o.Config.Topic.SegmentBytes, o.Config.Topic.IndexIntervalBytes = 16<<10, 1024
		o.Config.ScrubBytesPerSecond, o.Config.ScrubInterval = 0, time.Nanosecond // here the test's goroutine is the only one
		o.Logger = slog.New(slog.NewTextHandler(lockedWriter{&mu, &lines}, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	s.o.Config.ScrubBytesPerSecond = 1 << 50
	parts := []*Partition{create(t, s, 1), create(t, s, 2)}
	stop := make(chan struct{})
	var wait, writers sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.scrubPass()
			}
		}
	})
	rounds := 300
	if testing.Short() {
		rounds = 100
	}
	for n, p := range parts {
		writers.Go(func() {
			for i := range rounds {
				for j := range 5 {
					if _, err := p.Append(batch(200+(i*37+j*911)%3000, "v"), 0, record.FromClient); err != nil {
						t.Error(err)
						return
					}
				}
				end := p.LogEnd()
				p.SetHighWatermark(max(end-10, p.LogStart()))
				switch (i + n) % 4 {
				case 0:
					if err := p.Truncate(background, max(end-7, p.LogStart())); err != nil {
						t.Error(err)
					}
				case 1:
					if err := p.SetLogStart(background, max(end-60, p.LogStart())); err != nil {
						t.Error(err)
					}
				case 2:
					if i%20 == 2 {
						if err := p.Reset(background, end+5); err != nil {
							t.Error(err)
						}
					}
				case 3:
					l, err := p.opened()
					if err == nil {
						err = p.roll(l)
					}
					if err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	for range 20 {
		third := create(t, s, 3)
		produce(t, third, 0, 10_000, "gone")
		if err := s.DeletePartition(background, third.id); err != nil {
			t.Error(err)
		}
	}
	writers.Wait()
	close(stop)
	wait.Wait()
	if st := s.Stats(); st.Damaged != 0 || st.ScrubPasses < 3 {
		t.Errorf("%d damaged ranges in %d passes\n%s", st.Damaged, st.ScrubPasses, lines.String())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func TestScrubKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, vfs.NewMem(0), func(o *Options) {
			o.Config.ScrubBytesPerSecond, o.Config.ScrubInterval = 100_000, 2*time.Hour
			o.Config.Topic.SegmentBytes = 1 << 20
		})
		p := create(t, s, 1)
		for range 40 {
			produce(t, p, 0, 100_000, "v")
		}
		waitDurable(t, p)
		time.Sleep(scrubDelay - time.Second)
		if n := s.Stats().Scrubbed; n != 0 {
			t.Errorf("%d bytes were read before the first pass was due", n)
		}
		begun := time.Now()
		for s.Stats().ScrubPasses == 0 {
			time.Sleep(time.Second)
			if n, most := float64(s.Stats().Scrubbed), 100_000*time.Since(begun).Seconds()+scrubChunkOfLog; n > most {
				t.Fatalf("%v bytes after %v", n, time.Since(begun))
			}
			if time.Since(begun) > time.Hour {
				t.Fatal("the pass does not end")
			}
		}
		if n := s.Stats().Scrubbed; n < 4_000_000 {
			t.Errorf("%d bytes read", n)
		}
		time.Sleep(time.Hour)
		if n := s.Stats().ScrubPasses; n != 1 {
			t.Errorf("%d passes before the interval ended", n)
		}
		time.Sleep(2 * time.Hour)
		if n := s.Stats().ScrubPasses; n < 2 {
			t.Error("no second pass")
		}
		if err := s.Close(); err != nil { // in the middle of nothing: it ends the wait
			t.Fatal(err)
		}
	})
}

// scrubChunkOfLog is what a log reads at once.
const scrubChunkOfLog = 1<<20 + 200_000

// TestStartWithDamage starts on damage below the checkpoint: the node is there, all partitions are, and only the damaged
// range is refused, with what the WAL had behind it replayed.
func TestStartWithDamage(t *testing.T) {
	for _, clean := range []bool{true, false} {
		for _, back := range []int64{5, 500, 1100, 2500, 4000, 6000, 9000} {
			t.Run(fmt.Sprintf("clean=%v,back=%d", clean, back), func(t *testing.T) {
				fs, lines := vfs.NewMem(0), &bytes.Buffer{}
				s := scrubbed(t, fs, lines)
				p, other := create(t, s, 1), create(t, s, 2)
				for i := range 150 {
					produce(t, p, 0, 1000, fmt.Sprint("a", i))
					produce(t, other, 0, 1000, fmt.Sprint("b", i))
				}
				waitDurable(t, p)
				waitDurable(t, other)
				if err := s.Checkpoint(); err != nil {
					t.Fatal(err)
				}
				l, _ := p.opened()
				name, at := scrubFile(t, fs, p, true), l.Synced().Position-back
				if !clean {
					for i := range 10 {
						produce(t, p, 0, 1000, fmt.Sprint("c", i))
					}
					waitDurable(t, p)
				}
				end := p.LogEnd()
				disk := fs
				if !clean {
					disk = fs.PowerLoss(nil)
				}
				if err := s.Close(); err != nil && clean {
					t.Fatal(err)
				}
				if err := disk.Corrupt(name, at, 8); err != nil {
					t.Fatal(err)
				}
				for range 3 { // also after it was opened and appended to
					lines.Reset()
					s = scrubbed(t, disk, lines)
					p, other = s.Partition(id(1)), s.Partition(id(2))
					if p.LogEnd() != end || len(readAround(t, other)) > 0 {
						t.Fatalf("the log ends at %d instead of %d", p.LogEnd(), end)
					}
					s.scrubPass()
					refused := readAround(t, p)
					if len(refused) == 0 || len(refused) > 10 || s.Stats().Damaged == 0 {
						t.Fatalf("%d offsets refused, %d ranges\n%s", len(refused), s.Stats().Damaged, lines)
					}
					if !strings.Contains(lines.String(), "level=ERROR") || !strings.Contains(lines.String(), "file="+name) {
						t.Fatalf("not named in\n%s", lines)
					}
					for range 7 {
						produce(t, p, 0, 1000, "new")
					}
					end = p.LogEnd()
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}
