package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// idempotent is a batch of one producer.
func idempotent(producer kafka.ProducerID, sequence int32) []byte {
	b := record.NewBuilder()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence = producer, 0, sequence
	b.Add(1000, nil, fmt.Appendf(nil, "%d of %d", sequence, producer))
	return b.Build()
}

// leadersBeginning is that of a log with offsets 0 to 21, of two epochs, that starts at 20: producer 7 was last heard of
// at offset 4, producer 8 wrote on both sides of the log's start.
func leadersBeginning(t *testing.T) log.Beginning {
	t.Helper()
	s := openStore(t, vfs.NewMem(0), nil)
	defer s.Close()
	p := create(t, s, 1)
	sequence := map[kafka.ProducerID]int32{}
	for i := range 22 {
		producer := kafka.ProducerID(8)
		if i < 5 {
			producer = 7
		}
		if _, err := p.Append(idempotent(producer, sequence[producer]), kafka.LeaderEpoch(i/12), record.FromClient); err != nil {
			t.Fatal(err)
		}
		sequence[producer]++
	}
	waitDurable(t, p)
	p.SetHighWatermark(22)
	if err := p.SetLogStart(background, 20); err != nil {
		t.Fatal(err)
	}
	b, err := p.Beginning()
	if err != nil {
		t.Fatal(err)
	}
	if want := []log.EpochOffset{{Epoch: 1, Offset: 12}}; b.Offset != 20 || !slices.Equal(b.Epochs, want) || len(b.Producers) == 0 {
		t.Fatalf("offset %d, epochs %v, %d bytes of producers", b.Offset, b.Epochs, len(b.Producers))
	}
	return b
}

// began checks that a partition is what a reset with the leader's beginning made of it.
func began(t *testing.T, p *Partition, context string) {
	t.Helper()
	if p.LogStart() != 20 || p.LogEnd() != 20 || p.DurableEnd() != 20 {
		t.Errorf("%s: offsets %d to %d, durable %d", context, p.LogStart(), p.LogEnd(), p.DurableEnd())
	}
	if e := p.EpochForOffset(19); e != 1 || p.LastRecordEpoch() != kafka.NoLeaderEpoch {
		t.Errorf("%s: epoch %d before the log's start, %d of its last record", context, e, p.LastRecordEpoch())
	}
	for _, test := range []struct {
		producer kafka.ProducerID
		sequence int32
		at       kafka.Offset
	}{{7, 4, 4}, {7, 0, 0}, {8, 14, 19}} {
		r, err := p.Append(idempotent(test.producer, test.sequence), 1, record.FromClient)
		if err != nil || !r.Duplicate || r.BaseOffset != test.at {
			t.Errorf("%s: batch %d of producer %d again: %+v, %v", context, test.sequence, test.producer, r, err)
		}
	}
	if _, err := p.Append(idempotent(8, 16), 1, record.FromClient); !errors.Is(err, kafka.ErrOutOfOrderSequenceNumber) {
		t.Errorf("%s: a batch that leaves one out: %v", context, err)
	}
}

