package log

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"chronik/internal/kafka"
)

// Verify checks every byte up to the end against the indexes' checksums and the batches' own, the small files too, and
// calls found for each fault: `log verify` of a stopped node, where [Log.Scrub] is for a running one. The error is one of
// reading, not of content.
func (l *Log) Verify(ctx context.Context, found func(*Corruption)) error {
	l.mu.Lock()
	segments := slices.Clone(l.mu.segments)
	generation := l.mu.generation
	l.mu.Unlock()
	for i, s := range segments {
		err := l.verifySegment(ctx, s, i == len(segments)-1, func(c *Corruption) {
			if l.Generation() == generation && !s.data.gone() { // else it was cut or deleted meanwhile
				found(c)
			}
		})
		if err != nil && !s.data.gone() {
			return err
		}
	}
	l.maintenance <- struct{}{} // the small files are replaced under it
	defer func() { <-l.maintenance }()
	l.mu.Lock()
	snapshots := slices.Clone(l.mu.snapshots)
	l.mu.Unlock()
	check := func(name string, decode func([]byte) error) error {
		b, err := l.readWhole(name)
		if err != nil || b == nil {
			return err
		}
		if err := decode(b); err != nil {
			found(&Corruption{File: name, Offset: kafka.NoOffset, Reason: err.Error()})
		}
		return nil
	}
	errs := []error{
		check(l.epochsPath(), func(b []byte) error { _, _, err := decodeEpochs(b); return err }),
		check(l.cleanerPath(), func(b []byte) error { _, _, err := decodeCleaner(b); return err }),
	}
	for _, o := range snapshots {
		errs = append(errs, check(l.snapshotPath(o), func(b []byte) error { _, _, err := decodeProducers(b, o); return err }))
	}
	for _, s := range segments {
		errs = append(errs, check(s.abortedPath(), func(b []byte) error { _, err := decodeAborted(b, s.base); return err }))
	}
	return errors.Join(errs...)
}

// verifySegment checks one segment: interval by interval by the index, and what has no entry yet by the batches.
func (l *Log) verifySegment(ctx context.Context, s *segment, active bool, found func(*Corruption)) error {
	file, err := s.data.acquire()
	if err != nil {
		return err
	}
	defer s.data.release()
	l.mu.Lock()
	size, torn := s.size, s.tornBytes
	l.mu.Unlock()
	if torn > 0 {
		found(&Corruption{File: s.data.path, Position: size, Offset: s.end, Reason: fmt.Sprintf("%d bytes follow the last sound batch", torn)})
	}
	if have, err := file.Size(); err != nil {
		return err
	} else if have < size {
		found(&Corruption{File: s.data.path, Position: have, Offset: kafka.NoOffset, Reason: fmt.Sprintf("the file has %d bytes, fewer than the log's %d", have, size)})
		return nil
	}
	position, offset, err := l.verifyIntervals(ctx, s, file, found)
	if err != nil {
		return err
	}
	r := batchReader{scanner: newScanner(s.data.path, file, position, size, offset)}
	defer r.close()
	var fault *Corruption
	for {
		b, at, err := r.nextWhole()
		if errors.As(err, &fault) {
			found(fault)
			return nil
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if b == nil {
			break
		}
		if !b.VerifyCRC() {
			found(&Corruption{File: s.data.path, Position: at, Offset: b.BaseOffset(), Reason: "a batch does not fit its CRC"})
		}
	}
	if !active && r.expect > s.end {
		found(&Corruption{File: s.data.path, Position: size, Offset: r.expect, Reason: fmt.Sprintf("the segment reaches offset %d, the next one begins at %d", r.expect, s.end)})
	}
	return nil
}

// verifyIntervals checks what the index covers, and returns where that ends.
func (l *Log) verifyIntervals(ctx context.Context, s *segment, file vfsFile, found func(*Corruption)) (int64, kafka.Offset, error) {
	position, offset := int64(0), s.base
	var fault *Corruption
	buf := make([]byte, 0, 64<<10)
	if err := l.load(s); errors.As(err, &fault) {
		found(fault)
		return 0, s.base, nil
	} else if err != nil {
		return 0, 0, err
	}
	for i := 0; ; i++ {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		e, ok, err := l.entryAt(s, i)
		if errors.As(err, &fault) {
			found(fault) // what it would have covered is checked by the batches
			return position, offset, nil
		}
		if err != nil {
			return 0, 0, err
		}
		if !ok {
			return position, offset, nil
		}
		if int64(e.position) != position {
			found(&Corruption{File: s.indexFile.path, Position: indexHeaderSize + int64(i)*indexEntrySize, Offset: offset, Reason: fmt.Sprintf("entry %d begins at byte %d, the one before it ends at %d", i, e.position, position)})
			return position, offset, nil
		}
		next, err := l.verifyInterval(s, file, &e, buf)
		position = e.end()
		switch {
		case errors.As(err, &fault):
			found(fault)
			if after, ok, err := l.entryAt(s, i+1); err == nil && ok {
				offset = s.base + kafka.Offset(after.base)
			}
		case err != nil:
			return 0, 0, err
		default:
			offset = next
		}
	}
}

// entryAt returns an entry, from the file or from memory.
func (l *Log) entryAt(s *segment, i int) (entry, bool, error) {
	l.mu.Lock()
	if n := i - s.index.written; n >= 0 {
		var e entry
		ok := n < len(s.index.tail)
		if ok {
			e = s.index.tail[n]
		}
		l.mu.Unlock()
		return e, ok, nil
	}
	l.mu.Unlock()
	file, err := s.indexFile.acquire()
	if err != nil {
		return entry{}, false, err
	}
	defer s.indexFile.release()
	e, err := readEntry(s, file, i, make([]byte, indexEntrySize))
	return e, true, err
}
