package store

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/wal"
)

// Partition is the storage of one partition. Its log is opened when it is first needed; until then the state that the
// checkpoint holds answers.
type Partition struct {
	s      *Store
	id     kafka.TopicPartition
	stream wal.Stream

	appending chan struct{}     // one-slot: the order of appends, held over the write
	head      []byte            // appending's: room for a WAL record's head
	fence     kafka.LeaderEpoch // appending's: no append of an older epoch as its leader
	changing  chan struct{}     // one-slot: truncation, reset, log start, deletion; taken before appending
	opening   chan struct{}     // one-slot

	log           atomic.Pointer[log.Log]
	logEnd        atomic.Int64
	durable       atomic.Int64
	logStart      atomic.Int64
	hw            atomic.Int64 // the bound for retention, DeleteRecords and zero-copy
	dirty         atomic.Bool
	deleting      atomic.Bool
	leads         atomic.Bool                     // it was last told of a leader epoch of its own, not given a leader's batches
	follows       atomic.Bool                     // it was last told to follow: its leader says what goes
	lazy          atomic.Bool                     // sync = interval
	segment       atomic.Pointer[log.SegmentFile] // appended to last, nil if it was synced since
	sinceSnapshot atomic.Int64                    // bytes appended since the producers' state was written
	unseen        atomic.Int64                    // bytes that a leader sent since grew asked for a look
	fetched       atomic.Bool                     // by somebody, since dropBehind looked last
	heard         atomic.Pointer[func(end kafka.Offset)]
	whenDamaged   atomic.Pointer[func()]
	checkpointed  atomic.Pointer[log.Checkpoint] // what the checkpoint on the disk says
	uncleanable   atomic.Int64                   // compaction failed: the time to try again, nanoseconds since 1970; 0 if not

	mu struct {
		sync.Mutex
		state      partitionState // as of when the log was opened; the log knows better afterwards
		config     config.Topic
		changeFrom wal.LSN // no later than the LSN of a change that is logged and not yet applied; 0 if there is none
		err        error   // why the partition takes nothing any more
	}
}

// partitionState is what the checkpoint holds of a partition.
type partitionState struct {
	created wal.LSN // of the creation: what was logged before belongs to an earlier partition of the same ID
	synced  log.Checkpoint
	epoch   log.EpochOffset // the last leader epoch
}

// newState is that of a partition as its creation leaves it. Its generation is higher than all of an earlier partition of
// the same ID, each of which took a record of the WAL: so the log does not take that one's files, which a power loss may
// bring back, for its own.
func newState(created wal.LSN) partitionState {
	return partitionState{
		created: created, synced: log.Checkpoint{Generation: uint64(created)},
		epoch: log.EpochOffset{Epoch: kafka.NoLeaderEpoch},
	}
}

func (s *Store) newPartition(id kafka.TopicPartition, st partitionState) *Partition {
	p := &Partition{
		s: s, id: id,
		appending: make(chan struct{}, 1), changing: make(chan struct{}, 1), opening: make(chan struct{}, 1),
		fence: kafka.NoLeaderEpoch,
	}
	p.mu.state = st
	p.mu.config = s.o.Config.Topic
	p.logEnd.Store(int64(st.synced.EndOffset))
	p.durable.Store(int64(st.synced.EndOffset))
	p.logStart.Store(int64(st.synced.LogStart))
	p.stream.OnDurable = p.advance
	return p
}

// ID names the partition for good.
func (p *Partition) ID() kafka.TopicPartition { return p.id }

func (p *Partition) name() string {
	if p.s.o.Name != nil {
		if n := p.s.o.Name(p.id.Topic); n != "" {
			return fmt.Sprintf("%s-%d", n, p.id.Partition)
		}
	}
	return p.id.String()
}

// LogStart is the first offset that is served.
func (p *Partition) LogStart() kafka.Offset { return kafka.Offset(p.logStart.Load()) }

// LogEnd is the offset that the next record will get.
func (p *Partition) LogEnd() kafka.Offset { return kafka.Offset(p.logEnd.Load()) }

// DurableEnd is the offset below which everything is on the disk; with `sync = interval`, in the page cache.
func (p *Partition) DurableEnd() kafka.Offset { return kafka.Offset(p.durable.Load()) }

// OnDurable sets who hears of a new durable end: once per group commit, on the WAL's completion path, where it must not
// block nor call the store; with `sync = interval` also from within Append. Set it before the first append.
func (p *Partition) OnDurable(f func(end kafka.Offset)) { p.heard.Store(&f) }

// OnDamaged sets who hears that a range was found to be damaged. It must not block, nor call the store.
func (p *Partition) OnDamaged(f func()) { p.whenDamaged.Store(&f) }

// Damaged lists the ranges that are known not to be as they were written, as far as the log is open.
func (p *Partition) Damaged() []log.Damage {
	if l := p.log.Load(); l != nil {
		return l.Damaged()
	}
	return nil
}

