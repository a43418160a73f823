package record

// Records hold zigzag varints, of at most 5 bytes where the value is an int32 and 10 where it is an int64.

const maxVarint32 = 5

// varint reads a zigzag int64 at p and returns the position behind it, -1 if there is none.
func varint(b []byte, p int) (int64, int) {
	if uint(p) < uint(len(b)) && b[p] < 0x80 {
		c := b[p]
		return int64(c>>1) ^ -int64(c&1), p + 1
	}
	return longVarint(b, p)
}

func longVarint(b []byte, p int) (int64, int) {
	var v uint64
	for shift := uint(0); shift < 70; shift += 7 {
		if uint(p) >= uint(len(b)) {
			return 0, -1
		}
		c := b[p]
		p++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return int64(v>>1) ^ -int64(v&1), p
		}
	}
	return 0, -1
}

// varint32 reads a zigzag int32.
func varint32(b []byte, p int) (int32, int) {
	if uint(p) < uint(len(b)) && b[p] < 0x80 {
		c := b[p]
		return int32(c>>1) ^ -int32(c&1), p + 1
	}
	return longVarint32(b, p)
}

func longVarint32(b []byte, p int) (int32, int) {
	var v uint32
	for i := range maxVarint32 {
		if uint(p) >= uint(len(b)) {
			return 0, -1
		}
		c := b[p]
		p++
		v |= uint32(c&0x7f) << (7 * i)
		if c < 0x80 {
			return int32(v>>1) ^ -int32(v&1), p
		}
	}
	return 0, -1
}

// appendVarint appends the zigzag form of v.
func appendVarint(dst []byte, v int64) []byte {
	u := uint64(v)<<1 ^ uint64(v>>63)
	for u >= 0x80 {
		dst = append(dst, byte(u)|0x80)
		u >>= 7
	}
	return append(dst, byte(u))
}

// varintSize is the number of bytes that appendVarint takes.
func varintSize(v int64) int {
	u := uint64(v)<<1 ^ uint64(v>>63)
	n := 1
	for u >= 0x80 {
		u >>= 7
		n++
	}
	return n
}
