package store

import (
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/wal"
)

// survey is the first pass over the WAL: what has become of each partition, so that the second one knows what to apply.
type survey struct {
	plans map[kafka.TopicPartition]*plan
	// referencesUntil: what is referred to below it had been synced.
	referencesUntil wal.LSN
	records         int64
}

// plan is what replay has learnt of one partition in the first pass over the WAL: from which state it starts and which
// operations still count. Replay itself is the second pass.
type plan struct {
	id kafka.TopicPartition // filled in by who needs it
	partitionState
	generation uint64 // the last one: appends to an earlier one were cut, or are in the state
	deleted    bool
	appends    bool // there are some to apply
	rebased    bool // an operation brought its own synced state, of which only the log's files know the epoch
	p          *Partition
	log        *log.Log
	ended      bool // behind a reference that never reached the disk
}

func newSurvey(c *checkpoint) survey {
	sv := survey{plans: map[kafka.TopicPartition]*plan{}}
	for i := range c.partitions {
		e := &c.partitions[i]
		sv.plans[e.id] = &plan{partitionState: e.partitionState, generation: e.synced.Generation}
	}
	return sv
}

// add takes up a record of the WAL.
func (sv *survey) add(rec wal.Record) error {
	op, _, err := decodeOperation(rec)
	if err != nil {
		return err
	}
	sv.referencesUntil = max(sv.referencesUntil, rec.ReferencesUntil)
	sv.records++
	pl := sv.plans[op.id]
	if pl == nil {
		// Without a creation it belongs to a partition that was deleted when the checkpoint was made.
		pl = &plan{deleted: true}
		sv.plans[op.id] = pl
	}
	pl.learn(rec.LSN, &op)
	return nil
}

// learn takes up what an operation says of the state that replay starts from.
func (pl *plan) learn(lsn wal.LSN, op *operation) {
	if lsn < pl.created {
		return
	}
	switch op.kind {
	case opCreate:
		if lsn > pl.created {
			*pl = plan{partitionState: newState(lsn), generation: uint64(lsn)}
		}
	case opDelete:
		pl.deleted = true
	case opTruncate:
		pl.rebased = true
		if op.generation > pl.generation {
			pl.synced, pl.generation = op.base, op.generation
			pl.dropEpoch(pl.epoch.Offset >= op.offset)
		}
	case opReset:
		if op.generation > pl.generation {
			pl.generation = op.generation
			pl.synced = log.Checkpoint{Segment: op.offset, EndOffset: op.offset, LogStart: op.offset, Generation: op.generation}
			pl.dropEpoch(true)
		}
	case opLogStart:
		pl.rebased = true
		if op.base.Generation == pl.generation && op.base.EndOffset >= pl.synced.EndOffset {
			start := max(op.base.LogStart, pl.synced.LogStart)
			pl.synced = op.base
			pl.synced.LogStart = start
		} else if op.base.Generation == pl.generation {
			pl.synced.LogStart = max(pl.synced.LogStart, op.base.LogStart)
		}
	case opAppend, opStretch:
		pl.appends = pl.appends || op.generation >= pl.generation && op.end > pl.synced.EndOffset
	}
}

func (pl *plan) dropEpoch(cut bool) {
	if cut {
		pl.epoch = log.EpochOffset{Epoch: kafka.NoLeaderEpoch}
	}
}
