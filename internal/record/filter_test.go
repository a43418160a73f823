package record

import (
	"bytes"
	"fmt"
	"testing"
)

// filtered builds a batch of five records, the third a tombstone, and applies k to it.
func filtered(t *testing.T, codec Codec, stamp TimestampType, k *Keep) (b, out Batch, a Applied) {
	t.Helper()
	build := NewBuilder()
	build.Codec, build.TimestampType = codec, stamp
	build.BaseOffset, build.LeaderEpoch, build.ProducerID, build.ProducerEpoch, build.BaseSequence = 100, 3, 9, 2, 40
	for i := range 5 {
		value := []byte(fmt.Sprint("value ", i))
		if i == 2 {
			value = nil
		}
		build.Add(1000+int64(i)*int64(i), []byte(fmt.Sprint("k", i)), value, Header{Key: "h", Value: bytes.Repeat([]byte("x"), 70*i)})
	}
	codecs := new(Codecs)
	raw, err := build.AppendTo(nil, codecs)
	if err != nil {
		t.Fatal(err)
	}
	f := Filter{Codecs: codecs}
	got, a, err := f.Apply([]byte("before"), raw, k)
	if err != nil || !bytes.HasPrefix(got, []byte("before")) {
		t.Fatalf("%q, %v", got[:min(len(got), 6)], err)
	}
	return raw, Batch(got[6:]), a
}

// TestFilter: what stays is what it was, at its offset and time, whatever goes and whether a delete horizon is set; the
// batch's identity stays.
func TestFilter(t *testing.T) {
	for _, codec := range []Codec{None, Gzip, Snappy, LZ4, Zstd} {
		for _, stamp := range []TimestampType{CreateTime, LogAppendTime} {
			for _, keep := range []string{"01234", "234", "014", "2", "4", ""} {
				for _, horizon := range []int64{NoTimestamp, 5_000_000_000} {
					name := fmt.Sprintf("%s %v %q %d", codec, stamp, keep, horizon)
					b, out, a := filtered(t, codec, stamp, &Keep{Empty: true, Horizon: horizon, Record: func(e *Entry) bool {
						return bytes.Contains([]byte(keep), []byte{byte('0' + e.Offset - 100)})
					}})
					if a.Records != len(keep) || a.Dropped != 5-len(keep) || !out.VerifyCRC() || out.Size() != len(out) {
						t.Fatalf("%s: %+v", name, a)
					}
					if out.BaseOffset() != 100 || out.LastOffset() != 104 || out.LeaderEpoch() != 3 || out.ProducerID() != 9 || out.ProducerEpoch() != 2 ||
						out.BaseSequence() != 40 || out.LastSequence() != 44 || out.TimestampType() != stamp || len(keep) > 0 && out.Codec() != codec {
						t.Errorf("%s: %x", name, []byte(out[:HeaderSize]))
					}
					h, has := out.DeleteHorizon()
					if want := horizon != NoTimestamp && bytes.Contains([]byte(keep), []byte("2")); has != want || want && h != horizon {
						t.Errorf("%s: horizon %d, %v", name, h, has)
					}
					if a.Verbatim != (keep == "01234" && !has) || a.Verbatim && !bytes.Equal(out, b) {
						t.Errorf("%s: verbatim %v", name, a.Verbatim)
					}
					compare(t, name, b, out, keep)
				}
			}
		}
	}
	if _, out, a := filtered(t, Zstd, CreateTime, &Keep{Horizon: NoTimestamp, Record: func(*Entry) bool { return false }}); len(out) > 0 || a.Dropped != 5 {
		t.Errorf("%d bytes of a batch that may go: %+v", len(out), a)
	}
}

func compare(t *testing.T, name string, b, out Batch, keep string) {
	t.Helper()
	var was []Record
	largest := NoTimestamp
	for r, err := range new(Codecs).Records(b, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains([]byte(keep), []byte{byte('0' + r.Offset - 100)}) {
			was = append(was, r)
			largest = max(largest, r.Timestamp)
		}
	}
	for r, err := range new(Codecs).Records(out, 0) {
		if err != nil || len(was) == 0 || fmt.Sprint(r) != fmt.Sprint(was[0]) {
			t.Fatalf("%s: %v, %v; want %v", name, r, err, was)
		}
		was = was[1:]
	}
	if len(was) > 0 {
		t.Errorf("%s: %d records are missing", name, len(was))
	}
	if keep == "" {
		largest = b.MaxTimestamp()
		if out.Size() != HeaderSize || out.BaseTimestamp() != NoTimestamp || out.Count() != 0 || out.Codec() != None {
			t.Errorf("%s: %x", name, []byte(out))
		}
	}
	if out.MaxTimestamp() != largest {
		t.Errorf("%s: largest timestamp %d, want %d", name, out.MaxTimestamp(), largest)
	}
}

// TestFilterRefuses: a batch whose records do not fit what it says is an error, never a batch without them.
func TestFilterRefuses(t *testing.T) {
	b := NewBuilder()
	b.Add(1, []byte("k"), []byte("v"))
	b.Add(2, []byte("l"), []byte("w"))
	whole := b.Build()
	f := Filter{Codecs: new(Codecs)}
	for at := HeaderSize; at < len(whole); at++ {
		for _, mask := range []byte{0xff, 0x40, 0x02} {
			broken := bytes.Clone(whole)
			broken[at] ^= mask
			out, a, err := f.Apply(nil, broken, &Keep{Empty: true, Horizon: NoTimestamp})
			if err == nil && (a.Records != 2 || len(out) == 0) {
				t.Errorf("byte %d: %+v", at, a)
			}
			_ = f.Each(broken, func(*Entry) bool { return true })
		}
	}
}
