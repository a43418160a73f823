package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// batchOf builds n records of size bytes each, 1 ms apart from 1000.
func batchOf(t testing.TB, codec Codec, n, size int) Batch {
	t.Helper()
	b := NewBuilder()
	b.Codec = codec
	value := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	for i := range n {
		b.Add(1000+int64(i), nil, value)
	}
	out, err := b.AppendTo(nil, new(Codecs))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func limits() *Limits {
	return &Limits{MaxBatchBytes: 1 << 20, Codec: KeepCodec, BeforeMax: math.MaxInt64, AfterMax: 3600_000, Now: 1_000_000}
}

// change applies f to a copy of b and renews the CRC.
func change(b Batch, f func(Batch)) Batch {
	c := Batch(bytes.Clone(b))
	f(c)
	c.setLength()
	c.renewCRC()
	return c
}

func put32(off int, v int32) func(Batch) {
	return func(b Batch) { binary.BigEndian.PutUint32(b[off:], uint32(v)) }
}

func TestBuilderMatchesKmsg(t *testing.T) {
	b := NewBuilder()
	b.BaseOffset, b.LeaderEpoch, b.ProducerID, b.ProducerEpoch, b.BaseSequence = 7, 3, 99, 2, 11
	b.Transactional = true
	b.Add(5000, []byte("k"), []byte("v"), Header{"h", []byte("x")}, Header{"n", nil})
	b.Add(4000, nil, []byte{})
	got := b.Build()

	var m kmsg.RecordBatch
	if err := m.ReadFrom(got); err != nil {
		t.Fatal(err)
	}
	if m.FirstOffset != 7 || m.PartitionLeaderEpoch != 3 || m.ProducerID != 99 || m.ProducerEpoch != 2 ||
		m.FirstSequence != 11 || m.NumRecords != 2 || m.FirstTimestamp != 5000 || m.MaxTimestamp != 5000 ||
		m.LastOffsetDelta != 1 || m.Attributes != attrTransactional || int(m.Length) != len(got)-LogOverhead {
		t.Errorf("header: %+v", m)
	}
	if !bytes.Equal(m.AppendTo(nil), got) {
		t.Error("kmsg encodes it differently")
	}
	var rs []Record
	for r, err := range new(Codecs).Records(got, 0) {
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	if fmt.Sprintf("%v", rs) != "[{7 5000 11 [107] [118] [{h [120]} {n []}]} {8 4000 12 [] [] []}]" {
		t.Errorf("records: %v", rs)
	}
	if rs[1].Key != nil || rs[1].Value == nil || rs[0].Headers[1].Value != nil {
		t.Error("null and empty are confused")
	}
}

func TestValidateAccepts(t *testing.T) {
	c := new(Codecs)
	for _, codec := range codecs {
		for _, n := range []int{1, 2, 63, 64, 65, 200, 9000} {
			b := batchOf(t, codec, n, 50)
			v, err := c.Validate(append(bytes.Clone(b), b[:40]...), limits()) // a torn second batch is ignored
			if err != nil {
				t.Fatalf("%s, %d records: %v", codec, n, err)
			}
			if int(v.Records) != n || v.MaxTimestamp != 999+int64(n) || v.LogAppendTime != -1 || !bytes.Equal(v.Batch, b) {
				t.Errorf("%s, %d records: %+v", codec, n, v.Records)
			}
		}
		// Records larger than the window, with headers.
		b := NewBuilder()
		b.Codec = codec
		for i := range 5 {
			b.Add(1000, []byte("key"), bytes.Repeat([]byte{byte(i)}, streamWindow+i*1000), Header{"a", []byte("b")}, Header{"c", nil})
		}
		big, err := b.AppendTo(nil, c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Validate(big, limits()); err != nil {
			t.Errorf("%s, large records: %v", codec, err)
		}
	}
}

func TestValidateRefuses(t *testing.T) {
	good := batchOf(t, None, 3, 10)
	withPID := change(good, func(b Batch) { binary.BigEndian.PutUint64(b[offProducerID:], 5); put32(offBaseSequence, -2)(b) })
	lim := func(f func(*Limits)) *Limits { l := limits(); f(l); return l }
	flip := Batch(bytes.Clone(good))
	flip[len(flip)-1] ^= 1
	for _, c := range []struct {
		name string
		buf  []byte
		l    *Limits
		want *kafka.Error
	}{
		{"nothing", nil, limits(), kafka.ErrInvalidRecord},
		{"torn", good[:len(good)-1], limits(), kafka.ErrInvalidRecord},
		{"two batches", append(bytes.Clone(good), good...), limits(), kafka.ErrInvalidRecord},
		{"length below the header", change2(good, put32(offLength, 10)), limits(), kafka.ErrCorruptMessage},
		{"negative length", change2(good, put32(offLength, -1)), limits(), kafka.ErrCorruptMessage},
		{"magic 1", change2(good, func(b Batch) { b[offMagic] = 1 }), limits(), kafka.ErrInvalidRecord},
		{"magic 3", change2(good, func(b Batch) { b[offMagic] = 3 }), limits(), kafka.ErrCorruptMessage},
		{"bit flip", flip, limits(), kafka.ErrCorruptMessage},
		{"base offset", change(good, func(b Batch) { b.SetBaseOffset(1) }), limits(), kafka.ErrInvalidRecord},
		{"too large", good, lim(func(l *Limits) { l.MaxBatchBytes = len(good) - 1 }), kafka.ErrMessageTooLarge},
		{"unknown codec", change(good, func(b Batch) { b[offAttributes+1] = 5 }), limits(), kafka.ErrUnsupportedCompressionType},
		{"zstd in Produce 6", batchOf(t, Zstd, 1, 1), lim(func(l *Limits) { l.ProduceVersion = 6 }), kafka.ErrUnsupportedCompressionType},
		{"count too large", change(good, put32(offCount, 4)), limits(), kafka.ErrInvalidRecord},
		{"no records", change(good, func(b Batch) { put32(offCount, 0)(b); put32(offLastOffsetDelta, -1)(b) }), limits(), kafka.ErrInvalidRecord},
		{"records missing", change(good, func(b Batch) { put32(offCount, 4)(b); put32(offLastOffsetDelta, 3)(b) }), limits(), kafka.ErrInvalidRecord},
		{"records left over", change(good, func(b Batch) { put32(offCount, 2)(b); put32(offLastOffsetDelta, 1)(b) }), limits(), kafka.ErrInvalidRecord},
		{"control", change(good, func(b Batch) { b[offAttributes+1] |= attrControl }), limits(), kafka.ErrInvalidRecord},
		{"sequence", withPID, limits(), kafka.ErrInvalidRecord},
		{"no key", good, lim(func(l *Limits) { l.Compacted = true }), kafka.ErrInvalidRecord},
		{"too old", good, lim(func(l *Limits) { l.BeforeMax = 1000 }), kafka.ErrInvalidTimestamp},
		{"in the future", good, lim(func(l *Limits) { l.Now, l.AfterMax = 0, 500 }), kafka.ErrInvalidTimestamp},
		{"append time from a producer", change(good, func(b Batch) { b[offAttributes+1] |= attrTimestampType }),
			lim(func(l *Limits) { l.TimestampType = LogAppendTime }), kafka.ErrInvalidTimestamp},
		{"offset deltas", change(good, func(b Batch) { b[HeaderSize+3] = 2 }), limits(), kafka.ErrInvalidRecord},
		{"record length", change(good, func(b Batch) { b[HeaderSize] += 2 }), limits(), kafka.ErrInvalidRecord},
		{"header count", change(good, func(b Batch) { b[len(b)-1] = 2 }), limits(), kafka.ErrInvalidRecord},
		{"negative header count", change(good, func(b Batch) { b[len(b)-1] = 1 }), limits(), kafka.ErrInvalidRecord},
	} {
		_, err := new(Codecs).Validate(bytes.Clone(c.buf), c.l)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want.Name)
		}
	}
}

// change2 changes a copy, leaving length and CRC as they are.
func change2(b Batch, f func(Batch)) Batch {
	c := Batch(bytes.Clone(b))
	f(c)
	return c
}

func TestRecordErrors(t *testing.T) {
	b := NewBuilder()
	for i := range 400 {
		b.Add(int64(i), nil, nil)
	}
	l := limits()
	l.Compacted = true
	_, err := new(Codecs).Validate(b.Build(), l)
	var v *ValidationError
	if !errors.As(err, &v) || len(v.Records) != maxRecordErrors || v.Records[5].Index != 5 {
		t.Fatalf("%v", err)
	}
	if kafka.CodeOf(err) != kafka.ErrInvalidRecord.Code || !strings.Contains(*kafka.Message(err), "400") {
		t.Errorf("%v", err)
	}
}

func TestTimestamps(t *testing.T) {
	c := new(Codecs)
	// The header's largest timestamp is put right.
	b := change(batchOf(t, None, 3, 5), func(b Batch) { binary.BigEndian.PutUint64(b[offMaxTimestamp:], 77) })
	v, err := c.Validate(b, limits())
	if err != nil || v.MaxTimestamp != 1002 || v.Batch.MaxTimestamp() != 1002 || !v.Batch.VerifyCRC() {
		t.Errorf("%+v %v", v, err)
	}
	// Append time.
	for _, codec := range codecs {
		l := limits()
		l.TimestampType, l.BeforeMax = LogAppendTime, 0
		v, err = c.Validate(batchOf(t, codec, 3, 5), l)
		if err != nil || v.LogAppendTime != l.Now || v.Batch.MaxTimestamp() != l.Now || v.Batch.TimestampType() != LogAppendTime || !v.Batch.VerifyCRC() {
			t.Errorf("%+v %v", v, err)
		}
		for r, err := range c.Records(v.Batch, 0) {
			if err != nil || r.Timestamp != l.Now {
				t.Errorf("%v %v", r, err)
			}
		}
	}
	// Without a timestamp there is nothing to check.
	n := NewBuilder()
	n.Add(NoTimestamp, nil, nil)
	l := limits()
	l.BeforeMax = 0
	if v, err = c.Validate(n.Build(), l); err != nil || v.MaxTimestamp != NoTimestamp {
		t.Errorf("%+v %v", v, err)
	}
}

func TestRecompress(t *testing.T) {
	c := new(Codecs)
	for _, from := range codecs {
		for _, to := range codecs {
			l := limits()
			l.Codec = to
			src := batchOf(t, from, 100, 30)
			v, err := c.Validate(src, l)
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			if v.Recompressed != (from != to) || v.Batch.Codec() != to || !v.Batch.VerifyCRC() {
				t.Errorf("%s to %s: %v", from, to, v.Recompressed)
			}
			l.Codec = KeepCodec
			if _, err := c.Validate(v.Batch, l); err != nil {
				t.Errorf("%s to %s, again: %v", from, to, err)
			}
			n := 0
			for r, err := range c.Records(v.Batch, 0) {
				if err != nil || len(r.Value) != 30 {
					t.Fatal(r, err)
				}
				n++
			}
			if n != 100 {
				t.Errorf("%d records", n)
			}
		}
	}
	l := limits()
	l.Codec, l.MaxBatchBytes = None, 2000
	if _, err := c.Validate(batchOf(t, Zstd, 1000, 30), l); !errors.Is(err, kafka.ErrMessageTooLarge) {
		t.Errorf("uncompressed beyond max.message.bytes: %v", err)
	}
}

func TestBombs(t *testing.T) {
	c := new(Codecs)
	zeros := make([]byte, 8<<20)
	for _, codec := range codecs[1:] {
		b := NewBuilder()
		b.Codec = codec
		b.Add(1000, nil, zeros)
		bomb, err := b.AppendTo(nil, c)
		if err != nil {
			t.Fatal(err)
		}
		l := limits()
		l.MaxUncompressed = 4 << 20
		if _, err := c.Validate(bomb, l); !errors.Is(err, kafka.ErrMessageTooLarge) {
			t.Errorf("%s: %v", codec, err)
		}
		if _, err := c.Decompress(nil, codec, Batch(bomb).Records(), 4<<20); !errors.Is(err, kafka.ErrMessageTooLarge) {
			t.Errorf("%s: %v", codec, err)
		}
		if out, err := c.Decompress(nil, codec, Batch(bomb).Records(), 9<<20); err != nil || len(out) < len(zeros) {
			t.Errorf("%s: %v", codec, err)
		}
	}
	// Headers that promise much: a snappy block of 2 GiB, a zstd frame with a window of 128 MiB.
	for _, p := range []struct {
		codec Codec
		src   []byte
	}{
		{Snappy, []byte{0xff, 0xff, 0xff, 0xff, 0x07, 0, 0}},
		{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00, 0, 0, 0, 0, 0}},
		{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 6, 1, 0, 0, 0, 0}},
		{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 6, 1, 0, 0, 0, 0}},
		{Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe3, 0, 0, 0, 6, 1, 0, 0, 0, 0}},
	} {
		codec, src := p.codec, p.src
		least := uint64(math.MaxUint64) // of several, for the decoder itself is made anew now and then
		for range 10 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _ = c.Decompress(nil, codec, src, 1<<30)
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		if least > 1<<20 {
			t.Errorf("%s: a promise alone allocates %d bytes", codec, least)
		}
	}
}

