package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// TestCleanBesideEverything compacts a log over and over while it is appended to, read, scrubbed, synced, looked up by time,
// deleted from at its start and, now and then, cut at its end: every read shows what was written at its offsets.
func TestCleanBesideEverything(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 4000, IndexIntervalBytes: 500}))
	stop := make(chan struct{})
	time.AfterFunc(2*time.Second, func() { close(stop) })
	var wait sync.WaitGroup
	var changing sync.Mutex // one changes the log at a time
	var committed atomic.Int64
	loop := func(do func(rng *rand.Rand) error) {
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := do(rng); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	loop(func(rng *rand.Rand) error {
		changing.Lock()
		defer changing.Unlock()
		if rng.IntN(200) == 0 { // what is committed is never cut
			to := kafka.Offset(committed.Load()) + kafka.Offset(rng.IntN(20))
			end, err := l.TruncateTo(to)
			if int64(end) < committed.Load() {
				return fmt.Errorf("cut to %d, it ends at %d; %d is committed", to, end, committed.Load())
			}
			return err
		}
		b := record.NewBuilder()
		at := int64(l.LogEnd())
		for i := range 1 + rng.IntN(5) {
			b.Add(at+int64(i), []byte(fmt.Sprint("k", rng.IntN(30))), []byte(fmt.Sprintf("%d %s", at+int64(i), strings.Repeat("x", rng.IntN(100)))))
		}
		_, err := l.Append(b.Build(), 0, record.FromClient)
		if rng.IntN(4) == 0 {
			committed.Store(at)
		}
		return err
	})
	cleanings := 0
	loop(func(rng *rand.Rand) error {
		o := cleanUpTo(l, 1e9, kafka.Offset(committed.Load()))
		o.DeleteRetention = 0
		o.MapBytes = offsetMapEntryBytes * int64(5+rng.IntN(100))
		r, err := l.Clean(o)
		if r.To > r.From {
			cleanings++
		}
		if errors.Is(err, ErrOvertaken) {
			err = nil
		}
		return err
	})
	loop(func(rng *rand.Rand) error {
		time.Sleep(time.Millisecond)
		changing.Lock()
		defer changing.Unlock()
		if err := l.SetLogStart(kafka.Offset(max(committed.Load()-4000, 0))); err != nil {
			return err
		}
		_, err := l.DropBelowLogStart()
		return err
	})
	loop(func(rng *rand.Rand) error {
		return l.Scrub(&ScrubOptions{Pace: func(int64) error { return nil }, Found: func(d Damage) { t.Errorf("the scrub found %+v", d) }})
	})
	for range 3 {
		loop(func(rng *rand.Rand) error { return readSome(l, rng, kafka.Offset(committed.Load())) })
	}
	wait.Wait()
	verifyClean(t, l)
	t.Logf("%d cleanings, the log ends at %d with %d segments", cleanings, l.LogEnd(), l.Segments())
	if cleanings == 0 {
		t.Error("it was never compacted")
	}
}

// readSome reads from a random offset on, for a while, as a consumer does.
func readSome(l *Log, rng *rand.Rand, limit kafka.Offset) error {
	start := l.LogStart()
	if limit <= start {
		return nil
	}
	from := start + kafka.Offset(rng.Int64N(int64(limit-start)))
	if rng.IntN(10) == 0 {
		at, ok, err := l.OffsetForTimestamp(int64(from), limit)
		if err == nil && (ok && at.Timestamp != int64(at.Offset) || ok && at.Offset < from) {
			return fmt.Errorf("the first record from time %d on is %+v", from, at)
		}
		return belowStart(l, from, err)
	}
	for range 20 {
		s, err := l.Read(from, 1+rng.IntN(3000), limit, true)
		if err != nil {
			return belowStart(l, from, err)
		}
		if s.Next <= from && from < limit {
			return fmt.Errorf("a read of %d to %d comes to %d; the log ends at %d, generation %d", from, limit, s.Next, l.LogEnd(), l.Generation())
		}
		if s.Length > 0 {
			err = checkSlice(l, &s)
			s.Release()
		}
		if err != nil || s.Next >= limit {
			return err
		}
		from = s.Next
	}
	return nil
}

func belowStart(l *Log, from kafka.Offset, err error) error {
	if errors.Is(err, kafka.ErrOffsetOutOfRange) && from < l.LogStart() {
		return nil
	}
	return err
}

func checkSlice(l *Log, s *Slice) error {
	buf := make([]byte, s.Length)
	if err := readFull(s.File, "slice", buf, s.Position); err != nil {
		return err
	}
	for rest := buf; len(rest) > 0; {
		b, more, err := record.Next(rest)
		if err != nil || !b.VerifyCRC() {
			return fmt.Errorf("in %+v: %w", *s, err)
		}
		for r, err := range l.codecs.Records(b, 0) {
			if err != nil {
				return err
			}
			text, _, _ := strings.Cut(string(r.Value), " ")
			if n, err := strconv.ParseInt(text, 10, 64); err != nil || n != int64(r.Offset) {
				return fmt.Errorf("offset %d holds %q", r.Offset, r.Value)
			}
		}
		rest = more
	}
	return nil
}