// A reset carries over what the leader knows of epochs and producers, whatever ends the process afterwards.
func TestResetCarriesOver(t *testing.T) {
	b := leadersBeginning(t)
	for _, how := range []string{"running", "close", "kill", "power", "checkpoint and kill", "checkpoint and power", "checkpoint twice and power"} {
		fs := vfs.NewMem(0)
		s := openStore(t, fs, func(o *Options) { o.NoBackground = true })
		p := create(t, s, 2)
		for i := range 40 {
			produce(t, p, 0, 1000, fmt.Sprint(i))
		}
		waitDurable(t, p)
		if err := s.Checkpoint(); err != nil {
			t.Fatal(err)
		}
		if err := p.ResetTo(background, b); err != nil {
			t.Fatal(err)
		}
		crash := func(power bool) {
			if power {
				fs = fs.PowerLoss(rand.New(rand.NewPCG(2, 2)))
			} else {
				fs = fs.Kill()
			}
			s.Close()
		}
		checkpoint := func() {
			if err := s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		switch how {
		case "close":
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		case "kill", "power":
			crash(how == "power")
		case "checkpoint and kill", "checkpoint and power":
			checkpoint()
			crash(how == "checkpoint and power")
		case "checkpoint twice and power":
			checkpoint()
			produce(t, create(t, s, 3), 0, 10, "other")
			waitDurable(t, s.Partition(id(3)))
			checkpoint()
			crash(true)
		}
		if how != "running" {
			s = openStore(t, fs, nil)
		}
		began(t, s.Partition(id(2)), how)
		s.Close()
	}
}

// The process dies at every operation on the disk in turn, and perhaps the power with it: the partition is what it was
// before the reset, or what the reset made of it, and that for sure once the reset has returned.
func TestResetDiesAnywhere(t *testing.T) {
	b := leadersBeginning(t)
	seen := map[bool]int{}
	for n := int64(1); ; n++ {
		fs := vfs.NewMem(0)
		s := openStore(t, fs, func(o *Options) { o.NoBackground = true })
		p := create(t, s, 2)
		for i := range 40 {
			produce(t, p, 0, 1000, fmt.Sprint(i))
		}
		waitDurable(t, p)
		fs.KillAfter(n, rand.New(rand.NewPCG(uint64(n), 3)))
		err := p.ResetTo(background, b)
		if err == nil {
			_ = s.Checkpoint()
		}
		select {
		case <-fs.Died():
		default:
			s.Close()
			if seen[true] < 5 || seen[false] < 1 {
				t.Errorf("of %d crashes %d came after the reset", n, seen[true])
			}
			return
		}
		if n%2 == 0 {
			fs = fs.PowerLoss(rand.New(rand.NewPCG(uint64(n), 4)))
		} else {
			fs = fs.Kill()
		}
		s.Close()
		s = openStore(t, fs, nil)
		p = s.Partition(id(2))
		done := p.LogEnd() == 20
		seen[done]++
		switch {
		case done:
			began(t, p, fmt.Sprint("crash at operation ", n))
		case err == nil:
			t.Errorf("crash at operation %d: the reset had returned, and offsets %d to %d are there", n, p.LogStart(), p.LogEnd())
		case p.LogEnd() != 40 || len(content(t, p)) != 40:
			t.Errorf("crash at operation %d: neither reset nor as it was: %d to %d", n, p.LogStart(), p.LogEnd())
		}
		s.Close()
	}
}

func TestBrokenBeginningIsRefused(t *testing.T) {
	good := leadersBeginning(t)
	s := openStore(t, vfs.NewMem(0), nil)
	defer s.Close()
	p := create(t, s, 1)
	produce(t, p, 3, 10, "kept")
	for name, change := range map[string]func(*log.Beginning){
		"a flipped bit":        func(b *log.Beginning) { b.Producers = bytes.Clone(b.Producers); b.Producers[40] ^= 4 },
		"cut short":            func(b *log.Beginning) { b.Producers = b.Producers[:len(b.Producers)-9] },
		"of another offset":    func(b *log.Beginning) { b.Offset++ },
		"an epoch behind":      func(b *log.Beginning) { b.Epochs = []log.EpochOffset{{Epoch: 1, Offset: 21}} },
		"epochs out of order":  func(b *log.Beginning) { b.Epochs = []log.EpochOffset{{Epoch: 2, Offset: 3}, {Epoch: 1, Offset: 9}} },
		"offsets out of order": func(b *log.Beginning) { b.Epochs = []log.EpochOffset{{Epoch: 1, Offset: 9}, {Epoch: 2, Offset: 9}} },
	} {
		b := good
		change(&b)
		if err := p.ResetTo(background, b); !errors.Is(err, kafka.ErrCorruptMessage) || p.LogEnd() != 1 {
			t.Errorf("%s: %v, and the log ends at %d", name, err, p.LogEnd())
		}
	}
}

// Once a partition follows, no append of an older epoch comes, also one that waited for its turn; and none of the epochs
// before its own once it leads.
func TestFollowFencesAppends(t *testing.T) {
	s := openStore(t, vfs.NewMem(0), nil)
	defer s.Close()
	p := create(t, s, 1)
	if err := p.StartEpoch(background, 4); err != nil {
		t.Fatal(err)
	}
	produce(t, p, 4, 10, "a")
	p.Follow(5)
	if _, err := p.Append(batch(10, "late"), 4, record.FromClient); !errors.Is(err, log.ErrNotAtEnd) {
		t.Errorf("an append of epoch 4: %v", err)
	}
	if err := p.StartEpoch(background, 4); !errors.Is(err, log.ErrNotAtEnd) {
		t.Errorf("epoch 4 started again: %v", err)
	}
	if err := p.StartEpoch(background, 6); err != nil {
		t.Error(err)
	}
	if _, err := p.Append(batch(10, "late"), 5, record.FromClient); !errors.Is(err, log.ErrNotAtEnd) {
		t.Errorf("an append of epoch 5: %v", err)
	}
	produce(t, p, 6, 10, "b")
	if got := fmt.Sprint(content(t, p)); got != "[a b]" {
		t.Errorf("it holds %s", got)
	}
}

// An epoch that began here and has no record gives way to a leader's records of an older one, also over a crash.
func TestEpochWithoutRecordsGivesWay(t *testing.T) {
	for _, power := range []bool{false, true} {
		for _, empty := range []bool{false, true} {
			fs := vfs.NewMem(0)
			s := openStore(t, fs, nil)
			p := create(t, s, 1)
			if !empty {
				produce(t, p, 1, 10, "a")
			}
			if err := p.StartEpoch(background, 5); err != nil {
				t.Fatal(err)
			}
			p.Follow(6)
			b := record.Batch(batch(10, "b"))
			b.SetBaseOffset(p.LogEnd())
			b.SetLeaderEpoch(3)
			if _, err := p.AppendReplicated(b, false); !errors.Is(err, log.ErrNotAtEnd) {
				t.Fatalf("an older epoch: %v", err)
			}
			if err := p.Truncate(background, p.LogEnd()); err != nil {
				t.Fatal(err)
			}
			if _, err := p.AppendReplicated(b, false); err != nil {
				t.Fatalf("empty %v: %v", empty, err)
			}
			waitDurable(t, p)
			if power {
				fs = fs.PowerLoss(rand.New(rand.NewPCG(1, 5)))
			} else {
				fs = fs.Kill()
			}
			s.Close()
			s = openStore(t, fs, nil)
			p = s.Partition(id(1))
			if want := map[bool]string{true: "[b]", false: "[a b]"}[empty]; fmt.Sprint(content(t, p)) != want || p.LastRecordEpoch() != 3 {
				t.Errorf("power %v: %v of epoch %d, want %s", power, content(t, p), p.LastRecordEpoch(), want)
			}
			s.Close()
		}
	}
}

// A damaged partition is cut below the damage, and takes its leader's records again.
func TestCutBelowDamage(t *testing.T) {
	for _, at := range []int64{3, 300, 5000, 25_000} {
		for _, active := range []bool{false, true} {
			fs, lines := vfs.NewMem(0), &bytes.Buffer{}
			s := scrubbed(t, fs, lines)
			p := create(t, s, 1)
			var want []string
			for i := range 150 {
				produce(t, p, 0, 1000, fmt.Sprint("a", i))
				want = append(want, fmt.Sprint("a", i))
			}
			waitDurable(t, p)
			whole, err := p.ReadCopy(nil, 0, 1<<30, p.LogEnd(), true)
			for next := kafka.Offset(0); err == nil; { // it ends with a segment
				b, rest, _ := record.Next(whole)
				for ; len(rest) > 0; b, rest, _ = record.Next(rest) {
				}
				if next = b.NextOffset(); next >= p.LogEnd() {
					break
				}
				whole, err = p.ReadCopy(whole, next, 1<<30, p.LogEnd(), true)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			if err := fs.Corrupt(scrubFile(t, fs, p, active), at, 4); err != nil {
				t.Fatal(err)
			}
			told := false
			p.OnDamaged(func() { told = true })
			if err := p.Scrub(); err != nil {
				t.Fatal(err)
			}
			damage := p.Damaged()
			if !told || len(damage) != 1 {
				t.Fatalf("told %v of %v", told, damage)
			}
			if err := p.Truncate(background, damage[0].First); err != nil {
				t.Fatalf("byte %d, active %v: %v", at, active, err)
			}
			if len(p.Damaged()) != 0 || p.LogEnd() > damage[0].First {
				t.Fatalf("cut below %+v: %v is damaged, and it ends at %d", damage[0], len(p.Damaged()), p.LogEnd())
			}
			for rest := whole; len(rest) > 0; {
				b, more, err := record.Next(rest)
				if err != nil {
					t.Fatal(err)
				}
				if b.BaseOffset() >= p.LogEnd() {
					if _, err := p.AppendReplicated(b, false); err != nil {
						t.Fatal(err)
					}
				}
				rest = more
			}
			waitDurable(t, p)
			if got := content(t, p); !slices.Equal(got, want) {
				t.Errorf("byte %d, active %v: it holds %d of %d values", at, active, len(got), len(want))
			}
			fs = fs.PowerLoss(rand.New(rand.NewPCG(1, 6)))
			s.Close()
			s = scrubbed(t, fs, lines)
			if got := content(t, s.Partition(id(1))); !slices.Equal(got, want) {
				t.Errorf("byte %d, active %v: after a power loss it holds %d of %d values", at, active, len(got), len(want))
			}
			s.Close()
		}
	}
}

// A follower's log starts where its leader's does: its own retention does nothing.
func TestFollowersKeepWhatTheirLeaderKeeps(t *testing.T) {
	s := openStore(t, vfs.NewMem(0), func(o *Options) {
		o.NoBackground = true
		o.Config.Topic.RetentionMillis = 1
	})
	defer s.Close()
	p := create(t, s, 1)
	for i := range 30 {
		produce(t, p, 0, 10<<10, fmt.Sprint(i))
	}
	waitDurable(t, p)
	p.SetHighWatermark(30)
	p.Follow(1)
	time.Sleep(2 * time.Millisecond)
	s.ApplyRetention()
	if start := p.LogStart(); start != 0 {
		t.Errorf("a follower's log starts at %d", start)
	}
	if err := p.StartEpoch(background, 2); err != nil {
		t.Fatal(err)
	}
	s.ApplyRetention()
	if start := p.LogStart(); start == 0 {
		t.Error("a leader keeps what is too old")
	}
}
