package wal

import "fmt"

// openFiles finds the end of the log and sorts the files into those that hold it, spare ones and leftovers.
func (l *Log) openFiles() (LSN, error) {
	// Else a power loss could bring back files that an earlier process removed, with numbers that are given again.
	if err := l.syncDir(); err != nil {
		return 0, err
	}
	s, err := scanHeaders(l.o.FS, l.o.Dir)
	if err != nil {
		return 0, err
	}
	if clean, err := l.openClean(s); clean || err != nil {
		return l.o.Clean, err
	}
	// What a killed process wrote may be in the page cache only, and after a failed sync the kernel calls it clean: only
	// what is read back from the disk counts, headers included.
	for _, f := range s.all {
		if err := l.settle(f.path); err != nil {
			return 0, err
		}
	}
	if len(s.all) > 0 {
		if s, err = scanHeaders(l.o.FS, l.o.Dir); err != nil {
			return 0, err
		}
		// What said that the log goes on may have been in the page cache only.
		if clean, err := l.openClean(s); clean || err != nil {
			return l.o.Clean, err
		}
	}
	l.o.From = max(l.o.From, l.o.Clean)
	l.adopt(s)
	if err := s.cut(l.o.From); err != nil {
		return 0, err
	}
	if err := s.read(l.o.From, nil); err != nil {
		return 0, err
	}
	l.files.scanned = s.run
	held := map[string]bool{}
	for _, f := range s.run {
		held[f.path] = true
		l.files.mu.live = append(l.files.mu.live, &file{header: f.header, name: f.path, size: f.size})
	}
	for _, f := range s.all {
		if !held[f.path] {
			l.reuse(&file{name: f.path, size: f.size})
		}
	}
	return s.end, nil
}

// adopt goes on with numbers and names where the files that there are end.
func (l *Log) adopt(s *scan) {
	l.files.nextName = s.names
	for _, f := range s.run {
		l.files.number = max(l.files.number, f.number)
	}
}

// openClean believes the owner that the log ended in order, at Options.Clean: no record is needed. false if something was
// written since, or the owner does not say so.
func (l *Log) openClean(s *scan) (bool, error) {
	if l.o.Clean == 0 {
		return false, nil
	}
	for _, f := range s.run {
		if f.first >= l.o.Clean {
			return false, nil
		}
	}
	s.end = l.o.Clean
	if err := s.checkDamagedHeaders(); err != nil {
		return false, err
	}
	l.clean = true
	l.adopt(s)
	for _, f := range s.all {
		l.reuse(&file{name: f.path, size: f.size})
	}
	return true, l.syncDir()
}

func (l *Log) syncDir() error {
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return fmt.Errorf("sync write-ahead log directory: %w", err)
	}
	return nil
}

// Clean tells whether the log was found as Options.Clean said: nothing was written since.
func (l *Log) Clean() bool { return l.clean }

// settle syncs a file and drops it from the page cache.
func (l *Log) settle(name string) error {
	f, err := l.o.FS.OpenReadWrite(name)
	if err != nil {
		return fmt.Errorf("open write-ahead log: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync write-ahead log %s: %w", name, err)
	}
	if err := f.DropCache(0, 0); err != nil {
		return fmt.Errorf("drop write-ahead log %s from the page cache: %w", name, err)
	}
	return nil
}

// Replay yields the records from LSN from on, in order, as Open found them; it may be called again. It ends at the first
// error of fn and returns it.
func (l *Log) Replay(from LSN, fn func(Record) error) error {
	if from < l.o.From {
		from = l.o.From
	}
	s := scan{fs: l.o.FS, dir: l.o.Dir, run: append([]scannedFile(nil), l.files.scanned...)}
	return s.read(from, fn)
}
