package store

import (
	"context"
	"fmt"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/wal"
)

// StartEpoch notes that a leader epoch begins at the log's end, and returns once that is durable. An epoch that is the
// last one already is no change; an older one is log.ErrNotAtEnd.
func (p *Partition) StartEpoch(ctx context.Context, epoch kafka.LeaderEpoch) error {
	lsn, err := p.submitEpoch(epoch)
	if err != nil {
		return err
	}
	return p.s.wal.WaitDurable(ctx, lsn)
}

func (p *Partition) submitEpoch(epoch kafka.LeaderEpoch) (wal.LSN, error) {
	p.lockAppend()
	defer p.unlockAppend()
	if err := p.usable(); err != nil {
		return 0, err
	}
	last := p.Epoch().Epoch
	if epoch < max(last, p.fence) {
		return 0, fmt.Errorf("start leader epoch %d of %s after %d: %w", epoch, p.name(), max(last, p.fence), log.ErrNotAtEnd)
	}
	p.fence = epoch
	p.leads.Store(true)
	p.follows.Store(false)
	end := p.LogEnd()
	if epoch > last {
		if err := p.noteEpoch(epoch, end); err != nil {
			return 0, err
		}
	}
	// Logged again even if it is known: whoever asks wants it durable, and an earlier attempt may not be.
	op := operation{kind: opEpoch, id: p.id, generation: p.generation(), epoch: epoch, offset: end}
	if epoch == last {
		op.offset = p.Epoch().Offset
	}
	return p.s.submit(&op, nil, nil, nil, false)
}

