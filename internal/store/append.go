package store

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
)

// ErrAppendFailed marks the error of an append that failed after its space was reserved: a leader gives up its epoch then.
var ErrAppendFailed = errors.New("the append failed")

// Result tells what became of an append.
type Result struct {
	BaseOffset    kafka.Offset
	LastOffset    kafka.Offset // inclusive
	LogAppendTime int64        // milliseconds since 1970, where the topic stamps at append; else -1
	LogStart      kafka.Offset
	Duplicate     bool // an idempotent producer repeated itself: the offsets are the original's
}

// EndOffset is the offset behind the last record.
func (r Result) EndOffset() kafka.Offset { return r.LastOffset + 1 }

// Append appends validated batches as the leader of epoch: it numbers them in place, writes them to the page cache and
// submits them to the WAL, in the order of the calls. It does not wait for the disk; see OnDurable. The caller may reuse
// batches. Errors are those of log.Append; KAFKA_STORAGE_ERROR if there is no space, which heals by itself, or if the
// storage failed. After an error nothing was appended; ErrAppendFailed where it was tried.
func (p *Partition) Append(batches []byte, epoch kafka.LeaderEpoch, origin record.Origin) (Result, error) {
	return p.append(batches, false, func(l *log.Log) (log.Placement, error) {
		if epoch < p.fence {
			return log.Placement{}, fmt.Errorf("append to %s in leader epoch %d, it follows in epoch %d: %w", p.name(), epoch, p.fence, log.ErrNotAtEnd)
		}
		return l.Append(batches, epoch, origin)
	})
}

// Follow ends leadership: no Append of an older epoch than this one comes after it. It waits for one that is under way.
// Retention follows the leader's log start from now on, until StartEpoch.
func (p *Partition) Follow(epoch kafka.LeaderEpoch) {
	p.lockAppend()
	defer p.unlockAppend()
	p.fence = max(p.fence, epoch)
	p.leads.Store(false)
	p.follows.Store(true)
}

// AppendReplicated appends batches that a leader numbered, exactly at the log's end (log.ErrNotAtEnd otherwise). With hold
// the caller sees to it that they become durable, by Commit.
func (p *Partition) AppendReplicated(batches []byte, hold bool) (Result, error) {
	p.leads.Store(false)
	r, err := p.append(batches, hold, func(l *log.Log) (log.Placement, error) { return l.AppendAt(batches) })
	if err == nil {
		p.grew(int64(len(batches)))
	}
	return r, err
}

// AppendStretch appends what a leader has left from the log's end on (log.ErrNotAtEnd otherwise): compaction may have left
// gaps. The caller may reuse the stretch.
func (p *Partition) AppendStretch(s *log.Stretch) (Result, error) {
	p.leads.Store(false)
	return p.appendOp(operation{kind: opStretch, epochs: s.Epochs, deletes: s.Deletes}, s.Batches, false, func(l *log.Log) (log.Placement, error) {
		at, err := l.AppendStretch(s)
		at.BaseOffset = s.From
		return at, err
	})
}

// Commit makes durable what was submitted to the WAL, of all partitions, at best on the caller's goroutine; see wal.Commit.
func (p *Partition) Commit() { p.s.wal.Commit() }

func (p *Partition) append(batches []byte, hold bool, write func(*log.Log) (log.Placement, error)) (Result, error) {
	return p.appendOp(operation{kind: opAppend}, batches, hold, write)
}

func (p *Partition) appendOp(op operation, batches []byte, hold bool, write func(*log.Log) (log.Placement, error)) (Result, error) {
	p.lockAppend()
	defer p.unlockAppend()
	if err := p.usable(); err != nil {
		return Result{}, err
	}
	l, err := p.opened()
	if err != nil {
		return Result{}, storageError(err)
	}
	if err := p.s.reserve(int64(len(batches))); err != nil {
		return Result{}, err
	}
	at, err := write(l)
	if err != nil {
		return Result{}, p.appendError(err)
	}
	r := Result{BaseOffset: at.BaseOffset, LastOffset: at.EndOffset - 1, LogAppendTime: at.LogAppendTime, LogStart: p.LogStart(), Duplicate: at.Duplicate}
	if at.Duplicate {
		return r, nil
	}
	op.id, op.generation = p.id, at.Generation
	op.segment, op.position, op.length, op.crc = at.Base, at.Position, uint32(at.Length), at.CRC
	op.first, op.end = at.BaseOffset, at.EndOffset
	p.segment.Store(at.Segment)
	p.markDirty()
	p.logEnd.Store(int64(at.EndOffset))
	segment := at.Segment
	if at.Length == 0 {
		segment = nil // there is nothing to refer to
	}
	if _, err := p.s.submit(&op, p, batches, segment, hold); err != nil {
		return Result{}, fmt.Errorf("%w (%w)", err, ErrAppendFailed)
	}
	p.sinceSnapshot.Add(at.Length)
	p.s.appended(at.Length)
	if p.lazy.Load() {
		p.advance(int64(at.EndOffset))
	}
	return r, nil
}

// appendError maps what the log or the file system refused with.
func (p *Partition) appendError(err error) error {
	var protocol *kafka.Error
	switch {
	case errors.As(err, &protocol), errors.Is(err, log.ErrNotAtEnd):
		return err
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w (%w)", kafka.ErrKafkaStorageError.With("no space left for partition %s: free some in %s", p.name(), p.s.o.Dir), ErrAppendFailed)
	}
	p.s.o.Logger.Error("append failed", "partition", p.name(), "error", err)
	p.s.failIfSync(err)
	return fmt.Errorf("%w (%w)", storageError(err), ErrAppendFailed)
}

// storageError gives an error that has no code of its own KAFKA_STORAGE_ERROR's.
func storageError(err error) error {
	var protocol *kafka.Error
	if errors.As(err, &protocol) {
		return err
	}
	return fmt.Errorf("%w", kafka.ErrKafkaStorageError.With("%v", err))
}

// markDirty comes after the write and before the submission; see the package's invariants.
func (p *Partition) markDirty() {
	if p.dirty.Swap(true) {
		return
	}
	s := p.s
	s.dirtyCount.Add(1)
	s.mu.Lock()
	s.mu.dirty = append(s.mu.dirty, p)
	s.mu.Unlock()
}

// forgetDeletedLocked drops deleted partitions from the dirty list once they may be half of it: on a node with little to
// write the next checkpoint is far away, and they would stay in memory until then.
func (s *Store) forgetDeletedLocked() {
	if s.mu.deleted++; s.mu.deleted < 256 || 2*s.mu.deleted < len(s.mu.dirty) {
		return
	}
	s.mu.deleted = 0
	before := len(s.mu.dirty)
	s.mu.dirty = slices.DeleteFunc(s.mu.dirty, func(p *Partition) bool { return s.mu.partitions[p.id] != p })
	s.dirtyCount.Add(int64(len(s.mu.dirty) - before))
}
