package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// A file that is missing where others prove that it was there is damage like any other: to make it anew would make all
// that was acknowledged look as if it had never been.

// lost names a file that is missing, and what proves that it was there.
func lost(name, proof string) error {
	return fmt.Errorf("%s is missing, but %s is there: restore it from a backup; to start empty, move the whole data directory away", name, proof)
}

// anyOf returns the first of some files and directories in dir that exists, a directory only if something is in it; "" if
// there is none.
func anyOf(fsys vfs.FS, dir string, names ...string) (string, error) {
	for _, name := range names {
		name = path.Join(dir, name)
		info, err := fsys.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if !info.Dir {
			return name, nil
		}
		in, err := fsys.ReadDir(name)
		if err != nil {
			return "", err
		}
		if len(in) > 0 {
			return path.Join(name, in[0]), nil
		}
	}
	return "", nil
}

// openCheckpoint reads the checkpoint. A new directory gets one before its WAL is opened, so that it is never missing
// afterwards.
func (s *Store) openCheckpoint() (*checkpoint, error) {
	// The last process may have been killed before it synced what it renamed; the WAL's files must not be used again on the
	// word of a checkpoint that a power loss takes back.
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		return nil, fmt.Errorf("sync data directory: %w", err)
	}
	c, err := readCheckpoint(s.o.FS, s.o.Dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	name := path.Join(s.o.Dir, checkpointName)
	if s.identity.ClusterID != "" {
		return nil, lost(name, path.Join(s.o.Dir, nodeName)+", which names a cluster,")
	}
	found, err := anyOf(s.o.FS, s.o.Dir, walDir, partitionsDir)
	if err != nil {
		return nil, err
	}
	if found != "" {
		return nil, lost(name, found)
	}
	c = &checkpoint{from: 1}
	return c, writeFile(s.o.FS, s.o.Dir, checkpointName, c.encode())
}

// checkWAL refuses a WAL without a file where partitions have any: their leader's epoch is in it before the first record.
func (s *Store) checkWAL() error {
	if s.wal.Next() > 1 || s.identity.ClusterID == "" {
		return nil
	}
	dir := path.Join(s.o.Dir, walDir)
	in, err := wal.Inspect(s.o.FS, dir, 0, nil)
	if err != nil {
		return err
	}
	for _, f := range in.Files {
		if f.Number > 0 || f.Damaged {
			return nil
		}
	}
	found, err := anyOf(s.o.FS, s.o.Dir, partitionsDir)
	if err != nil || found == "" {
		return err
	}
	return lost(dir, found)
}
