package record

import (
	"bytes"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"chronik/internal/kafka"
)

// Compress appends the compressed src to dst, in the framing that Kafka's clients read (lz4 frames, xerial snappy).
func (c *Codecs) Compress(dst []byte, codec Codec, src []byte) ([]byte, error) {
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		out := bytes.NewBuffer(dst)
		z, ok := c.gzipOut.Get().(*gzip.Writer)
		if !ok {
			z = gzip.NewWriter(nil)
		}
		z.Reset(out)
		if _, err := z.Write(src); err != nil {
			return dst, err
		}
		if err := z.Close(); err != nil {
			return dst, err
		}
		c.gzipOut.Put(z)
		return out.Bytes(), nil
	case Snappy:
		return appendXerial(dst, src), nil
	case LZ4:
		out := bytes.NewBuffer(dst)
		l, ok := c.lz4Out.Get().(*lz4.Writer)
		if !ok {
			l = lz4.NewWriter(nil)
			if err := l.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ConcurrencyOption(1)); err != nil {
				return dst, err
			}
		}
		l.Reset(out)
		if _, err := l.Write(src); err != nil {
			return dst, err
		}
		if err := l.Close(); err != nil {
			return dst, err
		}
		c.lz4Out.Put(l)
		return out.Bytes(), nil
	case Zstd:
		z, ok := c.zstdOut.Get().(*zstd.Encoder)
		if !ok {
			var err error
			z, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true))
			if err != nil {
				return dst, err
			}
		}
		dst = z.EncodeAll(src, dst)
		c.zstdOut.Put(z)
		return dst, nil
	}
	return dst, kafka.ErrUnsupportedCompressionType.With("compression number %d is not known", codec)
}
