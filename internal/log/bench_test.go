package log

import (
	"fmt"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

func BenchmarkAppend(b *testing.B) {
	for _, s := range []struct{ n, size int }{{1, 100}, {1, 1024}, {870, 1024}, {8700, 100}} {
		b.Run(fmt.Sprintf("%dx%d", s.n, s.size), func(b *testing.B) {
			o := options(vfs.OS{}, Config{SegmentBytes: 256 << 20})
			o.Dir = b.TempDir()
			l := openFresh(b, o)
			batch := plain(s.n, s.size, 1)
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Append(batch, 0, record.FromClient); err != nil {
					b.Fatal(err)
				}
				if l.Segments() > 2 {
					if err := l.SetLogStart(l.LogEnd()); err != nil {
						b.Fatal(err)
					}
					if _, err := l.DropBelowLogStart(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	o := options(vfs.OS{}, Config{})
	o.Dir = b.TempDir()
	l := openFresh(b, o)
	batch := plain(1, 1024, 1)
	for range 20000 {
		mustAppend(b, l, batch, 0)
	}
	for _, c := range []struct {
		name string
		max  int
		step kafka.Offset
	}{{"sequential 1 MiB", 1 << 20, 0}, {"random 64 KiB", 64 << 10, 7919}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			from := kafka.Offset(0)
			for b.Loop() {
				s, err := l.Read(from, c.max, l.LogEnd(), true)
				if err != nil {
					b.Fatal(err)
				}
				next := s.Next
				s.Release()
				if c.step > 0 {
					next = from + c.step
				}
				from = next % l.LogEnd()
			}
		})
	}
}
