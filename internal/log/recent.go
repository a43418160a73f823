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
	next     kafka.Offset // behind the batch; of a hint it is not known, and 0
	base     kafka.Offset // of its segment
	position int64
}

func (r *recentBatches) add(p batchPlace) {
	r.ring[r.n%len(r.ring)] = p
	r.n++
}

func (r *recentBatches) clear() { r.n = 0 }

// find returns the batch that holds offset, or the next one where the offset lies in a gap, if it is among those remembered.
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
	if found := r.ring[low%len(r.ring)]; offset < found.next {
		return found, true
	}
	if low+1 == r.n {
		return batchPlace{}, false // nothing is behind it
	}
	return r.ring[(low+1)%len(r.ring)], true
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
