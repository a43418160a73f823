package bench

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are at most 1.6% wide, so that millions of samples cost 30 KiB. It belongs
// to one goroutine; merge when done.
type histogram struct {
	counts [64 << subBits]uint32
	n      int64
	max    time.Duration
}

const subBits = 6

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) merge(other *histogram) {
	for i, c := range other.counts {
		h.counts[i] += c
	}
	h.n += other.n
	h.max = max(h.max, other.max)
}

// quantile is the upper bound of the bucket that holds the q-th sample; the maximum is exact.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := int64(q*float64(h.n-1)) + 1
	for i, c := range h.counts {
		if rank -= int64(c); rank <= 0 {
			return min(time.Duration(upper(i)), h.max)
		}
	}
	return h.max
}

// bucket numbers are the exponent and the subBits bits after the leading one; small values stand for themselves.
func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return (shift+1)<<subBits + int(v>>shift) - 1<<subBits
}

func upper(b int) uint64 {
	if b < 1<<subBits {
		return uint64(b)
	}
	shift := b>>subBits - 1
	return (uint64(b&(1<<subBits-1)|1<<subBits)+1)<<shift - 1
}
