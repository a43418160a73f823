package coordinator

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
)

// Too few replicas in sync: nothing was appended, so nothing is read again. What was asked waits, what saw it too, and all of it is
// answered once the log takes it, in order and once.
func TestTooFewReplicasWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		log := newFakeLog(true)
		r := newRig(log, countLoads(&loads))
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		value(t, r.add("a"))
		log.refuse(kafka.ErrNotEnoughReplicas)
		first, read := r.add("a"), r.get("a")
		time.Sleep(time.Second)
		synctest.Wait()
		later := r.add("a")
		if first.Done() || read.Done() || later.Done() {
			t.Fatal("answered what nobody has stored")
		}
		log.refuse(nil)
		time.Sleep(againMax)
		synctest.Wait()
		for i, p := range []*Promise[int]{first, read, later} {
			if v := value(t, p); v != []int{2, 2, 3}[i] {
				t.Errorf("operation %d is told %d", i, v)
			}
		}
		if loads != 1 || log.tries > 40 || log.end != 3 {
			t.Errorf("loaded %d times, %d tries in a second, the log ends at %d", loads, log.tries, log.end)
		}
	})
}

// That lasts no longer than an answer may take: then the state is read again, and what was not stored is forgotten. Whoever was
// told of an error may try again.
func TestTooFewReplicasForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(true), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		value(t, r.add("a"))
		r.log.refuse(kafka.ErrNotEnoughReplicas)
		began := time.Now()
		first := r.add("a")
		time.Sleep(time.Second)
		later := r.add("a")
		failure(t, first, kafka.ErrCoordinatorNotAvailable)
		failure(t, later, kafka.ErrCoordinatorNotAvailable)
		if took := time.Since(began); took < 5*time.Second || took > 5*time.Second+againMax {
			t.Errorf("failed after %v", took)
		}
		failure(t, r.get("a"), kafka.ErrCoordinatorLoadInProgress)
		time.Sleep(time.Second)
		synctest.Wait()
		if v := value(t, r.get("a")); v != 1 {
			t.Errorf("a is %d: the others were not stored", v)
		}
		r.log.refuse(nil)
		if v := value(t, r.add("a")); v != 2 {
			t.Errorf("a is %d", v)
		}
	})
}

// What is on its way waits no longer for its commit because what comes behind it is refused.
func TestTooFewReplicasBehindWhatFlies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		flying := r.add("a")
		synctest.Wait()
		r.log.refuse(kafka.ErrNotEnoughReplicas)
		held := r.add("a")
		time.Sleep(time.Second)
		r.log.commit()
		synctest.Wait()
		if !flying.Done() || held.Done() {
			t.Fatal("the first is committed, the second is not")
		}
		r.log.refuse(nil)
		time.Sleep(againMax)
		r.log.commit()
		if v := value(t, held); v != 2 {
			t.Errorf("a is %d", v)
		}
	})
}

// What the node itself has to say, and would not say again, is heard however many operations of clients wait: when the queue is full,
// and after those that wait have been refused because nothing commits.
func TestTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), func(o *Options[*counters]) {
			o.QueueMax, o.BatchBytes = 30, func() int { return 100 }
		})
		defer r.Close()
		told, missed := 0, 0
		tell := func() {
			r.Tell(0, func(c *counters, tx *Tx) { told++; c.add(tx, "told") }, func() { missed++ })
		}
		tell() // nobody leads
		r.Elect(0, 1)
		synctest.Wait()
		refused := 0
		for range 60 {
			if p := r.add("a"); p.Done() {
				refused++
			}
		}
		tell()
		synctest.Wait()
		if refused == 0 || missed != 1 {
			t.Fatalf("%d are refused, %d not told", refused, missed)
		}
		time.Sleep(11 * time.Second) // nothing commits: all that wait are told so
		tell()
		for range 20 {
			r.log.commit()
			synctest.Wait()
		}
		if told != 2 || missed != 1 {
			t.Fatalf("told %d times, missed %d", told, missed)
		}
		r.Resign(0, 1)
		synctest.Wait()
		if tell(); missed != 2 {
			t.Fatalf("missed %d", missed)
		}
	})
}

// While nothing commits and nothing more fits, nobody is heard: what times out by itself, such as a member's session, begins again where it
// stood once operations run again.
func TestTimersStandStillWhileNobodyIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), func(o *Options[*counters]) { o.BatchBytes = func() int { return 100 } })
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		var fired time.Time
		Do(r.Runtime, 0, func(_ *counters, tx *Tx, p *Promise[int]) {
			tx.After(TimerKey{Kind: "session"}, 6*time.Second, func(*Tx) { fired = time.Now() })
			Answer(tx, p, 0)
		})
		time.Sleep(time.Second)
		for range 40 {
			r.add("a")
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if !fired.IsZero() {
			t.Fatal("it fired while nothing ran")
		}
		resumed := time.Now()
		for range 20 {
			r.log.commit()
			synctest.Wait()
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if after := fired.Sub(resumed); after != 5*time.Second+lateMin {
			t.Fatalf("it fired %v after operations ran again", after)
		}
	})
}

// The same where the process stood still: the clock shows another time, and nobody was there to read what had come.
func TestTimersForgiveAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &jumpingClock{}
		r := newRig(newFakeLog(true), func(o *Options[*counters]) { o.Clock = c })
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		var fired atomic.Bool
		value(t, Do(r.Runtime, 0, func(_ *counters, tx *Tx, p *Promise[int]) {
			tx.After(TimerKey{Kind: "session"}, 6*time.Second, func(*Tx) { fired.Store(true) })
			Answer(tx, p, 0)
		}))
		c.jump.Store(int64(time.Minute))
		value(t, r.add("a"))
		if fired.Load() {
			t.Fatal("it fired at once")
		}
		time.Sleep(7 * time.Second)
		synctest.Wait()
		if !fired.Load() {
			t.Fatal("it never fired")
		}
	})
}

// jumpingClock is ahead of the time on which its timers run.
type jumpingClock struct {
	clock.System
	jump atomic.Int64
}

func (c *jumpingClock) Now() time.Time { return c.System.Now().Add(time.Duration(c.jump.Load())) }