// TestZstdWindows: what the highest levels of Kafka's clients state is decoded, in little memory for a little batch.
func TestZstdWindows(t *testing.T) {
	c := new(Codecs)
	for _, size := range []int{1000, 3 << 20} {
		noise := make([]byte, size)
		for i := range noise {
			noise[i] = byte(i * i >> 7)
		}
		var out bytes.Buffer
		z, err := zstd.NewWriter(&out, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		for i := range size / 100 { // a stream: its size is not known at the start
			_, _ = z.Write(noise[i*100 : i*100+100])
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		out.Bytes()[5] = (26 - 10) << 3
		if w, ok := zstdWindowOf(out.Bytes()); w != 64<<20 || !ok {
			t.Fatalf("the frame states a window of %d", w)
		}
		got, err := c.Decompress(nil, Zstd, out.Bytes(), 1<<30)
		if err != nil || !bytes.Equal(got, noise[:size/100*100]) {
			t.Errorf("%d bytes: %d, %v", size, len(got), err)
		}
	}
}

func TestRawSnappyAndBrokenInput(t *testing.T) {
	c := new(Codecs)
	raw := []byte{5, 4 << 2, 'h', 'e', 'l', 'l', 'o'}
	if out, err := c.Decompress(nil, Snappy, raw, 100); err != nil || string(out) != "hello" {
		t.Errorf("%q %v", out, err)
	}
	for _, codec := range codecs[1:] {
		good := batchOf(t, codec, 100, 100)
		for _, cut := range []int{1, 5, 10} {
			b := Batch(bytes.Clone(good[:len(good)-cut]))
			b.setLength()
			b.renewCRC()
			if _, err := c.Validate(b, limits()); !errors.Is(err, kafka.ErrInvalidRecord) {
				t.Errorf("%s cut by %d: %v", codec, cut, err)
			}
		}
		if _, err := c.Validate(good, limits()); err != nil { // the pools survive it
			t.Error(err)
		}
	}
}

func TestSequences(t *testing.T) {
	for _, c := range [][3]int32{{0, 1, 1}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 3, 1}, {5, 0, 5}} {
		if AddSequence(c[0], c[1]) != c[2] || SubSequence(c[2], c[1]) != c[0] {
			t.Error(c)
		}
	}
}

func TestControl(t *testing.T) {
	c := new(Codecs)
	b := AppendEndTransaction(nil, 9, 1, EndTransaction{Type: ControlCommit, CoordinatorEpoch: 42}, 1234)
	m, at, ok, err := c.ReadEndTransaction(b)
	if err != nil || !ok || at != 1234 || m != (EndTransaction{ControlCommit, 42}) {
		t.Error(m, at, ok, err)
	}
	if b := Batch(b); !b.Control() || !b.Transactional() || b.BaseSequence() != NoSequence {
		t.Error("attributes")
	}
}

func TestVarints(t *testing.T) {
	for _, v := range []int64{0, -1, 1, 63, 64, -64, -65, 8191, 8192, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		e := appendVarint(nil, v)
		if got, p := varint(e, 0); got != v || p != len(e) || varintSize(v) != len(e) {
			t.Error(v, got, p)
		}
		if v >= math.MinInt32 && v <= math.MaxInt32 {
			if got, p := varint32(e, 0); int64(got) != v || p != len(e) {
				t.Error(v, got, p)
			}
		}
		if _, p := varint(e[:len(e)-1], 0); p >= 0 {
			t.Error("a torn varint is read", v)
		}
	}
}
