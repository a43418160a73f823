package log

import (
	"hash/crc32"
	"sync"

	"chronik/internal/record"
)

// The CRC32C of two stretches together follows from those of each and the second's length: a CRC is a remainder of
// polynomials over GF(2), and appending n bytes multiplies by x^(8n). So an interval's checksum is put together from
// those of its batches, and that of a large batch from its header's and the one that it carries, which was just checked.

const crcPolynomial = 0x82f63b78 // Castagnoli, reflected: bit 31 is x^0

// crcPowers holds x^(2^k) modulo the polynomial.
var crcPowers = func() (t [32]uint32) {
	t[0] = 1 << 30
	for k := 1; k < len(t); k++ {
		t[k] = crcMultiply(t[k-1], t[k-1])
	}
	return t
}()

func crcMultiply(a, b uint32) uint32 {
	var product uint32
	for m := uint32(1) << 31; m != 0; m >>= 1 {
		if a&m != 0 {
			product ^= b
		}
		b = b>>1 ^ crcPolynomial&-(b&1)
	}
	return product
}

// crcShifts holds x^(8n) modulo the polynomial for each n below crcShiftMax: most batches are shorter.
var crcShifts = sync.OnceValue(func() *[crcShiftMax]uint32 {
	t := &[crcShiftMax]uint32{0: 1 << 31}
	for n := 1; n < len(t); n++ {
		t[n] = crcMultiply(t[n-1], crcPowers[3])
	}
	return t
})

const crcShiftMax = 4 << 10

// combineCRC is the CRC of a stretch with CRC a followed by one of n bytes with CRC b.
func combineCRC(a, b uint32, n int64) uint32 {
	power := crcShifts()[n%crcShiftMax]
	for n, k := n/crcShiftMax, 3+12; n > 0; n, k = n>>1, k+1 {
		if n&1 != 0 {
			power = crcMultiply(crcPowers[k&31], power)
		}
	}
	return crcMultiply(power, a) ^ b
}

// crcFromHeader is where a batch's own CRC begins to cover it, in bytes.
const crcFromHeader = 21

// crcOfBatch is the CRC over a whole batch, whose own CRC is known to fit.
func crcOfBatch(b record.Batch) uint32 {
	if len(b) < 4096 {
		return crc32.Checksum(b, castagnoli)
	}
	return combineCRC(crc32.Checksum(b[:crcFromHeader], castagnoli), b.CRC(), int64(len(b)-crcFromHeader))
}
