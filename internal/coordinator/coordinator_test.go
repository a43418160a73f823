package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func value(t *testing.T, p *Promise[int]) int {
	t.Helper()
	v, err := p.Wait(t.Context())
	if err != nil {
		t.Fatalf("answer: %v", err)
	}
	return v
}

func failure(t *testing.T, p *Promise[int], want error) {
	t.Helper()
	if _, err := p.Wait(t.Context()); !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

// An answer leaves only when what it saw is committed; reads wait for the writes that they saw.
func TestAnswersWaitForTheWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		before := r.get("a")
		synctest.Wait()
		if !before.Done() {
			t.Fatal("a read of what is committed waits")
		}
		write, read := r.add("a"), r.get("a")
		synctest.Wait()
		if write.Done() || read.Done() {
			t.Fatalf("answered before the commit: write %v, read %v", write.Done(), read.Done())
		}
		r.log.commit()
		synctest.Wait()
		if value(t, write) != 1 || value(t, read) != 1 || value(t, before) != 0 {
			t.Fatal("wrong values")
		}
	})
}

// What arrives while as many appends are in flight as may be shares the next batch, and sees what is in flight.
func TestOperationsShareABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		first := r.add("a")
		synctest.Wait()
		var rest []*Promise[int]
		for range 100 {
			rest = append(rest, r.add("a"))
			synctest.Wait()
		}
		if r.log.appends != flightMax {
			t.Fatalf("%d appends while the first is in flight", r.log.appends)
		}
		r.log.commit()
		synctest.Wait()
		if r.log.appends != flightMax+1 || value(t, first) != 1 || !rest[flightMax-2].Done() || rest[flightMax-1].Done() {
			t.Fatalf("%d appends; the last batch answered: %v", r.log.appends, rest[flightMax-1].Done())
		}
		r.log.commit()
		for i, p := range rest {
			if v := value(t, p); v != i+2 {
				t.Fatalf("operation %d saw %d", i, v)
			}
		}
	})
}

// Several appends are in flight: each answer leaves with what its operation saw, reads too, and none sooner.
func TestAnswersLeaveBatchByBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		var writes, reads []*Promise[int]
		for range flightMax {
			writes = append(writes, r.add("a"))
			synctest.Wait()
			reads = append(reads, r.get("a"))
			synctest.Wait()
		}
		for i := range flightMax {
			for j := range flightMax {
				if done := j < i; writes[j].Done() != done || reads[j].Done() != done {
					t.Fatalf("%d of %d are committed; answers of the one at %d: write %v, read %v", i, flightMax, j, writes[j].Done(), reads[j].Done())
				}
			}
			r.log.commitTo(kafka.Offset(i + 1))
			synctest.Wait()
		}
		for i := range flightMax {
			if value(t, writes[i]) != i+1 || value(t, reads[i]) != i+1 {
				t.Fatalf("operation %d saw something else", i)
			}
		}
	})
}

// A later append fails while an earlier one is in flight: nobody is told that anything succeeded before it is loaded again.
func TestLaterAppendFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		first := r.add("a")
		synctest.Wait()
		r.log.fail(kafka.ErrUnknownServerError)
		second, read := r.add("a"), r.get("a")
		synctest.Wait()
		for i, p := range []*Promise[int]{first, second, read} {
			if _, err := p.Wait(t.Context()); !errors.Is(err, kafka.ErrUnknownServerError) {
				t.Fatalf("operation %d: %v", i, err)
			}
		}
		r.log.commit()
		time.Sleep(time.Second)
		synctest.Wait()
		if v := value(t, r.get("a")); v != 1 {
			t.Fatalf("%d after the reload: the first was appended, the second was not", v)
		}
	})
}

