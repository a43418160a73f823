package log

import (
	"fmt"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// cleanSyncBytes is how much is written between two syncs of a segment that is being made: little enough for a sync not to
// hold up the WAL's for long.
const cleanSyncBytes = 8 << 20

// cleanOutput is the segment that a cleaning writes, aside.
type cleanOutput struct {
	c       *cleaner
	seg     *segment
	inputs  []*segment
	end     kafka.Offset // of the last of them
	paths   []string     // of files that were made
	data    vfs.File
	index   vfs.File
	failed  bool // the files are not to be removed
	changed bool // the output is not the input

	buf      []byte // written to the segment's state, not yet to the file, but for its last part
	at       int64  // bytes in the file
	unsynced int64
	last     record.Batch // header of the last batch that was read
	head     [record.HeaderSize]byte
}

func (c *cleaner) newOutput(base kafka.Offset) (*cleanOutput, error) {
	o := &cleanOutput{c: c, seg: c.l.newSegment(base)}
	o.seg.loaded, o.seg.abortedLoaded = true, true
	var err error
	o.data, err = o.create(o.seg.data.path)
	return o, err
}

// create makes a file beside the one whose place it is to take.
func (o *cleanOutput) create(final string) (vfs.File, error) {
	name := final + cleanedSuffix
	fs := o.c.l.o.FS
	if err := removeFile(fs, name); err != nil { // of a cleaning that ended
		return nil, err
	}
	file, err := fs.Create(name)
	if err != nil {
		return nil, err
	}
	o.paths = append(o.paths, name)
	return file, nil
}

// add begins with the next of the segments that go into this one.
func (o *cleanOutput) add(s *segment, end kafka.Offset) {
	l := o.c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(o.inputs) == 0 || s.createdMillis < o.seg.createdMillis {
		o.seg.createdMillis = s.createdMillis
	}
	o.inputs, o.end = append(o.inputs, s), end
}

func (o *cleanOutput) current() *segment { return o.inputs[len(o.inputs)-1] }

func (o *cleanOutput) noteLast(b record.Batch) {
	copy(o.head[:], b)
	o.last = record.Batch(o.head[:])
}

func (o *cleanOutput) aborted(a AbortedTransaction) { o.seg.aborted = append(o.seg.aborted, a) }

// took counts a batch in that stands at the end of buf, and writes once there is much.
func (o *cleanOutput) took(b record.Batch) error {
	o.seg.addLocked(b, crcOfBatch(b), o.c.l.intervalBytes())
	if len(o.buf) < o.c.o.IOBytes/2 {
		return nil
	}
	return o.flush()
}

func (o *cleanOutput) flush() error {
	n := int64(len(o.buf))
	if n == 0 {
		return nil
	}
	if err := o.c.o.Pace(n); err != nil {
		return err
	}
	if _, err := o.data.WriteAt(o.buf, o.at); err != nil {
		return fmt.Errorf("write %s: %w", o.data.Name(), err)
	}
	o.at += n
	o.unsynced += n
	o.c.r.BytesWritten += n
	o.buf = o.buf[:0]
	if o.unsynced < cleanSyncBytes {
		return nil
	}
	o.unsynced = 0
	return o.data.Datasync()
}

// finish writes the rest, the index and the aborted transactions, and syncs them and their names. A segment is never empty:
// where nothing stays, the last batch does, without its records.
func (o *cleanOutput) finish() (data, index vfs.File, err error) {
	l, s := o.c.l, o.seg
	if s.size == 0 {
		o.buf = record.AppendEmpty(o.buf, o.last)
		if err := o.took(o.buf); err != nil {
			return nil, nil, err
		}
	}
	if err := o.flush(); err != nil {
		return nil, nil, err
	}
	if err := o.data.Sync(); err != nil {
		return nil, nil, err
	}
	s.closeIntervalLocked()
	b := appendIndexHeader(nil, s.base)
	for i := range s.index.tail {
		b = s.index.tail[i].append(b, s.base, i)
	}
	s.index = indexState{written: len(s.index.tail), open: s.index.open}
	if o.index, err = o.write(s.indexFile.path, b); err != nil {
		return nil, nil, err
	}
	if len(s.aborted) > 0 {
		file, err := o.write(s.abortedPath(), encodeAborted(s.aborted, s.base))
		if err != nil {
			return nil, nil, err
		}
		_ = file.Close()
	} else if err := removeFile(l.o.FS, s.abortedPath()+cleanedSuffix); err != nil { // of an earlier cleaning: it would be moved along
		return nil, nil, err
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return nil, nil, err
	}
	s.end = o.end
	return o.data, o.index, nil
}

// write makes a file with some content, synced.
func (o *cleanOutput) write(final string, b []byte) (vfs.File, error) {
	if err := o.c.o.Pace(int64(len(b))); err != nil {
		return nil, err
	}
	file, err := o.create(final)
	if err != nil {
		return nil, err
	}
	_, err = file.WriteAt(b, 0)
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("write %s: %w", file.Name(), err)
	}
	return file, nil
}

// discard removes what was written. What cannot be removed goes when the log is opened next.
func (o *cleanOutput) discard() {
	if o.failed {
		return
	}
	for _, file := range []vfs.File{o.data, o.index} {
		if file != nil {
			_ = file.Close()
		}
	}
	for _, name := range o.paths {
		_ = o.c.l.o.FS.Remove(name)
	}
}
