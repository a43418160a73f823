package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// Open opens a data directory, made if it does not exist, and recovers what the last process left. vfs.ErrLocked if
// another process has it. Damage that no crash explains is a *wal.CorruptionError or *log.Corruption.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.setDefaults()
	s := &Store{
		o: o, creating: make(chan struct{}, 1), syncSlot: make(chan struct{}, 1), syncWanted: make(chan struct{}, 1), stop: make(chan struct{}),
		behind: make(chan *Partition, behindQueue),
	}
	s.mu.partitions = map[kafka.TopicPartition]*Partition{}
	if err := s.open(ctx); err != nil {
		if s.wal != nil {
			_ = s.wal.Close()
		}
		s.release()
		return nil, err
	}
	if !o.NoBackground {
		s.background.Add(3)
		go s.syncLoop()
		go s.behindLoop()
		go s.retentionLoop()
		if o.Config.ScrubBytesPerSecond > 0 && o.Config.ScrubInterval > 0 {
			s.background.Add(1)
			go s.scrubLoop()
		}
		if o.Config.CleanerEnabled {
			s.background.Add(o.Config.CleanerThreads)
			for range o.Config.CleanerThreads {
				go s.cleanLoop()
			}
		}
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	fsys, dir := s.o.FS, s.o.Dir
	if err := makeDirs(fsys, dir); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	lock, err := fsys.Lock(path.Join(dir, lockName))
	if errors.Is(err, vfs.ErrLocked) {
		return s.errorf("another chronik process uses it: %w", err)
	}
	if err != nil {
		return fmt.Errorf("lock data directory: %w", err)
	}
	s.lock = lock
	if s.identity, err = openIdentity(fsys, dir, s.o.NodeID); err != nil {
		return err
	}
	c, err := s.openCheckpoint()
	if err != nil {
		return err
	}
	s.files = log.NewFiles(fsys, s.o.Config.OpenFilesMax)
	if s.wal, err = s.openWAL(c); err != nil {
		return err
	}
	if err := s.checkWAL(); err != nil {
		return err
	}
	s.unclean = !s.wal.Clean() && s.wal.Next() > 1
	if !s.unclean {
		s.cleanStart = s.wal.Next()
	}
	return s.recoverOnceThereIsSpace(ctx, c)
}

// makeDirs makes the directories. Until there is an identity, which is written after this, their names may not be durable,
// whoever made them.
func makeDirs(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(path.Join(dir, nodeName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.MkdirAll(path.Join(dir, partitionsDir)); err != nil {
		return err
	}
	for d := dir; ; d = path.Dir(d) {
		if err := fsys.SyncDir(d); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		if d == path.Dir(d) {
			return nil
		}
	}
}

func (s *Store) openWAL(c *checkpoint) (*wal.Log, error) {
	cfg := s.o.Config
	o := wal.Options{
		FS: s.o.FS, Dir: path.Join(s.o.Dir, walDir), FileSize: cfg.WALFileBytes,
		FilesMax: int(max(cfg.WALMaxBytes/max(cfg.WALFileBytes, 1), 2)), ReferenceBytes: cfg.WALReferenceMinBytes,
		From: c.from, Clock: s.o.Clock, Logger: s.o.Logger, Fatal: s.fail, OnFull: s.onWALFull,
		LazyDelay: cfg.SyncInterval,
	}
	if c.clean {
		o.Clean = c.from
	}
	return wal.Open(o)
}

// onWALFull asks for a checkpoint, which lets the WAL use files again.
func (s *Store) onWALFull() {
	s.walFull.Store(true)
	s.wantSync()
}

// Close ends everything; nothing needs to be replayed at the next Open. Appends must have ended. After a failure it lets
// go of the files and returns why.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	s.mu.Unlock()
	s.drain()
	close(s.stop)
	s.background.Wait()
	err := s.shutdown()
	if failed := s.failed(); failed != nil {
		err = failed
	}
	s.release()
	return err
}

// drain waits until what was logged is durable, while checkpoints still make room in the WAL. It does not wait for space on
// the disk.
func (s *Store) drain() {
	for s.wal.Space() == nil && !s.syncPutOff.Load() {
		ctx, cancel := context.WithTimeout(context.Background(), drainStep)
		err := s.wal.WaitDurable(ctx, s.wal.Next()-1)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			return
		}
		if s.o.NoBackground && s.walFull.Load() {
			if err := s.syncOnce(); err != nil {
				return
			}
		}
	}
}

// shutdown leaves a clean checkpoint behind, if all went well.
func (s *Store) shutdown() error {
	s.syncSlot <- struct{}{}
	defer func() { <-s.syncSlot }()
	if s.failed() != nil {
		return errors.Join(s.wal.Close(), s.closeLogs())
	}
	_, err := s.syncLogs()
	if err != nil && s.wal.Durable() < s.wal.Next() {
		s.wal.Abort(err) // it may be full, and no checkpoint will make room
	}
	c := checkpoint{clean: true}
	for _, p := range s.Partitions() {
		p.checkpointInto(&c, s.wal.Next())
	}
	if e := s.wal.Close(); err == nil {
		err = e
	}
	if e := s.closeLogs(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	c.from = s.wal.Next()
	return writeFile(s.o.FS, s.o.Dir, checkpointName, c.encode())
}

func (s *Store) closeLogs() error {
	var errs []error
	for _, p := range s.Partitions() {
		p.opening <- struct{}{}
		if l := p.log.Load(); l != nil {
			errs = append(errs, l.Close())
		}
		<-p.opening
	}
	return errors.Join(errs...)
}

// release lets go of what Open took, last of all the lock.
func (s *Store) release() {
	if s.files != nil {
		_ = s.files.Close()
	}
	if s.lock != nil {
		_ = s.lock.Close()
	}
}

var _ wal.Reference = (*log.SegmentFile)(nil)
