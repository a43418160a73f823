package bench

import (
	"testing"
	"time"
)

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	for i := 1; i <= 100_000; i++ {
		h.add(time.Duration(i) * time.Microsecond)
	}
	for _, q := range []float64{0.5, 0.95, 0.99, 0.999} {
		want := time.Duration(q*100_000) * time.Microsecond
		if got := h.quantile(q); got < want*99/100 || got > want*102/100 {
			t.Errorf("quantile %v is %v, want about %v", q, got, want)
		}
	}
	if got := h.quantile(1); got != 100*time.Millisecond {
		t.Errorf("the maximum is %v", got)
	}
}

func TestBucketsAreMonotonic(t *testing.T) {
	for v := uint64(1); v < 1<<40; v += v/50 + 1 {
		b := bucket(v)
		if upper(b) < v || b > 0 && upper(b-1) >= v {
			t.Fatalf("%d is in bucket %d, (%d, %d]", v, b, upper(b-1), upper(b))
		}
	}
}
