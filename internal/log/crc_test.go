package log

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

func TestCombineCRC(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	whole := make([]byte, 1<<20)
	for i := range whole {
		whole[i] = byte(rng.Uint32())
	}
	lengths := []int{0, 1, 7, 4095, 4096, 4097, 8191, 8192, 12_288, 65_536, 500_000}
	for range 200 {
		lengths = append(lengths, rng.IntN(1<<uint(1+rng.IntN(19))))
	}
	for _, n := range lengths {
		at := rng.IntN(len(whole) - n)
		a, b := crc32.Checksum(whole[:at], castagnoli), crc32.Checksum(whole[at:at+n], castagnoli)
		if got, want := combineCRC(a, b, int64(n)), crc32.Checksum(whole[:at+n], castagnoli); got != want {
			t.Errorf("%d bytes after %d: %08x, want %08x", n, at, got, want)
		}
	}
}
