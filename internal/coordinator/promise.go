package coordinator

import (
	"context"
	"sync/atomic"
)

// Promise is an answer that will be given once. A waiter that goes away leaves nothing behind.
type Promise[R any] struct {
	settled atomic.Bool
	done    chan struct{}
	value   R
	err     error
}

// NewPromise makes a promise that nobody has kept yet.
func NewPromise[R any]() *Promise[R] { return &Promise[R]{done: make(chan struct{})} }

// Wait returns the answer, or ctx's error if that ends first.
func (p *Promise[R]) Wait(ctx context.Context) (R, error) {
	select {
	case <-p.done:
		return p.value, p.err
	default:
	}
	select {
	case <-p.done:
		return p.value, p.err
	case <-ctx.Done():
		var none R
		return none, ctx.Err()
	}
}

// Done tells whether the answer was given.
func (p *Promise[R]) Done() bool { return p.settled.Load() }

// Begun is false once it is answered that the operation was not begun here; see NeverBegun.
func (p *Promise[R]) Begun() bool {
	select {
	case <-p.done:
		return !NeverBegun(p.err)
	default:
		return true
	}
}

// Fail gives an error for an answer, at once. Only the first answer counts.
func (p *Promise[R]) Fail(err error) {
	if p.settled.CompareAndSwap(false, true) {
		p.err = err
		close(p.done)
	}
}

// Resolve gives the answer at once, for what no state machine was asked. Only the first answer counts.
func (p *Promise[R]) Resolve(value R) {
	if p.settled.CompareAndSwap(false, true) {
		p.value = value
		close(p.done)
	}
}

// Answer gives the answer of an operation: it leaves once all that the operation saw and wrote is committed, and is an
// error if that does not happen.
func Answer[R any](tx *Tx, p *Promise[R], value R) {
	tx.answers = append(tx.answers, answer[R]{p, value, nil})
}

// Refuse is Answer with an error.
func Refuse[R any](tx *Tx, p *Promise[R], err error) {
	var none R
	tx.answers = append(tx.answers, answer[R]{p, none, err})
}

// settler is an answer that waits for the watermark.
type settler interface {
	settle()
	fail(err error)
}

type answer[R any] struct {
	promise *Promise[R]
	value   R
	err     error
}

func (a answer[R]) settle() {
	if a.err != nil {
		a.promise.Fail(a.err)
	} else {
		a.promise.Resolve(a.value)
	}
}

func (a answer[R]) fail(err error) { a.promise.Fail(err) }