func (p *Partition) generation() uint64 {
	if l := p.log.Load(); l != nil {
		return l.Generation()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.state.synced.Generation
}

// noteEpoch leaves a log that is not open alone: ten thousand partitions start an epoch each time a node starts.
func (p *Partition) noteEpoch(epoch kafka.LeaderEpoch, end kafka.Offset) error {
	p.opening <- struct{}{}
	defer func() { <-p.opening }()
	if l := p.log.Load(); l != nil {
		return l.StartEpoch(epoch, end)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.state.epoch = log.EpochOffset{Epoch: epoch, Offset: end}
	return nil
}

// Truncate cuts everything at and behind an offset. It returns once the cut is durable; what is appended afterwards
// belongs to a new generation of the log. The end may come to lie before the offset, at a batch's start. A leader epoch
// that began where the log ends then, and has no record, is forgotten; all of them if the log is empty.
func (p *Partition) Truncate(ctx context.Context, to kafka.Offset) error {
	return p.restructure(ctx, func(l *log.Log) error {
		if end := l.LogEnd(); to > end || to == end && l.Epoch().Offset < end && (end > l.LogStart() || len(l.Epochs()) == 0) {
			return nil
		}
		if _, err := p.syncLog(l); err != nil {
			return err
		}
		base, err := l.StateAt(to)
		if err != nil {
			return storageError(err)
		}
		op := operation{kind: opTruncate, id: p.id, generation: base.Generation + 1, offset: base.EndOffset, base: base}
		return p.logged(ctx, &op, func() error {
			end, err := l.TruncateTo(op.offset)
			if err == nil {
				p.ended(end, l)
			}
			p.markDirty() // a clean stop has to sync the cut: the next start finds the files cut, and does not look whether the disk has it
			return err
		})
	})
}

// Reset drops everything and starts again, empty, at an offset; durable when it returns.
func (p *Partition) Reset(ctx context.Context, offset kafka.Offset) error {
	return p.ResetTo(ctx, log.Beginning{Offset: offset})
}

// ResetTo drops everything and starts again, empty, with what another replica gave it to go on from; durable when it
// returns. CORRUPT_MESSAGE if that is broken: nothing has changed then.
func (p *Partition) ResetTo(ctx context.Context, b log.Beginning) error {
	if err := b.Check(); err != nil {
		return kafka.ErrCorruptMessage.With("partition %s cannot begin at offset %d: %v", p.name(), b.Offset, err)
	}
	return p.restructure(ctx, func(l *log.Log) error {
		op := operation{kind: opReset, id: p.id, generation: l.Generation() + 1, offset: b.Offset, beginning: b}
		return p.logged(ctx, &op, func() error {
			if err := l.Reset(b.Offset); err != nil {
				return err
			}
			p.logStart.Store(int64(b.Offset))
			p.ended(b.Offset, l)
			if len(b.Epochs) == 0 && len(b.Producers) == 0 {
				return nil
			}
			err := l.Begin(b)
			p.markDirty() // a checkpoint behind this operation has to sync what it brought
			return err
		})
	})
}

// ended notes where the log ends after it was cut.
func (p *Partition) ended(end kafka.Offset, l *log.Log) {
	p.logEnd.Store(int64(end))
	p.durable.Store(int64(end))
}

// SetLogStart raises the first offset that is served, at most to the high watermark (OFFSET_OUT_OF_RANGE above it), and
// removes the segments wholly below. It returns once that is durable.
func (p *Partition) SetLogStart(ctx context.Context, offset kafka.Offset) error {
	if hw := kafka.Offset(p.hw.Load()); offset > hw {
		return kafka.ErrOffsetOutOfRange.With("cannot delete records of %s up to offset %d: the high watermark is %d", p.name(), offset, hw)
	}
	if err := p.lockChange(ctx); err != nil {
		return err
	}
	defer p.unlockChange()
	if err := p.usable(); err != nil {
		return err
	}
	if offset <= p.LogStart() {
		return nil
	}
	if end := p.LogEnd(); offset > end { // it was reset meanwhile
		return kafka.ErrOffsetOutOfRange.With("cannot delete records of %s up to offset %d: it ends at %d", p.name(), offset, end)
	}
	l, err := p.opened()
	if err != nil {
		return storageError(err)
	}
	rolled, err := p.rollAt(l, offset)
	if err != nil {
		return err
	}
	base, err := p.syncLog(l)
	if err != nil {
		return err
	}
	if rolled && base.EndOffset == offset { // nothing of what is synced stays
		base.Segment, base.Position = offset, 0
	}
	base.LogStart = offset
	op := operation{kind: opLogStart, id: p.id, base: base}
	return p.logged(ctx, &op, func() error {
		if err := l.SetLogStart(offset); err != nil {
			return err
		}
		p.logStart.Store(int64(offset))
		_, err := l.DropBelowLogStart()
		return err
	})
}

// rollAt begins a new segment if the log ends at offset: the active one is to go too.
func (p *Partition) rollAt(l *log.Log, offset kafka.Offset) (bool, error) {
	p.lockAppend()
	defer p.unlockAppend()
	if p.LogEnd() != offset {
		return false, nil
	}
	if err := l.Roll(); err != nil {
		return false, p.appendError(err)
	}
	return true, nil
}

// restructure orders a change against appends and other changes.
func (p *Partition) restructure(ctx context.Context, do func(*log.Log) error) error {
	if err := p.lockChange(ctx); err != nil {
		return err
	}
	defer p.unlockChange()
	p.lockAppend()
	defer p.unlockAppend()
	if err := p.usable(); err != nil {
		return err
	}
	l, err := p.opened()
	if err != nil {
		return storageError(err)
	}
	return do(l)
}

// logged makes an operation durable and then applies it. A checkpoint that is made in between starts before it. Once it
// is submitted there is no way back, so that ctx is not asked again.
func (p *Partition) logged(ctx context.Context, op *operation, apply func() error) error {
	p.setChangeFrom(p.s.wal.Next())
	defer p.setChangeFrom(0)
	lsn, err := p.s.submit(op, nil, nil, nil, false)
	if err != nil {
		return err
	}
	if err := p.s.wal.WaitDurable(context.WithoutCancel(ctx), lsn); err != nil {
		return storageError(err)
	}
	if err := apply(); err != nil {
		// The log and its files disagree with what is logged: only a recovery brings them together.
		p.s.fail(fmt.Errorf("%s of partition %s was logged but could not be applied: %w", opNames[op.kind], p.name(), err))
		return storageError(err)
	}
	return nil
}

func (p *Partition) setChangeFrom(lsn wal.LSN) {
	p.mu.Lock()
	p.mu.changeFrom = lsn
	p.mu.Unlock()
}

// syncLog syncs all of a log; an error is fatal, but for a lack of space while an index or the like was written: it loses
// nothing, and the caller has changed nothing yet.
func (p *Partition) syncLog(l *log.Log) (log.Checkpoint, error) {
	c, err := l.Sync()
	if err != nil && onlySpace(err) {
		return c, p.appendError(err)
	}
	if err != nil {
		p.s.fail(fmt.Errorf("sync partition %s: %w", p.name(), err))
		return c, storageError(err)
	}
	return c, nil
}
