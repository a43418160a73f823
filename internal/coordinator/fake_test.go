package coordinator

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
)

// fakeLog is a log in memory whose watermark moves when the test says so.
type fakeLog struct {
	mu       sync.Mutex
	batches  []byte
	end      kafka.Offset
	hw       kafka.Offset
	auto     bool // commits at once
	appends  int
	failNext error
	refusing error // every append, until it is nil
	tries    int
	lost     bool
	lapsed   bool // the lease
	watchers map[chan<- struct{}]int
}

func newFakeLog(auto bool) *fakeLog { return &fakeLog{auto: auto, watchers: map[chan<- struct{}]int{}} }

func (l *fakeLog) Append(batches []byte) (kafka.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.failNext; err != nil {
		l.failNext = nil
		return 0, err
	}
	if l.lost {
		return 0, kafka.ErrNotLeaderOrFollower
	}
	if l.tries++; l.refusing != nil {
		return 0, l.refusing
	}
	for rest := batches; ; {
		b, next, err := record.Next(rest)
		if err != nil {
			return 0, err
		}
		if b == nil {
			break
		}
		at := len(l.batches)
		l.batches = append(l.batches, b...)
		record.Batch(l.batches[at:]).SetBaseOffset(l.end)
		l.end += kafka.Offset(b.Count())
		l.appends++
		rest = next
	}
	if l.auto {
		l.hw = l.end
	}
	l.notify()
	return l.end, nil
}

func (l *fakeLog) notify() {
	for w := range l.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// commit moves the watermark to the end.
func (l *fakeLog) commit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hw = l.end
	l.notify()
}

// commitTo moves the watermark to the offset.
func (l *fakeLog) commitTo(offset kafka.Offset) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hw = offset
	l.notify()
}

// lose ends the leadership, or begins it again.
func (l *fakeLog) lose(lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = lost
	l.notify()
}

func (l *fakeLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failNext = err
}

func (l *fakeLog) refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refusing = err
}

func (l *fakeLog) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.lapsed
}

func (l *fakeLog) Offsets() (Offsets, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		return Offsets{}, kafka.ErrNotLeaderOrFollower
	}
	return Offsets{HighWatermark: l.hw, End: l.end}, nil
}

func (l *fakeLog) Read(dst []byte, from kafka.Offset, maxBytes int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := l.batches; ; {
		b, next, err := record.Next(rest)
		if err != nil || b == nil {
			return dst, err
		}
		if b.NextOffset() > from {
			if len(dst) > 0 && len(dst)+len(b) > maxBytes {
				return dst, nil
			}
			dst = append(dst, b...)
		}
		rest = next
	}
}

func (l *fakeLog) Watch(w chan<- struct{}) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers[w]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.watchers[w]--; l.watchers[w] == 0 {
			delete(l.watchers, w)
		}
	}
}

// counters is a machine that counts by key, and can hold promises.
type counters struct {
	values map[string]int
	parked []*Promise[int]
	loaded bool
}

func (c *counters) Replay(rec Replayed) error {
	if rec.Value == nil {
		delete(c.values, string(rec.Key))
		return nil
	}
	n, err := strconv.Atoi(string(rec.Value))
	c.values[string(rec.Key)] = n
	return err
}

func (c *counters) Loaded(*Tx) { c.loaded = true }

func (c *counters) Unloaded(err error) {
	for _, p := range c.parked {
		p.Fail(err)
	}
}

func (c *counters) add(tx *Tx, key string) int {
	c.values[key]++
	tx.Append(Record{Key: []byte(key), Value: strconv.AppendInt(nil, int64(c.values[key]), 10)})
	return c.values[key]
}

// rig is a runtime with one partition on a fake log.
type rig struct {
	*Runtime[*counters]
	log *fakeLog
}

func newRig(log *fakeLog, edit func(*Options[*counters])) *rig {
	r := &rig{log: log}
	o := Options[*counters]{
		Topic: "t",
		New:   func(int32) *counters { return &counters{values: map[string]int{}} },
		Open: func(context.Context, int32, kafka.LeaderEpoch) (Log, error) {
			log.mu.Lock()
			defer log.mu.Unlock()
			if log.lost {
				return nil, errors.New("gone")
			}
			return log, nil
		},
		Clock: clock.System{}, Logger: slog.New(slog.DiscardHandler),
	}
	if edit != nil {
		edit(&o)
	}
	r.Runtime = New(o)
	return r
}

func (r *rig) add(key string) *Promise[int] {
	return Do(r.Runtime, 0, func(c *counters, tx *Tx, p *Promise[int]) { Answer(tx, p, c.add(tx, key)) })
}

func (r *rig) get(key string) *Promise[int] {
	return Do(r.Runtime, 0, func(c *counters, tx *Tx, p *Promise[int]) { Answer(tx, p, c.values[key]) })
}
