package log

import "chronik/internal/kafka"

// recentBatches remembers where the last batches begin, so that reading and waiting at the end of the log, which is where
// most readers are, looks nothing up.
type recentBatches struct {
	ring [64]batchPlace
	n    int // batches ever added; ring[(n-1)%64] is the newest
}

type batchPlace struct {
	offset   kafka.Offset // of the batch's first record
	base     kafka.Offset // of its segment
	position int64
}

func (r *recentBatches) add(offset, base kafka.Offset, position int64) {
	r.ring[r.n%len(r.ring)] = batchPlace{offset, base, position}
	r.n++
}

func (r *recentBatches) clear() { r.n = 0 }

// find returns the batch that holds offset, which is below the log's end, if it is among those remembered.
func (r *recentBatches) find(offset kafka.Offset) (batchPlace, bool) {
	low, high := max(0, r.n-len(r.ring)), r.n
	if low == high || r.ring[low%len(r.ring)].offset > offset {
		return batchPlace{}, false
	}
	for high-low > 1 {
		mid := (low + high) / 2
		if r.ring[mid%len(r.ring)].offset <= offset {
			low = mid
		} else {
			high = mid
		}
	}
	return r.ring[low%len(r.ring)], true
}

// readHints remembers where the last reads ended: that is where the next ones begin.
type readHints struct {
	slots [16]batchPlace
	next  int
}

func (h *readHints) add(p batchPlace) {
	h.slots[h.next%len(h.slots)] = p
	h.next++
}

func (h *readHints) clear() { *h = readHints{} }

// find returns the batch that begins exactly at offset.
func (h *readHints) find(offset kafka.Offset) (batchPlace, bool) {
	for i := range min(h.next, len(h.slots)) {
		if h.slots[i].offset == offset {
			return h.slots[i], true
		}
	}
	return batchPlace{}, false
}
