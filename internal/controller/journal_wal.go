package controller

import (
	"errors"
	"fmt"
	"time"

	"chronik/internal/wal"
)

// The metadata WAL's files are small: the image is, and so is what is written between two snapshots. Their number is not
// bounded here, because a full log would keep the snapshot from being written that makes room.
const (
	walFileSize = 4 << 20
	walFilesMax = 1 << 20
	// Each start goes on in another file: at so many a snapshot is due although little is in them.
	walFilesMany = 6
)

// walJournal is the metadata WAL.
type walJournal struct {
	log     *wal.Log
	stream  *wal.Stream
	written int64
}

// openJournal opens the metadata WAL and folds what it holds. durable and failed are called from the WAL's goroutines and
// must not block.
func openJournal(o *Options, durable func(count int64), failed func(error)) (journal, *recovered, error) {
	log, err := wal.Open(wal.Options{
		FS:             o.FS,
		Dir:            o.Dir,
		FileSize:       o.WALFileBytes,
		FilesMax:       walFilesMax,
		ReferenceBytes: -1,
		Clock:          o.Clock,
		Logger:         o.Logger,
		Fatal:          failed,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("open the metadata WAL: %w", err)
	}
	r, err := replay(log)
	if err != nil {
		return nil, nil, errors.Join(err, log.Close())
	}
	if needed := r.needed(); needed > 0 {
		log.Release(needed) // the process may have died before it could
	}
	names, err := o.FS.ReadDir(o.Dir)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("list the metadata WAL: %w", err), log.Close())
	}
	r.crowded = len(names) >= walFilesMany
	return &walJournal{log: log, stream: &wal.Stream{OnDurable: durable}}, r, nil
}

func replay(log *wal.Log) (*recovered, error) {
	r := &recovered{}
	if err := log.Replay(0, func(rec wal.Record) error { return r.add(rec.LSN, rec.Data) }); err != nil {
		return nil, err
	}
	return r, r.check()
}

func (j *walJournal) write(payload []byte) (wal.LSN, error) {
	j.written++
	return j.log.Submit(&wal.Entry{Head: payload, Stream: j.stream, End: j.written})
}

func (j *walJournal) release(position wal.LSN) { j.log.Release(position) }

func (j *walJournal) close() error { return j.log.Close() }

func (j *walJournal) syncAge() time.Duration { return j.log.Stats().SyncRunning }

// memoryJournal keeps nothing.
type memoryJournal struct {
	written int64
	durable func(count int64)
}

func (j *memoryJournal) write([]byte) (wal.LSN, error) {
	j.written++
	j.durable(j.written)
	return wal.LSN(j.written), nil
}

func (j *memoryJournal) release(wal.LSN) {}

func (j *memoryJournal) syncAge() time.Duration { return 0 }

func (j *memoryJournal) close() error { return nil }
