package api

import (
	"encoding/binary"
	"sync"

	"chronik/internal/kafka"
	"chronik/internal/vfs"
	"chronik/internal/wire"
)

// fetchResponse is a Fetch response about to be encoded.
type fetchResponse struct {
	version   int16
	code      int16
	sessionID int32
	entries   []fetchEntry
	nodes     []nodeEndpoint // of the leaders that entries hint at (KIP-951)
}

// nodeEndpoint is where a broker listens for the client that asks.
type nodeEndpoint struct {
	id   kafka.BrokerID
	host string
	port int32
	rack *string
}

// encode writes the response by hand: all but the records into one buffer, and the records as file sections between its
// parts, so that they go from the page cache to the socket. Where there is no file behind a section its bytes are
// copied. The entries' records are released with the payload, and the entries go back to where they came from.
func (r *fetchResponse) encode(entriesOf *fetchEntries) (*wire.Payload, error) {
	w := payloadWriter{buf: make([]byte, 0, 64+128*min(len(r.entries), 64))}
	flexible := r.version >= 12
	w.int32(0) // throttle time
	if r.version >= 7 {
		w.int16(r.code)
		w.int32(r.sessionID)
	}
	groups := r.groups()
	w.arrayLen(flexible, len(groups))
	for _, g := range groups {
		first := &r.entries[g.entries[0]]
		if r.version >= 13 {
			w.buf = append(w.buf, first.key.id[:]...)
		} else {
			w.string(flexible, first.key.name)
		}
		w.arrayLen(flexible, len(g.entries))
		for _, i := range g.entries {
			if err := r.encodePartition(&w, &r.entries[i]); err != nil {
				return nil, err
			}
		}
		w.noTags(flexible)
	}
	if flexible {
		r.encodeNodes(&w)
	}
	p := &wire.Payload{Parts: w.finish()}
	entries := r.entries
	p.Release = func() {
		releaseRecords(entries)
		entriesOf.put(entries)
	}
	return p, nil
}

// fetchEntries are slices for reuse: a consumer of ten thousand partitions asks for all of them with every poll.
type fetchEntries struct{ pool sync.Pool }

func (p *fetchEntries) get() []fetchEntry {
	if s, ok := p.pool.Get().(*[]fetchEntry); ok {
		return *s
	}
	return nil
}

// put takes back entries that nobody uses any more.
func (p *fetchEntries) put(s []fetchEntry) {
	if cap(s) == 0 {
		return
	}
	clear(s)
	s = s[:0]
	p.pool.Put(&s)
}

func releaseRecords(entries []fetchEntry) {
	for i := range entries {
		entries[i].records.Release()
	}
}

// topicGroup is a run of entries that share a topic.
type topicGroup struct{ entries []int }

// groups puts entries that follow each other and share a topic together: first those that were read, then those that
// were refused. What has not changed for the session is left out.
func (r *fetchResponse) groups() []topicGroup {
	order := make([]int, 0, min(len(r.entries), 64))
	for _, refused := range [...]bool{false, true} {
		for i := range r.entries {
			if e := &r.entries[i]; e.refused == refused && !e.unchanged {
				order = append(order, i)
			}
		}
	}
	var groups []topicGroup
	for start := 0; start < len(order); {
		k := r.entries[order[start]].key
		end := start + 1
		for end < len(order) && r.entries[order[end]].key.id == k.id && r.entries[order[end]].key.name == k.name {
			end++
		}
		groups = append(groups, topicGroup{order[start:end]})
		start = end
	}
	return groups
}

func (r *fetchResponse) encodePartition(w *payloadWriter, e *fetchEntry) error {
	flexible := r.version >= 12
	w.int32(e.key.partition)
	w.int16(r.codeFor(e))
	w.int64(int64(e.highWatermark))
	w.int64(int64(e.lastStable))
	if r.version >= 5 {
		w.int64(int64(e.logStart))
	}
	if e.withAborted {
		w.arrayLen(flexible, len(e.aborted))
	} else {
		w.arrayLen(flexible, -1)
	}
	for i := range e.aborted {
		w.int64(int64(e.aborted[i].ProducerID))
		w.int64(int64(e.aborted[i].FirstOffset))
		w.noTags(flexible)
	}
	if r.version >= 11 {
		w.int32(int32(e.readReplica))
	}
	w.arrayLen(flexible, e.size)
	if e.size > 0 {
		if err := w.records(e); err != nil {
			return err
		}
	}
	if flexible {
		r.encodePartitionTags(w, e)
	}
	return nil
}

