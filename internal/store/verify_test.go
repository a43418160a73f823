package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"chronik/internal/vfs"
	"chronik/internal/wal"
)

func TestVerifyAndDump(t *testing.T) {
	fs := vfs.NewMem(0)
	s := openStore(t, fs, nil)
	p := create(t, s, 1)
	if err := p.StartEpoch(background, 3); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		produce(t, p, 3, 100+(i%3)*8<<10, fmt.Sprint(i))
	}
	waitDurable(t, p)
	if _, err := Verify(background, fs, "data", func(Problem) {}); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("verify of a running store: %v", err)
	}
	unclean := fs.Clone()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	verify := func(fs *vfs.Mem) (problems []string, sum Summary) {
		t.Helper()
		sum, err := Verify(background, fs, "data", func(p Problem) { problems = append(problems, p.String()) })
		if err != nil {
			t.Fatal(err)
		}
		return problems, sum
	}
	for i, fs := range []*vfs.Mem{fs, unclean} {
		before := fs.Operations()
		problems, sum := verify(fs)
		if len(problems) > 0 || sum.Partitions != 1 || sum.Clean != (i == 0) || (sum.WALRecords == 0) != (i == 0) {
			t.Errorf("verify: %v %+v", problems, sum)
		}
		var out strings.Builder
		if err := Dump(background, fs, "data", &out); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), id(1).String()) || strings.Contains(out.String(), "problem") {
			t.Errorf("dump: %s", out.String())
		}
		if n := fs.Operations() - before; n > 2 { // the lock file
			t.Errorf("looking changed the directory %d times", n)
		}
	}
	for _, dir := range []string{"data", "data/wal", "data/partitions/" + id(1).String()} {
		names, err := fs.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			name = dir + "/" + name
			info, _ := fs.Stat(name)
			if info.Dir || strings.HasSuffix(name, "/lock") || info.Size < 60 {
				continue
			}
			at := int64(40)
			if strings.HasSuffix(name, ".wal") {
				at = 4096 + 20
			}
			broken := fs.Clone()
			if err := broken.Corrupt(name, at, 4); err != nil {
				t.Fatal(name, err)
			}
			if problems, _ := verify(broken); len(problems) == 0 || !strings.Contains(problems[0], name) {
				t.Errorf("a flipped bit in %s: %v", name, problems)
			}
		}
	}
}

func FuzzCheckpointDecode(f *testing.F) {
	c := checkpoint{clean: true, from: 7, partitions: []checkpointEntry{{id: id(1)}, {id: id(2)}}}
	f.Add(c.encode(), true)
	f.Add(c.encode()[:50], false)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) > 4 {
			b = binary.LittleEndian.AppendUint32(b[:len(b)-4:len(b)-4], crc32.Checksum(b[:len(b)-4], castagnoli))
		}
		c, err := decodeCheckpoint(b)
		if err == nil && len(c.partitions)*checkpointEntrySize > len(b) {
			t.Fatal("more partitions than bytes")
		}
		if err == nil {
			again, err := decodeCheckpoint(c.encode())
			if err != nil || len(again.partitions) != len(c.partitions) || again.from != c.from {
				t.Fatal("another checkpoint comes back", err)
			}
		}
		_, _ = decodeIdentity(b)
		_, _, _ = decodeOperation(wal.Record{LSN: 1, Data: b, ByReference: seal})
	})
}
