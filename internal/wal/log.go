package wal

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"chronik/internal/clock"
)

// LSN is the number of a record, counted from 1 for the life of the directory.
type LSN uint64

var (
	// ErrClosed is the answer of a log that was closed.
	ErrClosed = errors.New("write-ahead log is closed")
	// ErrNoSpace is the answer of Space while the log waits for space on its disk.
	ErrNoSpace = errors.New("no space left for the write-ahead log")
)

// Stream is a sequence of entries whose durable end advances together: a partition, to the store. OnDurable is set
// before the first Submit. It is called in order, once per group in which the stream has entries, with the End of its
// last entry there; it must not block and must not call the log.
type Stream struct {
	OnDurable func(end int64)

	// Guarded by Log.mu.
	group       uint64 // the group it last had an entry in
	slot        int    // its place in that group's members
	bytes       int64  // its bodies in that group
	outstanding int    // groups whose references are not yet synced
}

// Reference is a file that holds the bodies of entries which the log holds by reference. Sync brings what was written to
// it, and its name, to the disk; it may be called until the entries are durable.
type Reference interface {
	Sync() error
}

// Entry is one record to be submitted. The log copies what it needs before Submit returns.
type Entry struct {
	// Head, followed by Body, is the record. A record by reference is its Head alone.
	Head, Body []byte
	// Reference is where Body can be found by what Head says; nil to hold the body in the log in any case.
	Reference Reference
	Stream    *Stream // may be nil
	End       int64   // for Stream.OnDurable
	// Lazy entries do not ask for a sync of their own; they go with the next group that does, or after
	// Options.LazyDelay.
	Lazy bool
	// Held entries do not either: who submits them calls Commit soon.
	Held bool
}

// Log is an open write-ahead log. Its methods may be called from any goroutine.
type Log struct {
	o     Options
	files files
	clean bool // as Open found it
	stats counters

	mu struct {
		sync.Mutex
		filling  *group // the pending group
		free     []*group
		groups   int  // made so far
		writing  bool // somebody writes a group: the writer, or who called Commit
		sequence uint64
		next     LSN // the LSN of the next record
		durable  LSN // all below are durable
		err      error
		closed   bool
		lazySet  bool          // the timer runs
		wake     chan struct{} // closed at the next change of durable or err; nil if nobody waits
	}
	work      *sync.Cond // the writer waits here for a group to write
	room      *sync.Cond // submitters wait here for a group to fill
	lazyTimer clock.Timer

	references      chan *group // to the completer, in order
	inCompleter     atomic.Int64
	uncalled        atomic.Int64  // groups in the completer whose streams that wait for no reference were not told yet
	referencesUntil atomic.Uint64 // references below this LSN are synced
	noSpace         atomic.Bool
	stop            chan struct{} // closed by Close and by fail
	done            sync.WaitGroup
}

// Submit appends an entry to the pending group and returns its LSN without waiting for the disk. It waits only while
// the log is full. An error means that the log failed or was closed; whether the entry was written is unknown then.
func (l *Log) Submit(e *Entry) (LSN, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g, err := l.fillingLocked(len(e.Head) + len(e.Body))
	if err != nil {
		return 0, err
	}
	byReference := false
	if s := e.Stream; s != nil {
		m := g.joinLocked(s)
		s.bytes += int64(len(e.Body))
		m.end = e.End
		if e.Reference != nil && l.o.ReferenceBytes >= 0 && s.bytes >= l.o.ReferenceBytes {
			byReference = true
			g.referLocked(m, e.Reference)
		}
	}
	g.addRecord(e.Head, e.Body, byReference)
	lsn := l.mu.next
	l.mu.next++
	if e.Lazy && len(g.buf) < l.o.GroupBytesMax/4 {
		l.armLazyLocked()
		return lsn, nil
	}
	g.wanted = true
	if !e.Held {
		l.urgeLocked(g)
	}
	return lsn, nil
}

// urgeLocked asks the writer for a group.
func (l *Log) urgeLocked(g *group) {
	if !g.urgent {
		g.urgent = true
		l.work.Signal()
	}
}

// Append submits a record and waits until it is durable.
func (l *Log) Append(ctx context.Context, record []byte) (LSN, error) {
	lsn, err := l.Submit(&Entry{Head: record})
	if err != nil {
		return 0, err
	}
	return lsn, l.WaitDurable(ctx, lsn)
}

// WaitDurable returns once the record of that LSN, with all before it, is durable.
func (l *Log) WaitDurable(ctx context.Context, lsn LSN) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.mu.durable <= lsn {
		if l.mu.err != nil {
			return l.mu.err
		}
		if g := l.mu.filling; g != nil && lsn >= g.first {
			l.urgeLocked(g)
		}
		if l.mu.wake == nil {
			l.mu.wake = make(chan struct{})
		}
		wake := l.mu.wake
		l.mu.Unlock()
		select {
		case <-wake:
			l.mu.Lock()
		case <-ctx.Done():
			l.mu.Lock()
			return ctx.Err()
		}
	}
	return nil
}

func (l *Log) wakeLocked() {
	if l.mu.wake != nil {
		close(l.mu.wake)
		l.mu.wake = nil
	}
}

// Next is the LSN that the next record will get.
func (l *Log) Next() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.next
}

// Durable is the LSN below which every record is durable.
func (l *Log) Durable() LSN {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.durable
}

// Space is ErrNoSpace while the log waits for space on its disk: whoever is about to give something an offset asks
// first.
func (l *Log) Space() error {
	if l.noSpace.Load() {
		return ErrNoSpace
	}
	return nil
}

// Err is why the log failed, ErrClosed once it was closed, else nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}
