package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
)

// Compaction puts one segment in the place of several (docs/format/cleaner.md). The new files are written aside, synced, and
// their names too; then a swap file that names what is to happen is made durable: before that nothing has happened, and
// after it everything will. Then the files are moved, those replaced are removed, and last the swap file, each step durable
// before the next begins. Opening a log does what is left to do.
const (
	swapName    = "swap"
	swapMagic   = "chronSWP"
	swapVersion = 1
	swapFixed   = 48
)

// swapPlan is the content of a swap file.
type swapPlan struct {
	base       kafka.Offset   // of the new segment, and of the first that it replaces
	end        kafka.Offset   // exclusive
	size       int64          // of its data, bytes
	generation uint64         // of the log
	aborted    bool           // it has a transaction index
	others     []kafka.Offset // bases of the other segments that it replaces
}

func (p *swapPlan) encode() []byte {
	be := binary.BigEndian
	b := append(make([]byte, 0, swapFixed+8*len(p.others)+4), swapMagic...)
	b = be.AppendUint16(b, swapVersion)
	flags := uint16(0)
	if p.aborted {
		flags = 1
	}
	b = be.AppendUint16(b, flags)
	b = be.AppendUint32(b, uint32(len(p.others)))
	b = be.AppendUint64(b, uint64(p.base))
	b = be.AppendUint64(b, uint64(p.end))
	b = be.AppendUint64(b, uint64(p.size))
	b = be.AppendUint64(b, p.generation)
	for _, o := range p.others {
		b = be.AppendUint64(b, uint64(o))
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeSwap(b []byte) (p swapPlan, err error) {
	if err := checkWhole(b, swapMagic, swapVersion, swapFixed); err != nil {
		return p, err
	}
	be := binary.BigEndian
	p = swapPlan{base: kafka.Offset(be.Uint64(b[16:])), end: kafka.Offset(be.Uint64(b[24:])), size: int64(be.Uint64(b[32:])),
		generation: be.Uint64(b[40:]), aborted: be.Uint16(b[10:])&1 != 0}
	n := be.Uint32(b[12:])
	if int64(len(b)) != swapFixed+8*int64(n)+4 || p.base < 0 || p.end <= p.base || p.size <= 0 {
		return p, errors.New("its fields or its size are impossible")
	}
	last := p.base
	for at := swapFixed; at < len(b)-4; at += 8 {
		o := kafka.Offset(be.Uint64(b[at:]))
		if o <= last || o >= p.end {
			return p, errors.New("the segments that it names are out of order")
		}
		p.others, last = append(p.others, o), o
	}
	return p, nil
}

func (l *Log) swapPath() string { return path.Join(l.o.Dir, swapName) }

func (l *Log) finalPath(base kafka.Offset, suffix string) string {
	return path.Join(l.o.Dir, fileName(base, suffix))
}

var segmentSuffixes = []string{dataSuffix, indexSuffix, abortedSuffix}

// moveFiles does what a swap file says, as far as it is not done yet, and removes it.
func (l *Log) moveFiles(p *swapPlan) error {
	fs := l.o.FS
	for _, suffix := range segmentSuffixes {
		final := l.finalPath(p.base, suffix)
		if err := fs.Rename(final+cleanedSuffix, final); err == nil {
			continue
		} else if !vfsNotExist(err) {
			return err
		}
		if suffix == abortedSuffix && !p.aborted { // what stands there is that of the segment replaced
			if err := removeFile(fs, final); err != nil {
				return err
			}
		}
	}
	for _, base := range p.others {
		for _, suffix := range segmentSuffixes {
			if err := removeFile(fs, l.finalPath(base, suffix)); err != nil {
				return err
			}
		}
	}
	if err := fs.SyncDir(l.o.Dir); err != nil {
		return err
	}
	if err := removeFile(fs, l.swapPath()); err != nil {
		return err
	}
	// Durable before anything else happens in the directory: a swap that was done must never be done to what comes later.
	return fs.SyncDir(l.o.Dir)
}

func removeFile(fs vfs.FS, name string) error {
	if err := fs.Remove(name); err != nil && !vfsNotExist(err) {
		return err
	}
	return nil
}

// finishSwap completes, while the log is opened, a swap that the last process began, and returns the names that the
// directory has then. What was written aside without a swap file is removed by FinishRecovery.
func (l *Log) finishSwap(names []string) ([]string, error) {
	if !slices.Contains(names, swapName) {
		return names, nil
	}
	b, err := l.readWhole(l.swapPath())
	if err != nil {
		return nil, err
	}
	p, err := decodeSwap(b)
	if err != nil {
		return nil, &Corruption{File: l.swapPath(), Offset: kafka.NoOffset, Reason: err.Error()}
	}
	if c := l.o.Checkpoint; c != nil && c.Generation != p.generation {
		// It is of what was there before a reset, or of an earlier log of the same partition, of which a power loss brought the
		// directory back: all segments that it names are strays.
		return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == swapName }), nil
	}
	data := l.finalPath(p.base, dataSuffix)
	if slices.Contains(names, path.Base(data)+cleanedSuffix) {
		data += cleanedSuffix
	}
	info, err := l.o.FS.Stat(data)
	if err != nil && !vfsNotExist(err) {
		return nil, err
	}
	if err != nil || info.Size != p.size {
		return nil, &Corruption{File: data, Offset: p.base, Reason: fmt.Sprintf("it has %d bytes, and %d were written before it was to take the place of other segments", info.Size, p.size)}
	}
	if !l.o.ReadOnly {
		// The last process may have been killed before it synced the name of the swap file: were the power to go now, some of
		// the files would be moved, and nothing would say that the others have to be.
		if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
			return nil, err
		}
		if err := l.moveFiles(&p); err != nil {
			return nil, fmt.Errorf("put the compacted segment of %s at offset %d in its place: %w", l.o.Name, p.base, err)
		}
		return l.o.FS.ReadDir(l.o.Dir)
	}
	l.aside = map[string]bool{}
	for _, suffix := range segmentSuffixes {
		final := l.finalPath(p.base, suffix)
		l.aside[final] = slices.Contains(names, path.Base(final)+cleanedSuffix) || suffix == abortedSuffix && !p.aborted
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		base, ok := parseName(name, dataSuffix)
		return ok && slices.Contains(p.others, base)
	}), nil
}

