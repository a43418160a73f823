package wal

import "encoding/binary"

// group is what one sync makes durable: records, the streams that they belong to, and the files that the records by
// reference need. It is reused; from submission to completion it has one owner at a time: Log.mu while it fills, the
// writer, the completer.
type group struct {
	sequence uint64
	first    LSN
	count    int
	buf      []byte // room for the header, then the records
	members  []member
	refs     []Reference
	wanted   bool          // an entry asks for a sync: lazy ones do not
	urgent   bool          // the writer was told
	walDone  chan struct{} // to the completer: the group's own write is synced
	direct   bool          // the completer calls back, also those who wait for no reference
}

// member is a stream with entries in a group.
type member struct {
	stream   *Stream
	end      int64
	lastRef  Reference // the one that was added to refs for this stream last
	deferred bool      // completes only when references are synced: its own, or those of an earlier group
}

func (g *group) reset(sequence uint64, first LSN) {
	if cap(g.buf) < groupHeader {
		g.buf = make([]byte, groupHeader, 64<<10)
	}
	g.sequence, g.first, g.count, g.wanted, g.urgent = sequence, first, 0, false, false
	g.buf = g.buf[:groupHeader]
	clear(g.members)
	g.members = g.members[:0]
	clear(g.refs)
	g.refs = g.refs[:0]
}

// joinLocked returns the stream's place in the group, made at its first entry there.
func (g *group) joinLocked(s *Stream) *member {
	if s.group != g.sequence {
		s.group, s.slot, s.bytes = g.sequence, len(g.members), 0
		g.members = append(g.members, member{stream: s})
	}
	return &g.members[s.slot]
}

// referLocked makes the group depend on the file. One stream fills a file before it goes to the next, so that looking
// at the last one is enough.
func (g *group) referLocked(m *member, ref Reference) {
	if m.lastRef == ref {
		return
	}
	if !m.deferred {
		m.deferred = true
		m.stream.outstanding++
	}
	m.lastRef = ref
	g.refs = append(g.refs, ref)
}

func (g *group) addRecord(head, body []byte, byReference bool) {
	n := len(head)
	flag := uint32(byReferenceBit)
	if !byReference {
		n, flag = n+len(body), 0
	}
	g.buf = binary.LittleEndian.AppendUint32(g.buf, uint32(n)|flag)
	g.buf = append(g.buf, head...)
	if !byReference {
		g.buf = append(g.buf, body...)
	}
	g.count++
}

// end is the LSN behind the group.
func (g *group) end() LSN { return g.first + LSN(g.count) }

// fillingLocked returns the group to submit n bytes to, once it has room. It unlocks while it waits.
func (l *Log) fillingLocked(n int) (*group, error) {
	if n > recordBytesMax {
		return nil, errRecordTooLarge
	}
	for {
		if l.mu.err != nil {
			return nil, l.mu.err
		}
		if l.mu.closed {
			return nil, ErrClosed
		}
		g := l.mu.filling
		if g == nil {
			g = l.newGroupLocked()
		}
		if g != nil && (g.count == 0 || len(g.buf) < l.o.GroupBytesMax) {
			return g, nil
		}
		if g != nil {
			l.urgeLocked(g)
		}
		l.stats.fullWaits.Add(1)
		l.room.Wait()
	}
}

func (l *Log) newGroupLocked() *group {
	var g *group
	if n := len(l.mu.free); n > 0 {
		g = l.mu.free[n-1]
		l.mu.free = l.mu.free[:n-1]
	} else if l.mu.groups < groupsMax {
		g = &group{walDone: make(chan struct{}, 1)}
		l.mu.groups++
	} else {
		return nil
	}
	l.mu.sequence++
	g.reset(l.mu.sequence, l.mu.next)
	l.mu.filling = g
	return g
}

// armLazyLocked sees to it that a group of lazy entries is written in the end.
func (l *Log) armLazyLocked() {
	if l.mu.lazySet || l.mu.filling.urgent {
		return
	}
	l.mu.lazySet = true
	if l.lazyTimer == nil {
		l.lazyTimer = l.o.Clock.AfterFunc(l.o.LazyDelay, l.lazyFired)
		return
	}
	l.lazyTimer.Reset(l.o.LazyDelay)
}

func (l *Log) lazyFired() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.lazySet = false
	if g := l.mu.filling; g != nil && g.count > 0 {
		l.urgeLocked(g)
	}
}