// codeFor is the entry's error as its version knows it: before version 6 a client does not know KAFKA_STORAGE_ERROR.
func (r *fetchResponse) codeFor(e *fetchEntry) int16 {
	if r.version < 6 && e.code == kafka.ErrKafkaStorageError.Code {
		return kafka.ErrNotLeaderOrFollower.Code
	}
	return e.code
}

func (r *fetchResponse) encodePartitionTags(w *payloadWriter, e *fetchEntry) {
	tags := uint64(0)
	if e.diverging != nil {
		tags++
	}
	hint := e.leaderHint != kafka.NoLeader || e.leaderEpoch != kafka.NoLeaderEpoch
	if hint {
		tags++
	}
	w.uvarint(tags)
	if e.diverging != nil {
		w.uvarint(0)  // tag
		w.uvarint(13) // size: epoch, end offset, no tags
		w.int32(int32(e.diverging.Epoch))
		w.int64(int64(e.diverging.End))
		w.uvarint(0)
	}
	if hint {
		w.uvarint(1)
		w.uvarint(9) // size: leader, epoch, no tags
		w.int32(int32(e.leaderHint))
		w.int32(int32(e.leaderEpoch))
		w.uvarint(0)
	}
}

func (r *fetchResponse) encodeNodes(w *payloadWriter) {
	if r.version < 16 || len(r.nodes) == 0 {
		w.uvarint(0)
		return
	}
	var b payloadWriter
	b.arrayLen(true, len(r.nodes))
	for i := range r.nodes {
		n := &r.nodes[i]
		b.int32(int32(n.id))
		b.string(true, n.host)
		b.int32(n.port)
		if n.rack == nil {
			b.uvarint(0)
		} else {
			b.string(true, *n.rack)
		}
		b.uvarint(0)
	}
	w.uvarint(1) // one tagged field
	w.uvarint(0) // tag
	w.uvarint(uint64(len(b.buf)))
	w.buf = append(w.buf, b.buf...)
}

// payloadWriter collects a payload: bytes in one buffer, and file sections that go in between.
type payloadWriter struct {
	buf      []byte
	sections []section
}

type section struct {
	at       int // where in buf it goes
	file     vfs.File
	position int64
	length   int64
}

func (w *payloadWriter) int16(v int16)    { w.buf = binary.BigEndian.AppendUint16(w.buf, uint16(v)) }
func (w *payloadWriter) int32(v int32)    { w.buf = binary.BigEndian.AppendUint32(w.buf, uint32(v)) }
func (w *payloadWriter) int64(v int64)    { w.buf = binary.BigEndian.AppendUint64(w.buf, uint64(v)) }
func (w *payloadWriter) uvarint(v uint64) { w.buf = binary.AppendUvarint(w.buf, v) }

// arrayLen writes an array's length, -1 for null.
func (w *payloadWriter) arrayLen(flexible bool, n int) {
	if flexible {
		w.uvarint(uint64(n + 1))
	} else {
		w.int32(int32(n))
	}
}

func (w *payloadWriter) string(flexible bool, s string) {
	if flexible {
		w.uvarint(uint64(len(s) + 1))
	} else {
		w.int16(int16(len(s)))
	}
	w.buf = append(w.buf, s...)
}

func (w *payloadWriter) noTags(flexible bool) {
	if flexible {
		w.uvarint(0)
	}
}

func (w *payloadWriter) records(e *fetchEntry) (err error) {
	if file, position, length := e.records.File(); length > 0 && file.OSFile() != nil {
		w.sections = append(w.sections, section{len(w.buf), file, position, length})
		return nil
	}
	w.buf, err = e.records.AppendTo(w.buf)
	return err
}

// finish cuts the buffer into parts around the sections.
func (w *payloadWriter) finish() []wire.Part {
	parts := make([]wire.Part, 0, 2*len(w.sections)+1)
	from := 0
	for _, s := range w.sections {
		if s.at > from {
			parts = append(parts, wire.Part{Bytes: w.buf[from:s.at:s.at]})
		}
		parts = append(parts, wire.Part{File: s.file.OSFile(), Off: s.position, Len: s.length})
		from = s.at
	}
	if from < len(w.buf) {
		parts = append(parts, wire.Part{Bytes: w.buf[from:]})
	}
	return parts
}