// ErrOvertaken ends a cleaning: its segments are not the log's any more.
var ErrOvertaken = errors.New("the log was cut, reset or deleted from meanwhile")

// swap puts a cleaned segment, which was written aside and synced, in the place of those that it was made of. Readers that
// hold one of them keep it until they are done.
func (l *Log) swap(out *segment, inputs []*segment, generation uint64, data, index vfs.File) error {
	l.maintenance <- struct{}{}
	defer func() { <-l.maintenance }()
	p := swapPlan{base: out.base, end: out.end, size: out.size, generation: generation, aborted: len(out.aborted) > 0}
	for _, s := range inputs[1:] {
		p.others = append(p.others, s.base)
	}
	l.mu.Lock()
	at, err := l.replaceableLocked(inputs, generation)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := l.writeCleaner(); err != nil { // which deletions go
		return err
	}
	if err := l.writeWhole(l.swapPath(), p.encode()); err != nil {
		if _, there := l.o.FS.Stat(l.swapPath()); vfsNotExist(there) {
			return err // nothing has happened
		}
		return l.fail(fmt.Errorf("%w; %w", err, ErrFailed))
	}
	// From here on it happens. The new segment is read through the files that are open: their names come later.
	out.data.adopt(data)
	out.indexFile.adopt(index)
	l.mu.Lock()
	l.mu.segments = slices.Replace(slices.Clone(l.mu.segments), at, at+len(inputs), out)
	l.mu.swaps++
	l.mu.recent.clear()
	l.mu.hints.clear()
	l.mu.Unlock()
	for _, s := range inputs {
		s.data.retire()
		s.indexFile.retire()
	}
	if err := l.moveFiles(&p); err != nil {
		// The files stay open, so that nothing is read through a name that is still another file's.
		return l.fail(fmt.Errorf("put the compacted segment of %s at offset %d in its place: %w; %w", l.o.Name, out.base, err, ErrFailed))
	}
	out.data.release()
	out.indexFile.release()
	return nil
}

// replaceableLocked finds the segments in the log. They have to be as they were, behind one another, below what is synced.
func (l *Log) replaceableLocked(inputs []*segment, generation uint64) (int, error) {
	if err := l.usableLocked(false); err != nil {
		return 0, err
	}
	at := slices.Index(l.mu.segments, inputs[0])
	last := inputs[len(inputs)-1]
	if l.mu.cutting || l.mu.generation != generation || at < 0 || at+len(inputs) >= len(l.mu.segments) ||
		!slices.Equal(l.mu.segments[at:at+len(inputs)], inputs) || l.mu.synced.Segment < last.end {
		return 0, ErrOvertaken
	}
	for _, s := range inputs {
		if len(s.damaged) > 0 {
			return 0, fmt.Errorf("%w: %s", errDamaged, s.damaged[0].Reason)
		}
	}
	return at, nil
}
