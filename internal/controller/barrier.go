package controller

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/clock"
)

const (
	barrierInterval = 10 * time.Millisecond  // between two read-index rounds
	barrierRetry    = 250 * time.Millisecond // after which a round is taken for lost
	postponedMax    = 100                    // rounds of other nodes that are kept; they try again
)

// barrier is the loop's part for Store.Barrier: rounds of Raft's ReadIndex, each shared by all that came before it began.
type barrier struct {
	waiting []waiter // for the next round
	active  []waiter // of the round under way
	round   uint64   // its number, also its context in Raft; begun at random, so that it is none of an earlier process
	index   uint64   // what it asks to be applied; 0 while Raft has not said
	began   time.Time
	leader  uint64      // known when it began
	timer   clock.Timer // set while the next round waits for its time

	postponed []*raftpb.Message // rounds of other nodes that came before this leader knew what is committed
}

func newBarrier() barrier {
	var first [8]byte
	_, _ = rand.Read(first[:]) // never fails
	return barrier{round: 1 + binary.BigEndian.Uint64(first[:])>>1}
}

// postpone keeps another node's round until this leader can answer it.
func (b *barrier) postpone(m *raftpb.Message) {
	if len(b.postponed) < postponedMax {
		b.postponed = append(b.postponed, m)
	}
}

// resume answers the rounds of other nodes that came early; those that came to a node that does not lead are dropped.
func (l *loop) resume() {
	if len(l.barrier.postponed) == 0 || l.leading != 0 && !l.readable() {
		return
	}
	for _, m := range l.barrier.postponed {
		if l.leading != 0 {
			_ = l.node.Step(m) // Raft refuses what is stale
		}
	}
	l.barrier.postponed = nil
	l.ready()
}

// waiter is one call of Barrier.
type waiter struct {
	ctx  context.Context
	done chan error // holds one
}

// prune forgets who has given up.
func (b *barrier) prune() {
	b.waiting = slices.DeleteFunc(b.waiting, func(w waiter) bool { return w.ctx.Err() != nil })
}

// readable is Raft's answer to a round.
func (b *barrier) readable(rs raft.ReadState) {
	if len(rs.RequestCtx) == 8 && binary.BigEndian.Uint64(rs.RequestCtx) == b.round && len(b.active) > 0 {
		b.index = rs.Index
	}
}

// stop answers everybody with an error.
func (b *barrier) stop(err error) {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	for _, w := range append(b.active, b.waiting...) {
		w.done <- err
	}
	b.active, b.waiting = nil, nil
}

// readable tells whether Raft can answer a round. It drops rounds while it knows no leader; and a leader that is the only
// voter answers with what it knows to be committed even where it does not know all yet, before an entry of its own term.
func (l *loop) readable() bool {
	return l.known != raft.None && (l.leading == 0 || l.imageTerm == l.leading)
}

// serveBarriers ends the round that is answered and begins the next one when its time has come.
func (l *loop) serveBarriers() {
	l.resume()
	b := &l.barrier
	now := l.o.Clock.Now()
	if len(b.active) > 0 {
		switch {
		case b.index > 0 && uint64(l.image.Offset()) >= b.index:
			for _, w := range b.active {
				w.done <- nil
			}
			b.active = nil
		case now.Sub(b.began) >= barrierRetry || b.leader != l.known: // messages are lost, and with a leader his rounds
			b.waiting = append(b.active, b.waiting...)
			b.active = nil
		default:
			return
		}
	}
	if len(b.waiting) == 0 || b.timer != nil || !l.readable() {
		return
	}
	if wait := barrierInterval - now.Sub(b.began); !b.began.IsZero() && wait > 0 {
		b.timer = l.o.Clock.AfterFunc(wait, func() {
			l.inbox.post(func() { b.timer = nil })
		})
		return
	}
	b.round++
	b.active, b.waiting, b.index, b.began, b.leader = b.waiting, nil, 0, now, l.known
	l.node.ReadIndex(binary.BigEndian.AppendUint64(nil, b.round))
	l.ready()
	if b.index > 0 {
		l.serveBarriers()
	}
}
