package lifecycle

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// fake is a controller that answers as the test says.
type fake struct {
	mu         sync.Mutex
	img        *metadata.Image
	there      time.Duration // until a heartbeat is seen
	back       time.Duration // until its answer is
	lost       bool
	err        error
	fenced     bool
	mayGo      bool
	lease      time.Duration
	beats      []metadata.Heartbeat
	waiting    int
	most       int
	registered []error // what registrations answer, in turn; then nil
	epoch      kafka.BrokerEpoch
}

func newFake(brokers ...kafka.BrokerID) *fake {
	f := &fake{lease: 2 * time.Second, epoch: 5}
	f.img, _ = metadata.Empty().Apply(4, nil)
	var records []*pb.Record
	for _, id := range brokers {
		records = append(records, &pb.Record{Kind: &pb.Record_BrokerRegistered{BrokerRegistered: metadata.BrokerMessage(&metadata.Broker{
			ID: id, Incarnation: [16]byte{1}, Directory: [16]byte{byte(id)}})}})
	}
	f.img, _ = f.img.Apply(5, &pb.Entry{Records: records})
	return f
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) Image() *metadata.Image {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.img
}

func (f *fake) WaitApplied(context.Context, metadata.Offset) error { return nil }

func (f *fake) RegisterBroker(context.Context, metadata.RegisterBroker) (kafka.BrokerEpoch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.registered) > 0 {
		err := f.registered[0]
		f.registered = f.registered[1:]
		return -1, err
	}
	return f.epoch, nil
}

func (f *fake) Heartbeat(ctx context.Context, hb metadata.Heartbeat) (metadata.HeartbeatAnswer, error) {
	f.mu.Lock()
	f.waiting++
	f.most = max(f.most, f.waiting)
	there := f.there
	f.mu.Unlock()
	defer f.set(func() { f.waiting-- })
	sleep(ctx, there)
	f.mu.Lock()
	f.beats = append(f.beats, hb)
	a := metadata.HeartbeatAnswer{Fenced: f.fenced, MayShutDown: f.mayGo && hb.ShuttingDown, Lease: f.lease, Term: 1}
	err, lost, back := f.err, f.lost, f.back
	f.mu.Unlock()
	if lost {
		<-ctx.Done()
		return a, ctx.Err()
	}
	sleep(ctx, back)
	if err != nil {
		return metadata.HeartbeatAnswer{}, err
	}
	return a, ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func agent(t *testing.T, f *fake, change func(*Options)) *Agent {
	o := Options{Controller: f, Registration: metadata.RegisterBroker{ID: 1, Incarnation: [16]byte{1}, Directory: [16]byte{1}}}
	if change != nil {
		change(&o)
	}
	a := New(o)
	if err := a.Register(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.Start()
	return a
}

func during(t *testing.T, test func(t *testing.T)) { synctest.Test(t, test) }

// held waits for the lease: when the next heartbeat goes depends on which of those before it were given up when.
func held(t *testing.T, a *Agent, otherwise string) {
	t.Helper()
	for began := time.Now(); !a.Held(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal(otherwise)
		}
	}
}

func TestLeaseIsCountedFromTheSend(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1, 2)
		f.there, f.back = 300*time.Millisecond, 700*time.Millisecond
		a := agent(t, f, nil)
		defer a.Close()
		if a.Held() {
			t.Fatal("the lease is held before any heartbeat was answered")
		}
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !a.Held() {
			t.Fatal("the lease is not held")
		}
		f.set(func() { f.lost = true })
		began := time.Now()
		for a.Held() {
			time.Sleep(time.Millisecond)
		}
		// The last heartbeat that is answered was sent up to 700 ms before now, or not much later; its lease ends 2 s after that.
		if d := time.Since(began); d > 2*time.Second || d < time.Second {
			t.Fatalf("the lease goes on for %v after the last answer", d)
		}
		last := time.Duration(0)
		f.set(func() { last = time.Duration(len(f.beats)) })
		time.Sleep(5 * time.Second)
		f.mu.Lock()
		if f.most > outstandingMax || int(last) == len(f.beats) {
			t.Errorf("%d heartbeats at a time, %d in all", f.most, len(f.beats))
		}
		f.lost = false
		f.mu.Unlock()
		held(t, a, "the lease does not come back")
	})
}

// TestLateAnswerGivesNothing: an answer whose lease is over when it comes, and one that comes after a fence.
func TestLateAnswerGivesNothing(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1, 2)
		a := agent(t, f, func(o *Options) { o.Interval = 100 * time.Millisecond; o.Lease = 500 * time.Millisecond })
		defer a.Close()
		f.set(func() { f.back = 450 * time.Millisecond })
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.back = 600 * time.Millisecond })
		time.Sleep(1200 * time.Millisecond)
		if a.Held() {
			t.Fatal("held, although every answer comes after its lease")
		}
		// Answers that are on their way when the fence is told count nothing after it.
		f.set(func() { f.back = 350 * time.Millisecond }) // no answer comes in the instant in which a lease ends or a heartbeat is sent
		held(t, a, "not held")
		f.set(func() { f.back, f.fenced = 0, true })
		a.Changed()
		told := false
		for range 1000 {
			time.Sleep(time.Millisecond)
			synctest.Wait()
			s := a.Status()
			told = told || s.Fenced
			if told && (s.Held || !s.Fenced) {
				t.Fatalf("an answer from before the fence takes it away: %+v", s)
			}
		}
		if !told {
			t.Fatal("not fenced")
		}
	})
}

