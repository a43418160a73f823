package store

import (
	"errors"
	"fmt"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

// TestDamagedReference: bytes that the WAL refers to were synced, and are not what was written when the node comes back from a
// crash: it starts all the same, reports them, serves what lies before and behind and nothing of them, and goes on.
func TestDamagedReference(t *testing.T) {
	for _, lost := range []string{"flipped", "cut", "missing"} {
		t.Run(lost, func(t *testing.T) {
			fs := vfs.NewMem(0)
			s := openStore(t, fs, nil)
			p, q := create(t, s, 1), create(t, s, 2)
			var results []Result
			for i := range 4 {
				results = append(results, produce(t, p, 0, 20<<10, fmt.Sprint("big ", i)))
				waitDurable(t, p)
			}
			produce(t, q, 0, 10, "another") // its group says that what came before is synced
			waitDurable(t, q)
			fs = fs.Kill()
			s.Close()
			name := s.partitionDir(id(1)) + "/00000000000000000000.log"
			bad := 1
			switch lost {
			case "flipped":
				if err := fs.Corrupt(name, 21<<10, 8); err != nil {
					t.Fatal(err)
				}
			case "cut":
				bad = 2
				f, err := fs.OpenReadWrite(name)
				if err == nil {
					err = errors.Join(f.Truncate(50<<10), f.Close())
				}
				if err != nil {
					t.Fatal(err)
				}
			case "missing":
				bad = 0
				if err := fs.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
			s = openStore(t, fs, nil)
			p = s.Partition(id(1))
			d := p.Damaged()
			if len(d) == 0 || d[0].First != results[bad].BaseOffset || p.LogEnd() != 4 || s.Stats().Damaged == 0 {
				t.Fatalf("the log ends at %d, damage %+v", p.LogEnd(), d)
			}
			produce(t, p, 0, 100, "later")
			waitDurable(t, p)
			p.SetHighWatermark(p.LogEnd())
			check := func() {
				t.Helper()
				for i := range results {
					damaged := false // what follows the damage may be in the WAL itself
					for _, d := range d {
						damaged = damaged || d.First <= kafka.Offset(i) && kafka.Offset(i) < d.End
					}
					_, err := p.ReadCopy(nil, kafka.Offset(i), 100<<10, p.LogEnd(), true)
					if damaged != errors.Is(err, kafka.ErrCorruptMessage) || !damaged && err != nil {
						t.Errorf("offset %d (damaged: %v): %v", i, damaged, err)
					}
				}
				if b, err := p.ReadCopy(nil, 4, 1<<20, p.LogEnd(), true); err != nil || len(b) == 0 {
					t.Errorf("what came later: %d bytes, %v", len(b), err)
				}
			}
			check()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, fs, nil)
			p = s.Partition(id(1))
			if err := p.Scrub(); err != nil {
				t.Error(err)
			}
			check()
			if err := p.Truncate(background, results[bad].BaseOffset); err != nil || len(p.Damaged()) != 0 || p.LogEnd() != results[bad].BaseOffset {
				t.Errorf("cut below the damage: %v, %v, end %d", err, p.Damaged(), p.LogEnd())
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