// advance is the completion path: everything below end is durable.
func (p *Partition) advance(end int64) {
	for {
		old := p.durable.Load()
		if end <= old {
			return
		}
		if p.durable.CompareAndSwap(old, end) {
			break
		}
	}
	if f := p.heard.Load(); f != nil {
		(*f)(kafka.Offset(end))
	}
}

// SetHighWatermark tells what is committed: retention, DeleteRecords and zero-copy act below it only.
func (p *Partition) SetHighWatermark(offset kafka.Offset) {
	p.hw.Store(int64(offset))
	if l := p.log.Load(); l != nil {
		l.OnHighWatermark(offset)
	}
}

func (p *Partition) reconfigure(c config.Topic) {
	p.lazy.Store(c.Sync == config.SyncInterval)
	p.mu.Lock()
	p.mu.config = c
	p.mu.Unlock()
	if l := p.log.Load(); l != nil {
		l.Reconfigure(p.s.logConfig(c))
	}
}

func (s *Store) logConfig(c config.Topic) log.Config {
	segmentMillis := c.SegmentMillis
	if c.CleanupPolicy.Compact { // only what is in a closed segment can be compacted (KIP-354)
		segmentMillis = min(segmentMillis, c.MaxCompactionLagMillis)
	}
	return log.Config{
		SegmentBytes: int64(c.SegmentBytes), SegmentMillis: segmentMillis,
		IndexIntervalBytes: int64(c.IndexIntervalBytes), ProducerExpiry: s.o.Config.ProducerIDExpiration,
	}
}

func (p *Partition) lockAppend()   { p.appending <- struct{}{} }
func (p *Partition) unlockAppend() { <-p.appending }

func (p *Partition) lockChange(ctx context.Context) error {
	select {
	case p.changing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Partition) unlockChange() { <-p.changing }

// usable is nil while the partition takes appends and answers.
func (p *Partition) usable() error {
	if p.deleting.Load() {
		return kafka.ErrUnknownTopicOrPartition.With("partition %s was deleted", p.name())
	}
	if err := p.s.failed(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.err
}

// opened returns the partition's log, opened now if it was not yet.
func (p *Partition) opened() (*log.Log, error) {
	if l := p.log.Load(); l != nil {
		return l, nil
	}
	p.opening <- struct{}{}
	defer func() { <-p.opening }()
	if l := p.log.Load(); l != nil {
		return l, nil
	}
	if err := p.usable(); err != nil {
		return nil, err
	}
	l, err := p.openLog()
	if err == nil {
		err = l.FinishRecovery()
	}
	if err == nil { // a deletion that a crash undid
		_, err = l.DropBelowLogStart()
	}
	if err != nil {
		p.s.failIfSync(err)
		return nil, err
	}
	if hw := p.hw.Load(); hw > 0 {
		l.OnHighWatermark(kafka.Offset(hw))
	}
	p.log.Store(l)
	return l, nil
}

// openLog opens the log at the state that the store knows. The caller stores it.
func (p *Partition) openLog() (*log.Log, error) {
	p.mu.Lock()
	st, c := p.mu.state, p.mu.config
	p.mu.Unlock()
	l, err := log.Open(log.Options{
		FS: p.s.o.FS, Dir: p.s.partitionDir(p.id), Partition: p.id, Name: p.name(), Config: p.s.logConfig(c),
		Clock: p.s.o.Clock, Logger: p.s.o.Logger, Files: p.s.files, Codecs: p.s.o.Codecs,
		Checkpoint: &st.synced,
		// With nothing synced, what there is may be left over from an append that failed.
		Unclean: p.s.unclean || st.synced.Position == 0,
	})
	if err != nil {
		return nil, fmt.Errorf("open partition %s: %w", p.name(), err)
	}
	for _, d := range l.Damaged() {
		p.damaged(d)
	}
	// An epoch without records may be known to the checkpoint only. One that began earlier is in the log's history, unless
	// it was cut since; one that began later is in the WAL.
	if st.epoch.Epoch > l.Epoch().Epoch && st.epoch.Offset == l.LogEnd() {
		if err := l.StartEpoch(st.epoch.Epoch, st.epoch.Offset); err != nil {
			return nil, fmt.Errorf("open partition %s: epoch %d at offset %d: %w", p.name(), st.epoch.Epoch, st.epoch.Offset, err)
		}
	}
	return l, nil
}

func (p *Partition) removeFiles() error {
	l, err := p.closeForDelete()
	if err != nil {
		return err
	}
	if l != nil {
		return l.Delete()
	}
	return p.s.o.FS.RemoveAll(p.s.partitionDir(p.id))
}

func (p *Partition) closeForDelete() (*log.Log, error) {
	p.opening <- struct{}{}
	defer func() { <-p.opening }()
	return p.log.Load(), nil
}

func (p *Partition) topic() config.Topic {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.config
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