func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(true), func(o *Options[*counters]) { o.BatchBytes = func() int { return 1000 } })
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		huge := Do(r.Runtime, 0, func(c *counters, tx *Tx, p *Promise[int]) {
			for i := range 500 {
				c.add(tx, fmt.Sprint("key", i))
			}
			Answer(tx, p, 500)
		})
		if value(t, huge) != 500 || r.log.appends < 7 {
			t.Fatalf("500 records in %d batches", r.log.appends)
		}
		var ps []*Promise[int]
		for range 300 {
			ps = append(ps, r.add("a"))
		}
		for i, p := range ps {
			if v := value(t, p); v != i+1 {
				t.Fatalf("operation %d saw %d", i, v)
			}
		}
	})
}

// An operation is in one batch, even where operations together would not be, so that a failover leaves all of it or nothing.
func TestOneOperationIsOneBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(true), func(o *Options[*counters]) {
			o.BatchBytes, o.BatchMax = func() int { return 1000 }, func() int { return 100_000 }
		})
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		small := r.add("a")
		large := Do(r.Runtime, 0, func(c *counters, tx *Tx, p *Promise[int]) {
			for i := range 500 {
				c.add(tx, fmt.Sprint("key", i))
			}
			Answer(tx, p, 500)
		})
		if value(t, small) != 1 || value(t, large) != 500 || r.log.appends != 2 {
			t.Fatalf("%d batches", r.log.appends)
		}
	})
}

// A failed append fails what was in it and what waits behind it, and the state is that of the log again.
func TestFailedAppendReloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(true), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		value(t, r.add("a"))
		r.log.fail(kafka.ErrUnknownServerError)
		parked := Do(r.Runtime, 0, func(c *counters, _ *Tx, p *Promise[int]) { c.parked = append(c.parked, p) })
		failed := r.add("a")
		failure(t, failed, kafka.ErrUnknownServerError)
		failure(t, parked, kafka.ErrUnknownServerError)
		failure(t, r.get("a"), kafka.ErrCoordinatorLoadInProgress)
		time.Sleep(time.Second)
		if v := value(t, r.get("a")); v != 1 {
			t.Fatalf("after the reload a is %d: the failed operation must not count", v)
		}
		if v := value(t, r.add("a")); v != 2 {
			t.Fatalf("a is %d", v)
		}
	})
}

// A shard replays to the end offset and serves only when the watermark is there.
func TestLoadWaitsForTheWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(false)
		r := newRig(log, nil)
		r.Elect(0, 1)
		synctest.Wait()
		lost := r.add("a")
		synctest.Wait()
		r.Close()
		failure(t, lost, kafka.ErrNotCoordinator)

		r = newRig(log, nil)
		defer r.Close()
		r.Elect(0, 2)
		synctest.Wait()
		failure(t, r.get("a"), kafka.ErrCoordinatorLoadInProgress)
		log.commit()
		synctest.Wait()
		if v := value(t, r.get("a")); v != 1 {
			t.Fatalf("a is %d", v)
		}
	})
}

// A log of which compaction left holes, or nothing before the end, loads.
func TestLoadCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newFakeLog(true)
		r := newRig(log, nil)
		r.Elect(0, 1)
		synctest.Wait()
		for range 4 {
			r.add("a")
			synctest.Wait()
		}
		r.Close()
		for epoch, keep := range [][]int{{0, 2, 3}, {0, 1}, {0}, nil} { // each of what was kept before
			log.mu.Lock()
			var kept []byte
			for i, rest := 0, log.batches; len(rest) > 0; i++ {
				b, next, err := record.Next(rest)
				if err != nil {
					t.Fatal(err)
				}
				if slices.Contains(keep, i) {
					kept = append(kept, b...)
				}
				rest = next
			}
			log.batches = kept
			log.mu.Unlock()
			r = newRig(log, nil)
			r.Elect(0, kafka.LeaderEpoch(epoch+2))
			synctest.Wait()
			want := 4 // the value is the last record's
			switch len(keep) {
			case 2:
				want = 3
			case 1:
				want = 1
			case 0:
				want = 0
			}
			if v := value(t, r.get("a")); v != want {
				t.Errorf("%d batches are left: a is %d, want %d", len(keep), v, want)
			}
			r.Close()
		}
	})
}

