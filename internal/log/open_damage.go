package log

import (
	"errors"
	"io/fs"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// A log opens also where bytes below the checkpoint are not what was written. They are gone, whether it opens or not, and
// what lies before and behind them is not: they become a damaged range, which is not served. What the batches in it said
// of producers, transactions and epochs is lost with them, as far as no snapshot knows it.

// openDamaged takes in the last interval of the segment that is appended to, which err says is broken.
func (l *Log) openDamaged(s *segment, e *entry, position int64, err error) error {
	var broken *Corruption
	if l.o.Checkpoint == nil || !errors.As(err, &broken) {
		return err
	}
	d := Damage{File: s.data.path, Position: int64(e.position), Length: int64(e.length), First: s.base + kafka.Offset(e.base), End: l.mu.end, Reason: broken.Error()}
	s.end = d.First + 1
	if e.end() >= position {
		s.end = l.mu.end
	}
	s.damaged = append(s.damaged, d)
	return nil
}

// endDamage tells where the damage ends, now that the batch behind it is known.
func (s *segment) endDamage(next kafka.Offset) {
	if n := len(s.damaged); n > 0 && s.damaged[n-1].Position+s.damaged[n-1].Length == s.size && next > s.damaged[n-1].First {
		s.damaged[n-1].End = next
	}
}

// damagedRest gives up what lies between the last sound batch and the checkpoint. It gets an index entry with a checksum
// that does not fit, so that it is known for damaged after the next start, too.
func (l *Log) damagedRest(s *segment, position int64, err error) error {
	var broken *Corruption
	if l.o.Checkpoint == nil || !errors.As(err, &broken) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	d := Damage{File: s.data.path, Position: s.size, Length: position - s.size, First: s.end, End: l.mu.end, Reason: broken.Error()}
	if d.Length <= 0 || d.First >= d.End {
		return err
	}
	s.closeIntervalLocked()
	s.index.open = interval{start: d.Position, length: d.Length, base: d.First}
	s.closeIntervalLocked()
	s.size, s.end = position, d.End
	s.damaged = append(s.damaged, d)
	return nil
}

// skipDamage moves a place that lies in a damaged range behind it, and says where the sound stretch from there ends.
func (l *Log) skipDamage(at place, size int64) (from place, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range at.s.damaged {
		if d.Position > at.position {
			return at, min(size, d.Position)
		}
		if at.position < d.Position+d.Length {
			at = place{at.s, d.Position + d.Length, d.End}
		}
	}
	return at, size
}

// behindDamage is the place behind the damaged range that an offset lies in; none if it lies in none.
func (l *Log) behindDamage(s *segment, offset kafka.Offset) (place, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range s.damaged {
		if d.First <= offset && offset < d.End {
			return place{s, d.Position + d.Length, d.End}, true
		}
	}
	return place{}, false
}

// ReplayDamaged takes in, during recovery, what the WAL refers to and what is not there as it was written, though it was
// synced: the offsets first to end (exclusive) become a damaged range, and replay goes on behind it. ErrNotAtEnd as for
// Replay.
func (l *Log) ReplayDamaged(base kafka.Offset, position, length int64, first, end kafka.Offset, reason string) (Damage, error) {
	first = max(first, base) // a stretch may begin its segment behind a gap
	if err := l.moveTo(base, position, first); err != nil {
		return Damage{}, err
	}
	l.mu.Lock()
	s := l.activeLocked()
	l.mu.Unlock()
	if err := l.reach(s, position+length); err != nil {
		return Damage{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := Damage{File: s.data.path, Position: position, Length: length, First: first, End: end, Reason: reason}
	if s.size == 0 {
		s.rollTimestamp, s.rollKnown = record.NoTimestamp, true
	}
	s.closeIntervalLocked()
	s.index.open = interval{start: position, length: length, base: first} // its checksum does not fit
	s.closeIntervalLocked()
	s.size, s.end = position+length, end
	s.damaged = append(slices.Clone(s.damaged), d)
	l.mu.end, l.mu.producers.end = end, end
	return d, nil
}

// reach makes a segment's file at least so long: what follows is written behind it.
func (l *Log) reach(s *segment, size int64) error {
	file, err := s.data.acquire()
	if err != nil {
		return err
	}
	defer s.data.releaseDirty()
	have, err := file.Size()
	if err != nil || have >= size {
		return err
	}
	return file.Truncate(size)
}
