package wire

import "testing"

func TestBufferClassesFit(t *testing.T) {
	for n := range 1 << 20 {
		class := classOf(n)
		if size := classSize(class); size < n {
			t.Fatalf("%d bytes get class %d of %d", n, class, size)
		}
		if class > 0 && classSize(class-1) >= n {
			t.Fatalf("%d bytes get class %d, but class %d would do", n, class, class-1)
		}
	}
	if c := classOf(1 << maxBufferBits); c != bufferClasses-1 || classSize(c) != 1<<maxBufferBits {
		t.Fatalf("the largest class is %d of %d bytes", c, classSize(c))
	}
	if classOf(1<<maxBufferBits+1) >= 0 {
		t.Fatal("a buffer beyond the largest class is pooled")
	}
}

func TestAGrownBufferServesWhatItCanHold(t *testing.T) {
	var p Buffers
	for n := 1; n < 1<<16; n = n*3/2 + 1 {
		b := p.Get(10)
		b.B = append(b.B, make([]byte, n)...)
		p.Free(b)
		for range 3 {
			got := p.Get(n)
			if cap(got.B) < n {
				t.Fatalf("asked for %d, got %d", n, cap(got.B))
			}
		}
	}
}
