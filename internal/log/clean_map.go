package log

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"

	"chronik/internal/kafka"
)

// keyHash stands for a key: 128 bits of its SHA-256, so that no two keys are ever taken for one, by chance or by intent.
type keyHash struct{ high, low uint64 }

func hashKey(key []byte) keyHash {
	sum := sha256.Sum256(key)
	return keyHash{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// offsetMapEntryBytes is what a key costs in memory, whatever its length.
const offsetMapEntryBytes = 24

// offsetMap knows the last offset of each key in a stretch of the log. Its memory is bounded, the old and the new table of a
// growing one together: when it is full, the stretch ends. It begins small, because a small table stays in the processor's
// caches, and most logs have far fewer keys than records.
type offsetMap struct {
	slots []offsetSlot
	n     int
	limit int // of n, in this table
	most  int // slots that it may grow to
	load  float64
	// latest is the last offset up to which every record with a key is in it; what lies behind stays as it is.
	latest kafka.Offset
}

type offsetSlot struct {
	hash   keyHash
	offset int64 // + 1; 0: the slot is free
}

const offsetMapSlots = 4096 // to begin with

// newOffsetMap makes one of at most so many bytes, and no larger than the keys to come can need.
func newOffsetMap(bytes int64, load float64, keys int64) *offsetMap {
	most := max(bytes/offsetMapEntryBytes, 2)
	if need := int64(float64(keys)/load) + 2; need > 0 && need < most {
		most = need
	}
	m := &offsetMap{most: int(most), load: load, latest: kafka.NoOffset}
	m.make(min(m.most, offsetMapSlots))
	return m
}

func (m *offsetMap) make(slots int) {
	m.slots = make([]offsetSlot, slots)
	m.limit = max(int(float64(slots)*m.load), 1)
}

// grow makes room for more keys, if there may be more.
func (m *offsetMap) grow() bool {
	old := m.slots
	n := 2 * len(old)
	if 8*len(old) >= m.most { // the last time: all that the old table leaves
		n = m.most - len(old)
	}
	if n <= len(old) {
		return false
	}
	m.make(n)
	for i := range old {
		if old[i].offset != 0 {
			*m.find(old[i].hash) = old[i]
		}
	}
	return true
}

// find is the slot of a key, or the free one where it would be.
func (m *offsetMap) find(h keyHash) *offsetSlot {
	at, _ := bits.Mul64(h.high, uint64(len(m.slots)))
	for {
		s := &m.slots[at]
		if s.offset == 0 || s.hash == h {
			return s
		}
		if at++; at == uint64(len(m.slots)) {
			at = 0
		}
	}
}

// put notes that a key is at offset; false if there is no room for it.
func (m *offsetMap) put(key []byte, offset kafka.Offset) bool {
	h := hashKey(key)
	s := m.find(h)
	if s.offset == 0 {
		if m.n >= m.limit {
			if !m.grow() {
				return false
			}
			s = m.find(h)
		}
		m.n++
		s.hash = h
	}
	s.offset = int64(offset) + 1
	return true
}

// get is the last offset of a key; NoOffset if it is not in the stretch.
func (m *offsetMap) get(key []byte) kafka.Offset {
	if m.n == 0 {
		return kafka.NoOffset
	}
	return kafka.Offset(m.find(hashKey(key)).offset - 1)
}
