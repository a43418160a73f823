package store

import (
	"fmt"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// TestDeleteRecordsBehindAGap: a follower was given offsets of which nothing is left, so that its last segment has no batch, and
// then all is deleted up to its end. What it is given next is found by the start after a crash.
func TestDeleteRecordsBehindAGap(t *testing.T) {
	for _, first := range []kafka.Offset{0, 5} {
		for _, power := range []bool{false, true} {
			t.Run(fmt.Sprint(first, " ", power), func(t *testing.T) {
				fs := vfs.NewMem(0)
				s := openStore(t, fs, nil)
				p := create(t, s, 1)
				replicated := func(at kafka.Offset) {
					t.Helper()
					b := record.NewBuilder()
					b.Add(1, []byte("k"), []byte("v"))
					batch := record.Batch(b.Build())
					batch.SetBaseOffset(at)
					batch.SetLeaderEpoch(0)
					if _, err := p.AppendReplicated(batch, false); err != nil {
						t.Fatal(err)
					}
				}
				for at := range first {
					replicated(at)
				}
				if first > 0 {
					l, err := p.opened()
					if err == nil {
						err = p.roll(l)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if _, err := p.AppendStretch(&log.Stretch{From: first, Next: 20}); err != nil {
					t.Fatal(err)
				}
				waitDurable(t, p)
				p.SetHighWatermark(20)
				if err := p.SetLogStart(background, 20); err != nil {
					t.Fatal(err)
				}
				replicated(20)
				waitDurable(t, p)
				if power {
					fs = fs.PowerLoss(nil)
				} else {
					fs = fs.Kill()
				}
				_ = s.Close()
				s = openStore(t, fs, nil)
				if p = s.Partition(id(1)); p.LogStart() != 20 || p.LogEnd() != 21 {
					t.Errorf("offsets %d to %d", p.LogStart(), p.LogEnd())
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				verifyStore(t, fs)
			})
		}
	}
}
