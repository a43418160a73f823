package coordtest

import (
	"context"
	"sync"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
	"chronik/internal/record"
)

// Logs are the logs of a topic, kept over elections. The zero value is ready.
type Logs struct {
	mu   sync.Mutex
	byID map[kafka.TopicPartition]*Log
}

// Open finds or makes a log, as a coordinator's Opener or a service's option.
func (l *Logs) Open(_ context.Context, id kafka.TopicPartition, epoch kafka.LeaderEpoch) (coordinator.Log, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil {
		l.byID = map[kafka.TopicPartition]*Log{}
	}
	if l.byID[id] == nil {
		l.byID[id] = &Log{watchers: map[chan<- struct{}]struct{}{}}
	}
	l.byID[id].mu.Lock()
	l.byID[id].epoch = epoch
	l.byID[id].mu.Unlock()
	return led{l.byID[id], epoch}, nil
}

// Log is one partition's log; what is appended is committed at once, unless it is held.
type Log struct {
	mu       sync.Mutex
	epoch    kafka.LeaderEpoch
	bytes    []byte
	end      kafka.Offset
	hw       kafka.Offset
	held     bool
	lapsed   bool // the leader's lease
	watchers map[chan<- struct{}]struct{}
}

// Hold keeps what is appended from being committed, or commits it.
func (l *Log) Hold(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = held
	l.moveLocked()
}

func (l *Log) moveLocked() {
	if !l.held {
		l.hw = l.end
	}
	for w := range l.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// All are the logs, for Hold.
func (l *Logs) All() []*Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*Log
	for _, one := range l.byID {
		all = append(all, one)
	}
	return all
}

// led is a log in one leader epoch.
type led struct {
	*Log
	term kafka.LeaderEpoch
}

func (l led) checkLocked() error {
	if l.epoch != l.term {
		return kafka.ErrNotLeaderOrFollower
	}
	return nil
}

func (l led) Append(batches []byte) (kafka.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.checkLocked(); err != nil {
		return 0, err
	}
	for {
		b, rest, err := record.Next(batches)
		if err != nil {
			return 0, err
		}
		if b == nil {
			break
		}
		at := len(l.bytes)
		l.bytes = append(l.bytes, b...)
		record.Batch(l.bytes[at:]).SetBaseOffset(l.end)
		l.end += kafka.Offset(b.Count())
		batches = rest
	}
	l.moveLocked()
	return l.end, nil
}

// Held is what Lease has set.
func (l led) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.lapsed
}

// Lease ends the lease of the node that leads, or renews it.
func (l *Log) Lease(held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lapsed = !held
}

func (l led) Offsets() (coordinator.Offsets, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return coordinator.Offsets{HighWatermark: l.hw, End: l.end}, l.checkLocked()
}

func (l led) Read(dst []byte, from kafka.Offset, maxBytes int) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := l.bytes; ; {
		b, next, err := record.Next(rest)
		if err != nil || b == nil || len(dst) > 0 && len(dst)+len(b) > maxBytes {
			return dst, err
		}
		if b.NextOffset() > from {
			dst = append(dst, b...)
		}
		rest = next
	}
}

func (l led) Watch(w chan<- struct{}) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers[w] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.watchers, w)
	}
}
