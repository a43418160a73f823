package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/pierrec/lz4/v4"

	"chronik/internal/kafka"
)

// Codecs holds decoders and encoders for reuse. The zero value is ready, may be used from many goroutines, and has
// nothing to close. It is a value of its owner, not a global: a zstd decoder holds a channel, which must not wander
// between simulated nodes.
type Codecs struct {
	gzip, lz4, zstd, snappy, walk sync.Pool // *gzip.Reader, *lz4.Reader, *zstd.Decoder, *snappyReader, *stream
	gzipOut, lz4Out, zstdOut      sync.Pool // *gzip.Writer, *lz4.Writer, *zstd.Encoder
}

// errTooMuchOutput is the refusal of a decompression bomb.
var errTooMuchOutput = errors.New("the decompressed records exceed the limit")

// reader is a decoder on its way between a pool and a user.
type reader struct {
	io.Reader
	put func()
}

// open starts to decode src. The reader must be put back.
func (c *Codecs) open(codec Codec, src *bytes.Reader) (reader, error) {
	switch codec {
	case None:
		return reader{src, func() {}}, nil
	case Gzip:
		if z, ok := c.gzip.Get().(*gzip.Reader); ok {
			if err := z.Reset(src); err != nil {
				return reader{}, err
			}
			return reader{z, func() { c.gzip.Put(z) }}, nil
		}
		z, err := gzip.NewReader(src)
		if err != nil {
			return reader{}, err
		}
		return reader{z, func() { c.gzip.Put(z) }}, nil
	case Snappy:
		s, ok := c.snappy.Get().(*snappyReader)
		if !ok {
			s = new(snappyReader)
		}
		s.reset(src)
		return reader{s, func() { s.reset(nil); c.snappy.Put(s) }}, nil
	case LZ4:
		l, ok := c.lz4.Get().(*lz4.Reader)
		if !ok {
			l = lz4.NewReader(nil)
		}
		l.Reset(src)
		return reader{l, func() { l.Reset(nil); c.lz4.Put(l) }}, nil
	case Zstd:
		return c.openZstd(src)
	}
	return reader{}, kafka.ErrUnsupportedCompressionType.With("compression number %d is not known", codec)
}

// Decompress appends the decompressed src to dst, at most limit bytes. Errors: UNSUPPORTED_COMPRESSION_TYPE,
// MESSAGE_TOO_LARGE beyond the limit, INVALID_RECORD for input that cannot be decoded.
func (c *Codecs) Decompress(dst []byte, codec Codec, src []byte, limit int64) ([]byte, error) {
	r, err := c.open(codec, bytes.NewReader(src))
	if err != nil {
		return dst, decodeError(codec, err, limit)
	}
	defer r.put()
	start := len(dst)
	for {
		if len(dst) == cap(dst) {
			grown := make([]byte, len(dst), max(2*cap(dst), len(dst)+2*len(src), 512))
			copy(grown, dst)
			dst = grown
		}
		room := dst[len(dst):cap(dst)]
		if left := limit - int64(len(dst)-start); int64(len(room)) > left+1 {
			room = room[:left+1] // one more than allowed, to see whether there is more
		}
		n, err := r.Read(room)
		dst = dst[:len(dst)+n]
		if int64(len(dst)-start) > limit {
			return dst[:start], decodeError(codec, errTooMuchOutput, limit)
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst[:start], decodeError(codec, err, limit)
		}
	}
}

// decodeError gives a decoder's error the code that a client understands.
func decodeError(codec Codec, err error, limit int64) error {
	var known *kafka.Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, errTooMuchOutput):
		return kafka.ErrMessageTooLarge.With("the %s records of a batch decompress to more than %d bytes", codec, limit)
	}
	return kafka.ErrInvalidRecord.With("%s records cannot be decompressed: %s", codec, fmt.Sprint(err))
}
