package record

import (
	"fmt"
	"testing"
)

func BenchmarkValidate(b *testing.B) {
	for _, s := range []struct{ n, size int }{{1, 1024}, {100, 1024}, {870, 1024}, {8700, 100}} {
		for _, codec := range codecs {
			if codec != None && s.n != 870 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%dx%d", codec, s.n, s.size), func(b *testing.B) {
				c, l := new(Codecs), limits()
				batch := batchOf(b, codec, s.n, s.size)
				b.SetBytes(int64(s.n * s.size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Validate(batch, l); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
