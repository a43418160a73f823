package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/vfs"
)

// TestRecovery drives a log through damage and crashes; testdata/recovery.txt reads as a transcript. Commands:
//
//	append n=… size=…     records, each durable before the next
//	submit n=… size=…     records that gather in one group
//	reopen [from=…] [clean=…]
//	flip file=… at=… [bytes=…]   file counts in the order of the headers' numbers, from 1; at is in bytes,
//	                             negative from the end of what is written
//	cut file=… at=…       truncates a file
//	zero file=… at=… bytes=…
//	files                 the files
//	replay from=…
func TestRecovery(t *testing.T) {
	datadriven.RunTest(t, "testdata/recovery.txt", newDriver(t).run)
}

type driver struct {
	t   *testing.T
	fs  *vfs.Mem
	log *Log
}

func newDriver(t *testing.T) *driver { return &driver{t: t} }

func (d *driver) run(t *testing.T, td *datadriven.TestData) string {
	if td.Cmd == "new" {
		if d.log != nil {
			d.log.Close()
		}
		d.fs, d.log = vfs.NewMem(0), nil
		return d.open(td)
	}
	switch td.Cmd {
	case "append", "submit":
		return d.append(td)
	case "reopen":
		if d.log != nil {
			d.log.Close()
		}
		return d.open(td)
	case "release":
		d.log.Release(LSN(number(t, td, "lsn", 0)))
		return "ok\n"
	case "flip", "zero", "cut":
		return d.damage(td)
	case "files":
		return d.files()
	case "replay":
		var b strings.Builder
		err := d.log.Replay(LSN(number(t, td, "from", 0)), func(r Record) error {
			fmt.Fprintf(&b, "%d %s\n", r.LSN, strings.TrimRight(string(r.Data), "."))
			return nil
		})
		if err != nil {
			fmt.Fprintln(&b, err)
		}
		return b.String()
	}
	t.Fatalf("unknown command %s", td.Cmd)
	return ""
}

