package store

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path"
	"slices"

	"chronik/internal/log"
	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// Problem is something that is not as it was written.
type Problem struct {
	File     string
	Position int64 // byte in the file
	Detail   string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s at byte %d: %s", p.File, p.Position, p.Detail)
}

// Summary is what Verify has looked at.
type Summary struct {
	Clean      bool // the last process ended properly
	WALFiles   int
	WALRecords int64 // that the next start would replay
	Partitions int
	Bytes      int64 // of segments
}

// Verify reads everything in a data directory that no process uses, and reports what is not as it was written. It changes
// nothing. Bytes behind the last checkpoint are judged by the WAL, as the next start would.
func Verify(ctx context.Context, fsys vfs.FS, dir string, report func(Problem)) (Summary, error) {
	in, err := inspect(fsys, dir, report)
	if err != nil {
		return Summary{}, err
	}
	defer in.close()
	err = in.partitions(func(pl *plan, l *log.Log) error {
		in.summary.Partitions++
		in.summary.Bytes += l.Size()
		return l.Verify(ctx, func(c *log.Corruption) { report(Problem{c.File, c.Position, c.Reason}) })
	})
	return in.summary, err
}

// metadataDir is where the controller keeps its WAL.
const metadataDir = "metadata"

// inspection is a data directory at rest.
type inspection struct {
	fs      vfs.FS
	dir     string
	lock    io.Closer
	report  func(Problem)
	survey  survey
	files   *log.Files
	summary Summary

	checkpoint *checkpoint
	walFiles   map[string]int
}

// inspect reads the small files and the WAL, and checks what the WAL refers to.
func inspect(fsys vfs.FS, dir string, report func(Problem)) (in *inspection, err error) {
	if _, err := fsys.Stat(path.Join(dir, nodeName)); err != nil {
		return nil, fmt.Errorf("%s is not a chronik data directory: %w", dir, err)
	}
	in = &inspection{fs: fsys, dir: dir, report: report, walFiles: map[string]int{}}
	if in.lock, err = fsys.Lock(path.Join(dir, lockName)); err != nil {
		return nil, fmt.Errorf("data directory %s is in use; stop the node first: %w", dir, err)
	}
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	if b, err := readFile(fsys, path.Join(dir, nodeName)); err != nil {
		return nil, err
	} else if _, err := decodeIdentity(b); err != nil {
		report(Problem{path.Join(dir, nodeName), 0, err.Error()})
	}
	c, err := readCheckpoint(fsys, dir)
	if err != nil {
		var named *fs.PathError
		if errors.As(err, &named) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		report(Problem{path.Join(dir, checkpointName), 0, err.Error()})
		c = &checkpoint{}
	}
	in.checkpoint, in.survey = c, newSurvey(c)
	in.files = log.NewFiles(fsys, 64)
	if err := in.wal(walDir, c.from, in.survey.add); err != nil {
		return nil, err
	}
	in.summary.WALRecords = in.survey.records
	in.summary.Clean = c.clean && in.survey.records == 0
	if err := in.wal(metadataDir, 0, nil); err != nil {
		return nil, err
	}
	in.summary.WALFiles = in.walFiles[walDir] + in.walFiles[metadataDir]
	quiet := in.report
	in.report = func(p Problem) { // the second pass over the WAL has nothing new to say of the WAL itself
		if path.Ext(p.File) != ".wal" {
			quiet(p)
		}
	}
	err = in.wal(walDir, c.from, in.checkReference)
	in.report = quiet
	return in, err
}

// wal reads one of the two from an LSN on. Damage is reported, not returned. After a clean shutdown no record is needed,
// and all that there are are looked at.
func (in *inspection) wal(name string, from wal.LSN, fn func(wal.Record) error) error {
	dir := path.Join(in.dir, name)
	if _, err := in.fs.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	start := from
	if in.checkpoint.clean {
		start = 0
	}
	found, err := wal.Inspect(in.fs, dir, start, func(rec wal.Record) error {
		if rec.LSN < from || fn == nil {
			return nil
		}
		return fn(rec)
	})
	in.walFiles[name] = len(found.Files)
	var damage *wal.CorruptionError
	if errors.As(err, &damage) {
		in.report(Problem{damage.File, damage.Offset, damage.Detail})
		return nil
	}
	return err
}

// checkReference looks whether the bytes are there that a record refers to.
func (in *inspection) checkReference(rec wal.Record) error {
	op, _, err := decodeOperation(rec)
	if err != nil || !rec.ByReference || rec.LSN >= in.survey.referencesUntil {
		return err
	}
	pl := in.survey.plans[op.id]
	if pl == nil || pl.deleted || rec.LSN < pl.created || op.generation != pl.generation || op.end <= pl.synced.EndOffset {
		return nil
	}
	name := path.Join(in.dir, partitionsDir, op.id.String(), fmt.Sprintf("%020d.log", int64(op.segment)))
	f, err := in.fs.Open(name)
	if err != nil {
		in.report(Problem{name, op.position, fmt.Sprintf("WAL record %d refers to %d bytes: %v", rec.LSN, op.length, err)})
		return nil
	}
	defer f.Close()
	b := make([]byte, op.length)
	if n, _ := f.ReadAt(b, op.position); n < len(b) || crc32.Checksum(b, castagnoli) != op.crc {
		in.report(Problem{name, op.position, fmt.Sprintf("the %d bytes that WAL record %d refers to (offset %d) are not as they were written", op.length, rec.LSN, op.first)})
	}
	return nil
}

// partitions opens the log of each partition at the state that the checkpoint or the WAL knows as synced.
func (in *inspection) partitions(visit func(*plan, *log.Log) error) error {
	ids := make([]*plan, 0, len(in.survey.plans))
	for id, pl := range in.survey.plans {
		if !pl.deleted {
			pl.id = id
			ids = append(ids, pl)
		}
	}
	slices.SortFunc(ids, func(a, b *plan) int { return compareIDs(a.id, b.id) })
	for _, pl := range ids {
		l, err := log.Open(log.Options{
			FS: in.fs, Dir: path.Join(in.dir, partitionsDir, pl.id.String()), Partition: pl.id, Files: in.files, Checkpoint: &pl.synced, ReadOnly: true,
		})
		var damage *log.Corruption
		if errors.As(err, &damage) {
			in.report(Problem{damage.File, damage.Position, damage.Reason})
			continue
		}
		if err != nil {
			return err
		}
		err = visit(pl, l)
		_ = l.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (in *inspection) close() {
	if in.files != nil {
		_ = in.files.Close()
	}
	_ = in.lock.Close()
}
