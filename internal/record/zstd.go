package record

import (
	"bytes"
	"encoding/binary"

	"github.com/klauspost/compress/zstd"

	"chronik/internal/kafka"
)

// A zstd frame states how much history its decoder must keep, and the decoder allocates so much before it has seen a
// byte of content. Kafka's clients state up to 128 MiB at their highest levels, however small the batch is. So the memory
// is bounded by what came: zstdWindow for anyone, and for larger inputs zstdWindowRatio times their size.
const (
	zstdWindow      = 8 << 20
	zstdWindowMax   = 128 << 20
	zstdWindowRatio = 16

	zstdMagic     = 0xfd2fb528
	zstdSmallCode = (23 - 10) << 3 // the window descriptor of 8 MiB
)

// openZstd starts to decode src. A frame that states a larger window than its size earns is decoded with the smaller
// one: that suffices unless it refers back further than 8 MiB, and is then refused as broken.
func (c *Codecs) openZstd(src *bytes.Reader) (reader, error) {
	var head [14]byte
	n, _ := src.ReadAt(head[:], 0)
	window, patchable := zstdWindowOf(head[:n])
	earned := min(max(zstdWindow, zstdWindowRatio*uint64(src.Len())), zstdWindowMax)
	switch {
	case window <= zstdWindow:
	case window <= earned:
		z, err := newZstd(earned)
		if err != nil {
			return reader{}, err
		}
		return reader{z, z.Close}, z.Reset(src)
	case patchable:
		small := make([]byte, src.Len())
		if _, err := src.ReadAt(small, 0); err != nil {
			return reader{}, err
		}
		small[5] = zstdSmallCode
		src = bytes.NewReader(small)
	default:
		return reader{}, kafka.ErrMessageTooLarge.With("a zstd frame of %d bytes claims to hold %d", src.Len(), window)
	}
	z, ok := c.zstd.Get().(*zstd.Decoder)
	if !ok {
		var err error
		if z, err = newZstd(zstdWindow); err != nil {
			return reader{}, err
		}
	}
	if err := z.Reset(src); err != nil {
		return reader{}, err
	}
	return reader{z, func() { _ = z.Reset(nil); c.zstd.Put(z) }}, nil
}

// newZstd makes a decoder without goroutines.
func newZstd(window uint64) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
}

// zstdWindowOf reads the window that a frame states (RFC 8878, 3.1.1.1), 0 if there is no frame, and whether it stands in
// a byte of its own.
func zstdWindowOf(h []byte) (window uint64, patchable bool) {
	if len(h) < 14 || binary.LittleEndian.Uint32(h) != zstdMagic {
		return 0, false
	}
	flags := h[4]
	if flags&0x20 == 0 {
		base := uint64(1) << (10 + h[5]>>3)
		return base + base/8*uint64(h[5]&7), true
	}
	at := 5 + [4]int{0, 1, 2, 4}[flags&3]
	switch flags >> 6 {
	case 0:
		return uint64(h[at]), false
	case 1:
		return uint64(binary.LittleEndian.Uint16(h[at:])) + 256, false
	case 2:
		return uint64(binary.LittleEndian.Uint32(h[at:])), false
	}
	if at+8 > len(h) {
		return 1 << 63, false
	}
	return binary.LittleEndian.Uint64(h[at:]), false
}
