package record

import (
	"bytes"
	"testing"
)

// FuzzBatch throws bytes at everything that reads a batch. What is accepted must stay acceptable, hold the records that it
// claims, and get the same verdict whether its records are compressed or not.
func FuzzBatch(f *testing.F) {
	for _, codec := range codecs {
		f.Add([]byte(batchOf(f, codec, 3, 20)), false)
	}
	f.Add(AppendEndTransaction(nil, 9, 1, EndTransaction{Type: ControlAbort}, 1), false)
	b := NewBuilder()
	b.Add(5, []byte("k"), nil, Header{"h", []byte("v")}, Header{"i", nil})
	f.Add(b.Build(), true)
	f.Fuzz(func(t *testing.T, in []byte, raw bool) {
		c := new(Codecs)
		l := limits()
		l.MaxUncompressed = 1 << 20
		buf := bytes.Clone(in)
		if len(buf) >= HeaderSize && !raw { // get past the CRC
			h := Batch(buf)
			h.SetBaseOffset(0)
			h.setLength()
			h[offMagic] = 2
			h.renewCRC()
		}
		rest := buf
		for {
			b, more, err := Next(rest)
			if err != nil || b == nil {
				break
			}
			for range c.Records(b, 1<<20) {
			}
			_, _, _, _ = c.ReadEndTransaction(b)
			rest = more
		}
		v, err := c.Validate(buf, l)
		if err == nil {
			n := int32(0)
			for _, err := range c.Records(v.Batch, 1<<20) {
				if err != nil {
					t.Fatalf("accepted but not readable: %v", err)
				}
				n++
			}
			if n != v.Records {
				t.Fatalf("%d records, claimed %d", n, v.Records)
			}
			if _, err := c.Validate(bytes.Clone(v.Batch), l); err != nil {
				t.Fatalf("accepted, then not: %v", err)
			}
		}
		if b, _, e := Next(buf); e == nil && b != nil && b.Codec() == None {
			packed, e := c.Compress(bytes.Clone(b[:HeaderSize]), LZ4, b.Records())
			if e != nil {
				t.Fatal(e)
			}
			p := Batch(packed)
			p.setLength()
			p[offAttributes+1] |= byte(LZ4)
			p.renewCRC()
			if _, err2 := c.Validate(p, l); b.VerifyCRC() && (err == nil) != (err2 == nil) && len(b) < 1<<19 {
				t.Fatalf("uncompressed %v, compressed %v", err, err2)
			}
		}
	})
}