func TestResignAndElect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(true), nil)
		defer r.Close()
		failure(t, r.get("a"), kafka.ErrNotCoordinator)
		r.Elect(0, 5)
		synctest.Wait()
		parked := Do(r.Runtime, 0, func(c *counters, _ *Tx, p *Promise[int]) { c.parked = append(c.parked, p) })
		synctest.Wait()
		r.Resign(0, 4) // old news
		value(t, r.add("a"))
		r.Resign(0, 6)
		failure(t, parked, kafka.ErrNotCoordinator)
		failure(t, r.get("a"), kafka.ErrNotCoordinator)
		r.Elect(0, 7)
		synctest.Wait()
		r.Elect(0, 3) // old news
		if v := value(t, r.get("a")); v != 1 {
			t.Fatalf("a is %d", v)
		}
		r.Elect(0, 8)
		synctest.Wait()
		if v := value(t, r.add("a")); v != 2 {
			t.Fatalf("a is %d", v)
		}
		if got := r.Led(); len(got) != 1 || got[0] != 0 {
			t.Fatalf("led: %v", got)
		}
	})
}

// Leadership that ends without the metadata's word: answers fail at once, and the shard keeps trying.
func TestLeadershipLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		p := r.add("a")
		synctest.Wait()
		r.log.lose(true)
		failure(t, p, kafka.ErrNotCoordinator)
		time.Sleep(5 * time.Second)
		failure(t, r.get("a"), kafka.ErrCoordinatorLoadInProgress)
	})
}

func TestCommitTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		write := r.add("a")
		start := time.Now()
		time.Sleep(2 * time.Second)
		read := r.get("a")
		failure(t, write, kafka.ErrCoordinatorNotAvailable)
		failure(t, read, kafka.ErrCoordinatorNotAvailable)
		if d := time.Since(start); d != 5*time.Second {
			t.Fatalf("timed out after %v", d)
		}
		r.log.commit() // late, but the state was never in doubt
		synctest.Wait()
		if v := value(t, r.get("a")); v != 1 {
			t.Fatalf("a is %d", v)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), func(o *Options[*counters]) { o.QueueMax = 10 })
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		var ps []*Promise[int]
		for range 12 {
			ps = append(ps, r.add("a"))
			synctest.Wait()
		}
		failure(t, ps[10], kafka.ErrCoordinatorLoadInProgress)
		failure(t, ps[11], kafka.ErrCoordinatorLoadInProgress)
		r.log.commit()
		synctest.Wait()
		r.log.commit()
		synctest.Wait()
		if v := value(t, ps[9]); v != 10 {
			t.Fatalf("the tenth saw %d", v)
		}
		next := r.add("a")
		synctest.Wait()
		r.log.commit()
		if v := value(t, next); v != 11 {
			t.Fatalf("then %d", v)
		}
	})
}

func TestTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(true), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		start := time.Now()
		var fired []string
		set := func(name string, d time.Duration) {
			p := Do(r.Runtime, 0, func(c *counters, tx *Tx, p *Promise[int]) {
				tx.After(TimerKey{Kind: name}, d, func(tx *Tx) {
					fired = append(fired, fmt.Sprintf("%s@%v", name, time.Since(start)))
					c.add(tx, name)
				})
				Answer(tx, p, 0)
			})
			value(t, p)
		}
		set("late", 3*time.Second)
		set("moved", time.Second)
		set("soon", 500*time.Millisecond)
		set("gone", time.Second)
		set("moved", 2*time.Second)
		value(t, Do(r.Runtime, 0, func(_ *counters, tx *Tx, p *Promise[int]) {
			tx.Cancel(TimerKey{Kind: "gone"})
			Answer(tx, p, 0)
		}))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := fmt.Sprint(fired); got != "[soon@500ms moved@2s late@3s]" {
			t.Fatalf("fired: %s", got)
		}
		if v := value(t, r.get("moved")); v != 1 {
			t.Fatalf("the timer's record: %d", v)
		}
	})
}

func TestPromiseWaiterGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		p := r.add("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		r.log.commit()
		synctest.Wait()
		value(t, p)
	})
}

// Random failures and reloads: what was answered is in the log, and the log is all there is.
func TestAnsweredIsCommitted(t *testing.T) {
	total := 0
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			log := newFakeLog(false)
			r := newRig(log, func(o *Options[*counters]) { o.BatchBytes, o.LoadsMax = func() int { return 300 }, 1 })
			epoch := kafka.LeaderEpoch(1)
			r.Elect(0, epoch)
			answered := 0
			var ps []*Promise[int]
			for range 300 {
				switch rnd.IntN(14) {
				case 12:
					log.lose(true)
					synctest.Wait()
					log.lose(false)
				case 0:
					log.fail(errors.New("broken"))
				case 1:
					epoch++
					r.Elect(0, epoch)
				case 2, 3, 4:
					log.commit()
				case 5:
					time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond)
				default:
					ps = append(ps, r.add("a"))
				}
				if rnd.IntN(2) == 0 {
					synctest.Wait()
				}
			}
			time.Sleep(2 * time.Second)
			log.commit()
			synctest.Wait()
			log.commit()
			time.Sleep(2 * time.Second)
			log.commit()
			synctest.Wait()
			for _, p := range ps {
				if !p.Done() {
					t.Fatalf("seed %d: an operation was never answered", seed)
				}
				if v, err := p.Wait(t.Context()); err == nil {
					if v <= answered {
						t.Fatalf("seed %d: %d answered after %d", seed, v, answered)
					}
					answered = v
				}
			}
			got := value(t, r.get("a"))
			if got < answered {
				t.Fatalf("seed %d: the state is %d, %d was answered", seed, got, answered)
			}
			if got != int(log.end) {
				t.Fatalf("seed %d: the state is %d, the log has %d records", seed, got, log.end)
			}
			total += answered
			r.Close()
		})
	}
	if total < 1000 {
		t.Fatalf("only %d operations were answered in all", total)
	}
}

// A node whose lease is over tells nobody what it believes, for another may lead and know more; what was committed is true
// whatever the lease.
func TestReadsNeedTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(newFakeLog(false), nil)
		defer r.Close()
		r.Elect(0, 1)
		synctest.Wait()
		r.log.mu.Lock()
		r.log.lapsed = true
		r.log.mu.Unlock()
		failure(t, r.get("a"), kafka.ErrNotCoordinator)
		write, read := r.add("a"), r.get("a")
		synctest.Wait()
		r.log.commit()
		if value(t, write) != 1 || value(t, read) != 1 {
			t.Fatal("wrong values")
		}
		failure(t, r.get("a"), kafka.ErrNotCoordinator)
		r.log.mu.Lock()
		r.log.lapsed = false
		r.log.mu.Unlock()
		if value(t, r.get("a")) != 1 {
			t.Fatal("wrong value")
		}
	})
}

// countLoads counts how often a log is opened to be read.
func countLoads(loads *int) func(*Options[*counters]) {
	return func(o *Options[*counters]) {
		open := o.Open
		o.Open = func(ctx context.Context, p int32, e kafka.LeaderEpoch) (Log, error) {
			*loads++
			return open(ctx, p, e)
		}
	}
}

// A log that is read and then takes nothing is not read over and over.
func TestReloadsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		log := newFakeLog(true)
		r := newRig(log, countLoads(&loads))
		defer r.Close()
		r.Elect(0, 1)
		for range 1000 { // 10 s of clients that try every 10 ms
			synctest.Wait()
			log.fail(kafka.ErrUnknownServerError)
			_, _ = r.add("a").Wait(t.Context())
			time.Sleep(10 * time.Millisecond)
		}
		if loads > 20 {
			t.Errorf("loaded %d times in 10 s", loads)
		}
	})
}
