package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/wal"
)

// ErrClosed is the answer of a store that was closed.
var ErrClosed = errors.New("the store is closed")

// Store is a node's storage. Its methods may be called from any goroutine.
type Store struct {
	o          Options
	lock       io.Closer
	identity   Identity
	wal        *wal.Log
	files      *log.Files
	space      space
	scrub      scrubber
	clean      cleaners
	unclean    bool
	cleanStart wal.LSN // where the WAL was when a clean start found it; 0 after an unclean one
	recovery   Recovery

	mu struct {
		sync.Mutex
		partitions map[kafka.TopicPartition]*Partition
		dirty      []*Partition // have appends that are not synced, the oldest first
		deleted    int          // partitions deleted since dirty was last gone through
		closed     bool
		// creatingFrom is no later than the LSN of a creation that is logged and not in partitions yet; 0 if there is none.
		creatingFrom wal.LSN
	}
	fatal atomic.Pointer[error]

	sinceCheckpoint atomic.Int64 // bytes logged, bulk by reference included
	sinceSync       atomic.Int64 // bytes appended that a background sync has to bring to the disk
	dirtyCount      atomic.Int64
	checkpoints     atomic.Int64
	creating        chan struct{} // one-slot: who creates a partition
	syncSlot        chan struct{} // one-slot: who syncs segments and writes checkpoints
	syncList        []*Partition  // syncSlot's
	syncWanted      chan struct{}
	behind          chan *Partition // to behindLoop
	stop            chan struct{}
	background      sync.WaitGroup
	walFull         atomic.Bool
	syncPutOff      atomic.Bool // the last background sync found no space
}

// Recovery says what Open found.
type Recovery struct {
	Unclean    bool // the last process did not end properly
	Records    int64
	Partitions int   // that replay changed
	Bytes      int64 // of record batches applied
	Duration   time.Duration
}

// Unclean tells whether the last process on this directory ended without a clean shutdown: replicas with `sync =
// interval` may have lost the tail of what they acknowledged.
func (s *Store) Unclean() bool { return s.unclean }

// Recovery says what Open had to do.
func (s *Store) Recovery() Recovery { return s.recovery }

// Identity is the data directory's.
func (s *Store) Identity() Identity { return s.identity }

// CreatePartition makes a partition, or returns the one there is with the configuration applied. It does not wait for the
// disk: the creation is durable no later than anything that is done to the partition.
func (s *Store) CreatePartition(id kafka.TopicPartition, c config.Topic) (*Partition, error) {
	s.creating <- struct{}{}
	defer func() { <-s.creating }()
	s.mu.Lock()
	p, closed := s.mu.partitions[id], s.mu.closed
	s.mu.creatingFrom = s.wal.Next() // a checkpoint that does not have the partition yet must not start behind its creation
	s.mu.Unlock()
	defer s.created(nil)
	if p != nil && p.deleting.Load() {
		return nil, kafka.ErrKafkaStorageError.With("partition %s is being deleted; try again", id)
	}
	if p != nil {
		p.reconfigure(c)
		return p, nil
	}
	if closed {
		return nil, ErrClosed
	}
	lsn, err := s.submit(&operation{kind: opCreate, id: id}, nil, nil, nil, false)
	if err != nil {
		return nil, err
	}
	p = s.newPartition(id, newState(lsn))
	p.reconfigure(c)
	s.created(p)
	return p, nil
}

// created ends a creation: the partition is there, or is not to be.
func (s *Store) created(p *Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.creatingFrom = 0
	if p != nil {
		s.mu.partitions[p.id] = p
	}
}

// Partition returns a partition, nil if there is none.
func (s *Store) Partition(id kafka.TopicPartition) *Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.partitions[id]
}

// Partitions lists all partitions, sorted.
func (s *Store) Partitions() []*Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Partition, 0, len(s.mu.partitions))
	for _, p := range s.mu.partitions {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *Partition) int { return compareIDs(a.id, b.id) })
	return list
}

func compareIDs(a, b kafka.TopicPartition) int {
	if c := slices.Compare(a.Topic[:], b.Topic[:]); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}

// Reconfigure gives a partition another configuration; an unknown partition is no error.
func (s *Store) Reconfigure(id kafka.TopicPartition, c config.Topic) {
	if p := s.Partition(id); p != nil {
		p.reconfigure(c)
	}
}

// DeletePartition logs the deletion durably and then removes the files; who still reads them keeps them until done. An
// unknown partition is no error.
func (s *Store) DeletePartition(ctx context.Context, id kafka.TopicPartition) error {
	p := s.Partition(id)
	if p == nil {
		return nil
	}
	if err := p.lockChange(ctx); err != nil {
		return err
	}
	defer p.unlockChange()
	p.lockAppend()
	defer p.unlockAppend()
	if s.Partition(id) != p {
		return nil
	}
	p.deleting.Store(true)
	op := operation{kind: opDelete, id: id}
	lsn, err := s.submit(&op, nil, nil, nil, false)
	if err != nil {
		return err
	}
	// From here on the deletion happens, whether or not the caller waits for it: context.WithoutCancel.
	if err := s.wal.WaitDurable(context.WithoutCancel(ctx), lsn); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.mu.partitions, id)
	s.forgetDeletedLocked()
	s.mu.Unlock()
	return p.removeFiles()
}

func (s *Store) partitionDir(id kafka.TopicPartition) string {
	return path.Join(s.o.Dir, partitionsDir, id.String())
}

// fail is the WAL's Fatal, and that of every other error after which the disk cannot be trusted.
func (s *Store) fail(err error) {
	if s.fatal.CompareAndSwap(nil, &err) {
		if s.wal != nil {
			s.wal.Abort(err) // nothing is acknowledged from here on, and nobody waits for space in the WAL
		}
		s.o.Fatal(err)
	}
}

// failed is the reason why nothing can be made durable any more; nil while all is well.
func (s *Store) failed() error {
	if err := s.fatal.Load(); err != nil {
		return kafka.ErrKafkaStorageError.With("the node's storage failed: %v", *err)
	}
	return nil
}

func (s *Store) errorf(format string, args ...any) error {
	return fmt.Errorf("data directory %s: %w", s.o.Dir, fmt.Errorf(format, args...))
}
