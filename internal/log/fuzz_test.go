package log

import (
	"bytes"
	"context"
	"math/rand/v2"
	"path"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// FuzzIndex throws bytes at the index of a sound segment: the log must open and serve what it holds, whatever the index says (but for
// an entry with the right checksum, which is believed).
func FuzzIndex(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add([]byte{1}, 40)
	fs := vfs.NewMem(0)
	o := options(fs, Config{IndexIntervalBytes: 200})
	l, err := Open(o)
	if err != nil || l.FinishRecovery() != nil {
		f.Fatal(err)
	}
	var all []byte
	for i := range 20 {
		batch := plain(2, 50, int64(i))
		if _, err := l.Append(batch, 0, record.FromClient); err != nil {
			f.Fatal(err)
		}
		all = append(all, batch...)
	}
	c, err := l.Sync()
	if err != nil {
		f.Fatal(err)
	}
	_ = l.Close()
	o.Checkpoint = &c
	name := path.Join(o.Dir, fileName(0, indexSuffix))
	sound, err := l.readWhole(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sound, 0)
	f.Add(sound[:40], 0)
	f.Add(sound[32:], 0)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		fs := fs.Clone()
		file, err := fs.OpenReadWrite(name)
		if err != nil {
			t.Fatal(err)
		}
		if at <= 0 {
			_ = file.Truncate(0)
			at = 0
		}
		if _, err := file.WriteAt(b, int64(at%len(sound))); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		o := o
		o.FS = fs
		l := openFresh(t, o)
		if got := readAll(t, l, 0, 300); !bytes.Equal(got, all) {
			t.Fatal("wrong bytes are served")
		}
		if got, ok, err := l.OffsetForTimestamp(10, l.LogEnd()); err != nil || !ok || got.Offset != 19 {
			t.Fatal(got, ok, err)
		}
	})
}

// FuzzSnapshot decodes producer snapshots; what is accepted is encoded to the same bytes.
func FuzzSnapshot(f *testing.F) {
	var s producers
	s.put(5, &producer{epoch: 1, count: 2, txnFirst: 3})
	s.put(6, &producer{epoch: 1, txnFirst: kafka.NoOffset})
	s.unreplicated = []transaction{{5, 1, 2}}
	f.Add(s.encode(9, 4), true)
	f.Add((&producers{}).encode(0, 0), false)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum && len(b) > 12 {
			b = reseal(b)
		}
		var end kafka.Offset
		if len(b) > 24 {
			end = kafka.Offset(int64(b[16])<<56 | int64(b[17])<<48 | int64(b[18])<<40 | int64(b[19])<<32 | int64(b[20])<<24 | int64(b[21])<<16 | int64(b[22])<<8 | int64(b[23]))
		}
		s, generation, err := decodeProducers(b, end)
		if err != nil {
			return
		}
		again, _, err := decodeProducers(s.encode(end, generation), end)
		if err != nil || !bytes.Equal(again.encode(end, generation), s.encode(end, generation)) {
			t.Fatalf("not what was decoded: %v", err)
		}
	})
}

// reseal gives bytes the checksum that they need.
func reseal(b []byte) []byte {
	c := bytes.Clone(b[:len(b)-4])
	sum := checksum(c)
	return append(c, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
}

// FuzzSmallFiles decodes leader epochs and transaction indexes.
func FuzzSmallFiles(f *testing.F) {
	f.Add(epochHistory{{1, 0}, {3, 10}}.encode(2), true)
	f.Add(encodeAborted([]AbortedTransaction{{1, 2, 3, 4}}, 0), true)
	f.Fuzz(func(t *testing.T, b []byte, sum bool) {
		if sum && len(b) > 12 {
			b = reseal(b)
		}
		if h, g, err := decodeEpochs(b); err == nil && (b[10]|b[11]) == 0 && !bytes.Equal(h.encode(g), b) {
			t.Fatal("epochs differ")
		}
		if list, err := decodeAborted(b, 0); err == nil && (b[10]|b[11]) == 0 && !bytes.Equal(encodeAborted(list, 0), b) {
			t.Fatal("transactions differ")
		}
	})
}

// FuzzSegmentRecovery puts bytes behind, or over, the end of a segment and opens it without a checkpoint: what was before
// stays, and what is found behind it is whole.
func FuzzSegmentRecovery(f *testing.F) {
	f.Add([]byte("garbage"), uint64(1))
	next := plain(3, 10, 1)
	record.Batch(next).SetBaseOffset(20)
	f.Add(next, uint64(0))
	f.Add(append(bytes.Clone(next), next[:70]...), uint64(0))
	fs := vfs.NewMem(0)
	o := options(fs, Config{IndexIntervalBytes: 200})
	l, err := Open(o)
	if err != nil || l.FinishRecovery() != nil {
		f.Fatal(err)
	}
	var all []byte
	for i := range 10 {
		batch := plain(2, 50, int64(i))
		if _, err := l.Append(batch, 0, record.FromClient); err != nil {
			f.Fatal(err)
		}
		all = append(all, batch...)
	}
	if _, err := l.Sync(); err != nil {
		f.Fatal(err)
	}
	_ = l.Close()
	f.Fuzz(func(t *testing.T, tail []byte, seed uint64) {
		fs := fs.Clone()
		file, err := fs.OpenReadWrite(path.Join(o.Dir, fileName(0, dataSuffix)))
		if err != nil {
			t.Fatal(err)
		}
		if rng := rand.New(rand.NewPCG(seed, 1)); len(tail) > 61 && seed%3 == 0 { // a header that fits
			b := record.Batch(tail)
			copy(tail, plain(1, 1, 1)[:61])
			b.SetBaseOffset(kafka.Offset(20 + rng.IntN(2)))
		}
		if _, err := file.WriteAt(tail, int64(len(all))); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		o := o
		o.FS = fs
		l := openFresh(t, o)
		got := readAll(t, l, 0, 300)
		if !bytes.HasPrefix(got, all) || !bytes.HasPrefix(append(bytes.Clone(all), tail...), got) {
			t.Fatal("wrong bytes are served")
		}
		if err := l.Verify(context.Background(), func(c *Corruption) { t.Fatal(c) }); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, plain(1, 1, 1), max(l.Epoch().Epoch, 0))
	})
}