func number(t *testing.T, td *datadriven.TestData, key string, def int64) int64 {
	for _, a := range td.CmdArgs {
		if a.Key == key {
			n, err := strconv.ParseInt(a.Vals[0], 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return def
}

func (d *driver) open(td *datadriven.TestData) string {
	var err error
	d.log, err = Open(Options{
		FS: d.fs, Dir: "wal", FileSize: 16 << 10, Fatal: func(err error) { d.t.Error(err) },
		From: LSN(number(d.t, td, "from", 0)), Clean: LSN(number(d.t, td, "clean", 0)),
	})
	if err != nil {
		d.log = nil
		var c *CorruptionError
		if !errors.As(err, &c) {
			return "not a CorruptionError: " + err.Error() + "\n"
		}
		return err.Error() + "\n"
	}
	return fmt.Sprintf("ends at %d, clean %v\n", d.log.Next(), d.log.Clean())
}

func (d *driver) append(td *datadriven.TestData) string {
	size := int(number(d.t, td, "size", 100))
	var last LSN
	for range number(d.t, td, "n", 1) {
		next := d.log.Next()
		data := fmt.Sprintf("record-%d", next)
		data += strings.Repeat(".", max(size-len(data), 0))
		lsn, err := d.log.Submit(&Entry{Head: []byte(data), Lazy: td.Cmd == "submit"})
		if err != nil {
			return err.Error() + "\n"
		}
		last = lsn
		if td.Cmd == "append" {
			d.log.WaitDurable(context.Background(), lsn)
		}
	}
	if err := d.log.WaitDurable(context.Background(), last); err != nil {
		return err.Error() + "\n"
	}
	return fmt.Sprintf("up to %d\n", last)
}

func (d *driver) inUse() []FileInfo {
	in, _ := Inspect(d.fs, "wal", 0, nil)
	files := slices.DeleteFunc(in.Files, func(f FileInfo) bool { return f.Number == 0 })
	slices.SortFunc(files, func(a, b FileInfo) int { return int(a.Number) - int(b.Number) })
	return files
}

func (d *driver) damage(td *datadriven.TestData) string {
	files := d.inUse()
	f := files[number(d.t, td, "file", 1)-1]
	at := number(d.t, td, "at", 0)
	if at < 0 {
		at += f.End
	}
	n := number(d.t, td, "bytes", 1)
	h, err := d.fs.OpenReadWrite(f.Path)
	if err != nil {
		return err.Error() + "\n"
	}
	defer h.Close()
	switch td.Cmd {
	case "flip":
		for i := range n {
			if err := d.fs.Corrupt(f.Path, at+i, 0x10); err != nil {
				return err.Error() + "\n"
			}
		}
	case "zero":
		h.WriteAt(make([]byte, n), at)
	case "cut":
		h.Truncate(at)
	}
	return "ok\n"
}

func (d *driver) files() string {
	var b strings.Builder
	for _, f := range d.inUse() {
		fmt.Fprintf(&b, "%s number %d first %d size %d end %d\n", path.Base(f.Path), f.Number, f.First, f.Size, f.End)
	}
	return b.String()
}

// Every single flipped bit in what is needed is noticed, but for one in the last group (which looks like a torn tail), and
// never yields another record than was written.
func TestFlippedBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		fs := vfs.NewMem(0)
		l := open(t, fs, func(o *Options) { o.FileSize = 16 << 10 })
		for i := range 40 {
			if _, err := l.Append(context.Background(), fmt.Appendf(nil, "record-%d %s", i+1, make([]byte, 700))); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
		in, err := Inspect(fs, "wal", 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		used := slices.DeleteFunc(in.Files, func(f FileInfo) bool { return !f.Needed })
		f := used[rng.IntN(len(used))]
		at := rng.Int64N(f.End)
		if at >= fileHeader && at < headerBlock {
			continue // nothing is there
		}
		if err := fs.Corrupt(f.Path, at, 1<<rng.IntN(8)); err != nil {
			t.Fatal(err)
		}
		next := LSN(1)
		in, err = Inspect(fs, "wal", 1, func(r Record) error {
			if want := fmt.Sprintf("record-%d ", r.LSN); r.LSN != next || !strings.HasPrefix(string(r.Data), want) {
				t.Fatalf("record %d is %.20q", r.LSN, r.Data)
			}
			next++
			return nil
		})
		if err == nil && in.Next < 40 {
			t.Fatalf("%s: a flipped bit at %d of %d went unnoticed: the log ends at %d", f.Path, at, f.End, in.Next)
		}
	}
}

func TestUnknownVersion(t *testing.T) {
	fs := vfs.NewMem(0)
	l := open(t, fs, nil)
	l.Append(context.Background(), []byte("a"))
	l.Close()
	f, _ := fs.OpenReadWrite("wal/00000001.wal")
	b := make([]byte, fileHeader)
	f.ReadAt(b, 0)
	b[8] = 9
	binary.LittleEndian.PutUint32(b[40:], crc32.Checksum(b[:40], castagnoli))
	f.WriteAt(b, 0)
	f.Close()
	if _, err := Open(Options{FS: fs, Dir: "wal"}); err == nil || !strings.Contains(err.Error(), "format version 9") {
		t.Fatal(err)
	}
}

// FuzzWALDecode gives a file of any bytes to recovery: it ends, and what it yields was sealed.
func FuzzWALDecode(f *testing.F) {
	fs := vfs.NewMem(0)
	l := open(f, fs, func(o *Options) { o.FileSize = 8 << 10 })
	for i := range 5 {
		l.Append(context.Background(), fmt.Appendf(nil, "record %d", i))
	}
	l.Close()
	in, _ := fs.Open("wal/00000001.wal")
	n, _ := in.Size()
	seed := make([]byte, n)
	in.ReadAt(seed, 0)
	in.Close()
	f.Add(seed[:64], seed[headerBlock:])
	f.Add(seed[:10], seed[headerBlock+20:])
	f.Fuzz(func(t *testing.T, head, groups []byte) {
		fs := vfs.NewMem(0)
		fs.MkdirAll("wal")
		h, err := fs.Create("wal/00000001.wal")
		if err != nil {
			t.Fatal(err)
		}
		h.WriteAt(head[:min(len(head), headerBlock)], 0)
		h.WriteAt(groups, headerBlock)
		h.Close()
		next := LSN(0)
		in, err := Inspect(fs, "wal", 0, func(r Record) error {
			if next != 0 && r.LSN != next || len(r.Data) > len(groups) {
				t.Fatalf("record %d of %d bytes after %d", r.LSN, len(r.Data), next-1)
			}
			next = r.LSN + 1
			return nil
		})
		if err == nil && next != 0 && in.Next != next {
			t.Fatalf("the log ends at %d, its records at %d", in.Next, next)
		}
	})
}