func TestReadyWaitsForTheFenceToGo(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1, 2)
		f.fenced = true
		a := agent(t, f, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		began := time.Now()
		go func() {
			time.Sleep(time.Second)
			f.set(func() { f.fenced = false })
		}()
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d > time.Second+2*urgent {
			t.Fatalf("it took %v to notice that the fence is gone", d)
		}
		f.mu.Lock()
		hb := f.beats[len(f.beats)-1]
		f.mu.Unlock()
		if !hb.Ready || hb.Applied != 5 || hb.Epoch != 5 || hb.Incarnation != [16]byte{1} || hb.Broker != 1 {
			t.Fatalf("%+v", hb)
		}
		a.Close()
		if a.Held() {
			t.Fatal("held after Close")
		}
		if err := a.Shutdown(t.Context()); err == nil {
			t.Fatal("a shutdown after Close succeeds")
		}
	})
}

func TestShutdownWaitsForLeave(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1, 2)
		a := agent(t, f, nil)
		defer a.Close()
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Shutdown(ctx); err == nil {
			t.Fatal("nobody said that it may")
		}
		if !a.Held() {
			t.Fatal("the lease ends with the wish to go")
		}
		f.set(func() { f.mayGo = true })
		if err := a.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSupersededIsFatal(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1, 2)
		var fatal []error
		a := agent(t, f, func(o *Options) { o.Fatal = func(err error) { fatal = append(fatal, err) } })
		defer a.Close()
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.err = kafka.ErrStaleBrokerEpoch.With("another process has registered as broker 1") })
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if len(fatal) != 1 || !strings.Contains(fatal[0].Error(), "taken over") || a.Held() {
			t.Fatal(fatal, a.Held())
		}
		if err := a.Ready(t.Context()); err == nil {
			t.Fatal("ready, although another process is the broker")
		}
		f.mu.Lock()
		n := len(f.beats)
		f.mu.Unlock()
		time.Sleep(3 * time.Second)
		if f.mu.Lock(); len(f.beats) != n {
			t.Error("it goes on sending heartbeats")
		}
		f.mu.Unlock()
	})
}

func TestUnregisteredRegistersAgain(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1, 2)
		a := agent(t, f, nil)
		defer a.Close()
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.set(func() {
			f.err, f.epoch = kafka.ErrBrokerIDNotRegistered.With("gone"), 9
			f.registered = []error{kafka.ErrNotController.With("later")}
		})
		time.Sleep(600 * time.Millisecond)
		f.set(func() { f.err = nil })
		time.Sleep(time.Second)
		if a.BrokerEpoch() != 9 || !a.Held() {
			t.Fatal(a.BrokerEpoch(), a.Held())
		}
	})
}

func TestRegister(t *testing.T) {
	during(t, func(t *testing.T) {
		// What passes is tried again.
		f := newFake(1, 2)
		f.registered = []error{kafka.ErrNotController.With("x"), kafka.ErrRequestTimedOut.With("x"), errors.New("connection refused"),
			kafka.ErrDuplicateBrokerRegistration.With("alive")}
		a := agent(t, f, nil)
		a.Close()
		if a.BrokerEpoch() != 5 {
			t.Fatal(a.BrokerEpoch())
		}
		// A name that stays taken, and what is wrong, are told.
		f = newFake(1, 2)
		for range 1000 {
			f.registered = append(f.registered, kafka.ErrDuplicateBrokerRegistration.With("alive"))
		}
		a = New(Options{Controller: f})
		began := time.Now()
		if err := a.Register(t.Context()); !errors.Is(err, kafka.ErrDuplicateBrokerRegistration) || time.Since(began) < 6*time.Second {
			t.Fatal(err, time.Since(began))
		}
		f.registered = []error{kafka.ErrInvalidRequest.With("wrong")}
		if err := a.Register(t.Context()); !errors.Is(err, kafka.ErrInvalidRequest) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 1000 {
			f.registered = append(f.registered, kafka.ErrNotController.With("x"))
		}
		if err := a.Register(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, kafka.ErrNotController) {
			t.Fatal(err)
		}
	})
}

func TestAloneAlwaysHolds(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1)
		f.fenced, f.lost = true, true
		a := agent(t, f, nil)
		defer a.Close()
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if !a.Held() {
			t.Fatal("nobody else can lead, yet the lease is not held")
		}
		if err := a.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.img = newFake(1, 2).img })
		if a.Held() {
			t.Fatal("held, although another broker has registered")
		}
	})
}

// TestSaysWhatItKnows: the heartbeat carries the age of the sync and what is damaged, at once when that changes.
func TestSaysWhatItKnows(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1, 2)
		var many []kafka.TopicPartition
		a := agent(t, f, func(o *Options) {
			o.SyncAge = func() time.Duration { return 3 * time.Second }
			o.Damaged = func() []kafka.TopicPartition { return many }
		})
		defer a.Close()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		many = make([]kafka.TopicPartition, metadata.DamagedPartitionsMax+10)
		began := time.Now()
		a.Changed()
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		hb := f.beats[len(f.beats)-1]
		if time.Since(began) != 0 || len(hb.Damaged) != metadata.DamagedPartitionsMax || hb.SyncAge != 3*time.Second {
			t.Fatal(time.Since(began), len(hb.Damaged), hb.SyncAge)
		}
	})
}
