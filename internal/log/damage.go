package log

import (
	"errors"
	"fmt"
	"slices"

	"chronik/internal/kafka"
)

// Damage is a range of the log that is not what was written, found by a scrub or when the log was opened. Nothing of it is
// served any more.
type Damage struct {
	File     string
	Position int64 // of the range's first byte
	Length   int64
	First    kafka.Offset
	End      kafka.Offset // exclusive
	Reason   string
}

// Damaged lists the ranges that are known to be damaged, ascending.
func (l *Log) Damaged() []Damage {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []Damage
	for _, s := range l.mu.segments {
		all = append(all, s.damaged...)
	}
	return all
}

// addDamage notes a range, unless the log was cut since generation or the segment is gone, so that nothing can be said
// about it. It tells whether the range is new.
func (l *Log) addDamage(s *segment, generation uint64, d Damage) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.generation != generation || l.mu.closed || !slices.Contains(l.mu.segments, s) {
		return false
	}
	for _, known := range s.damaged {
		if known.Position <= d.Position && known.Position+known.Length >= d.Position+d.Length {
			return false
		}
	}
	// What was an interval's beginning has become a whole one.
	s.damaged = slices.DeleteFunc(slices.Clone(s.damaged), func(known Damage) bool {
		return known.Position >= d.Position && known.Position < d.Position+d.Length
	})
	i, _ := slices.BinarySearchFunc(s.damaged, d.Position, func(k Damage, at int64) int { return int(k.Position - at) })
	s.damaged = slices.Insert(s.damaged, i, d)
	return true
}

// refuse is the error of a read from an offset that lies in a damaged range. CORRUPT_MESSAGE, because consumers take
// KAFKA_STORAGE_ERROR for a reason to look for another leader, and ask again for ever without a word to the application.
func (l *Log) refuse(from kafka.Offset) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.segmentIndexLocked(from)
	if i < 0 {
		return nil
	}
	for _, d := range l.mu.segments[i].damaged {
		if d.First <= from && from < d.End {
			return l.damagedError(from, d)
		}
	}
	return nil
}

func (l *Log) damagedError(from kafka.Offset, d Damage) error {
	return kafka.ErrCorruptMessage.With("offset %d of %s lies in a damaged range, offsets %d to %d (%s, bytes %d to %d: %s); "+
		"restore the file from a backup, or go on behind it at offset %d", from, l.o.Name, d.First, d.End-1, d.File, d.Position, d.Position+d.Length-1, d.Reason, d.End)
}

// soundEndLocked is how far a read that begins at a place may go in its segment.
func soundEndLocked(start place) place {
	for _, d := range start.s.damaged {
		if d.Position >= start.position {
			return place{start.s, d.Position, d.First}
		}
	}
	return place{start.s, start.s.size, start.s.end}
}

// readError is that of a read which came upon bytes that no scrub had found yet.
func (l *Log) readError(err error) error {
	if err == nil { // before anything is allocated to look into it
		return nil
	}
	var broken *Corruption
	if errors.As(err, &broken) {
		return fmt.Errorf("%w (%w)", kafka.ErrCorruptMessage.With("%s cannot be read here", l.o.Name), err)
	}
	return err
}

// cutDamageLocked forgets what a truncation to a position takes away.
func (s *segment) cutDamageLocked(position int64, end kafka.Offset) {
	var kept []Damage
	for _, d := range s.damaged {
		if d.Position >= position {
			break
		}
		d.Length, d.End = min(d.Length, position-d.Position), min(d.End, end)
		kept = append(kept, d)
	}
	s.damaged = kept
}
