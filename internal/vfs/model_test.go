package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kinds are the errors that a caller may ask for.
var kinds = []error{fs.ErrNotExist, fs.ErrExist, fs.ErrClosed, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY,
	syscall.EINVAL, syscall.EBADF, io.EOF, ErrLocked}

func kind(err error) error {
	if err == nil {
		return nil
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			return k
		}
	}
	return fmt.Errorf("other: %w", err)
}

// pair runs the same calls on Mem and on the machine's file system.
type pair struct {
	mem   *Mem
	root  string
	names []string
	files [][2]File
}

func (p *pair) real(name string) string { return path.Join(p.root, name) }

func (p *pair) same(t *rapid.T, what string, mem, real error) bool {
	if fmt.Sprint(kind(mem)) != fmt.Sprint(kind(real)) {
		t.Fatalf("%s: Mem says %v, the machine %v", what, mem, real)
	}
	if mem != nil && mem != io.EOF && !strings.Contains(mem.Error(), "/") {
		t.Fatalf("%s: the error %q names no path", what, mem)
	}
	return mem == nil
}

func (p *pair) open(t *rapid.T, what string, a, b func(string) (File, error), name string) {
	x, errX := a("/" + name)
	y, errY := b(p.real(name))
	if p.same(t, what+" "+name, errX, errY) {
		p.files = append(p.files, [2]File{x, y})
	}
}

func (p *pair) closeAll() {
	for _, f := range p.files {
		_ = f[1].Close() // may be closed already
	}
}

// TestMemIsLikeTheMachine draws ordinary calls and compares results, errors and contents.
func TestMemIsLikeTheMachine(t *testing.T) {
	base := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		root := must[string](t)(os.MkdirTemp(base, ""))
		p := &pair{mem: NewMem(0), root: root, names: []string{"a", "b", "d", "d/a", "d/e", "d/e/b"}}
		defer p.closeAll()
		t.Repeat(p.actions())
		p.compare(t, "")
	})
}

func (p *pair) actions() map[string]func(*rapid.T) {
	var o OS
	name := func(t *rapid.T) string { return rapid.SampledFrom(p.names).Draw(t, "name") }
	named := func(what string, a, b func(string) error) func(*rapid.T) {
		return func(t *rapid.T) {
			n := name(t)
			p.same(t, what+" "+n, a("/"+n), b(p.real(n)))
		}
	}
	onFile := func(do func(t *rapid.T, f [2]File)) func(*rapid.T) {
		return func(t *rapid.T) {
			if len(p.files) == 0 {
				t.Skip("no file is open")
			}
			do(t, p.files[rapid.IntRange(0, len(p.files)-1).Draw(t, "file")])
		}
	}
	offset := rapid.OneOf(rapid.Int64Range(0, 20), rapid.Int64Range(4090, 4100), rapid.Int64Range(0, 20000))
	return map[string]func(*rapid.T){
		"create":    func(t *rapid.T) { p.open(t, "create", p.mem.Create, o.Create, name(t)) },
		"open":      func(t *rapid.T) { p.open(t, "open", p.mem.OpenReadWrite, o.OpenReadWrite, name(t)) },
		"remove":    named("remove", p.mem.Remove, o.Remove),
		"removeAll": named("removeAll", p.mem.RemoveAll, o.RemoveAll),
		"mkdir":     named("mkdir", p.mem.MkdirAll, o.MkdirAll),
		"rename": func(t *rapid.T) {
			a, b := name(t), name(t)
			p.same(t, "rename "+a+" "+b, p.mem.Rename("/"+a, "/"+b), o.Rename(p.real(a), p.real(b)))
		},
		"write": onFile(func(t *rapid.T, f [2]File) {
			b := bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, rapid.IntRange(1, 9000).Draw(t, "length"))
			at := offset.Draw(t, "offset")
			n, errN := f[0].WriteAt(b, at)
			m, errM := f[1].WriteAt(b, at)
			if p.same(t, "write", errN, errM); n != m {
				t.Fatalf("wrote %d and %d", n, m)
			}
		}),
		"read": onFile(func(t *rapid.T, f [2]File) {
			length, at := rapid.IntRange(1, 9000).Draw(t, "length"), offset.Draw(t, "offset")
			b, c := make([]byte, length), make([]byte, length)
			n, errN := f[0].ReadAt(b, at)
			m, errM := f[1].ReadAt(c, at)
			if p.same(t, "read", errN, errM); n != m || !bytes.Equal(b, c) {
				t.Fatalf("read %d and %d bytes, or not the same", n, m)
			}
		}),
		"truncate": onFile(func(t *rapid.T, f [2]File) {
			size := offset.Draw(t, "size")
			p.same(t, "truncate", f[0].Truncate(size), f[1].Truncate(size))
		}),
		"sync": onFile(func(t *rapid.T, f [2]File) { p.same(t, "sync", f[0].Datasync(), f[1].Datasync()) }),
		"drop": onFile(func(t *rapid.T, f [2]File) { p.same(t, "drop", f[0].DropCache(0, 0), f[1].DropCache(0, 0)) }),
		"close": onFile(func(t *rapid.T, f [2]File) {
			p.same(t, "close", f[0].Close(), f[1].Close())
		}),
		"": func(t *rapid.T) {},
	}
}

// compare walks both trees.
func (p *pair) compare(t *rapid.T, dir string) {
	x, errX := p.mem.ReadDir("/" + dir)
	y, errY := OS{}.ReadDir(p.real(dir))
	p.same(t, "readdir", errX, errY)
	if fmt.Sprint(x) != fmt.Sprint(y) {
		t.Fatalf("%q holds %v and %v", dir, x, y)
	}
	for _, name := range x {
		name = path.Join(dir, name)
		a, errA := p.mem.Stat("/" + name)
		b, errB := OS{}.Stat(p.real(name))
		p.same(t, "stat", errA, errB)
		if a.Dir != b.Dir || a.Name != b.Name || !a.Dir && a.Size != b.Size {
			t.Fatalf("stat %s: %+v and %+v", name, a, b)
		}
		if a.Dir {
			p.compare(t, name)
		} else if !bytes.Equal(readFile(t, p.mem, "/"+name), readFile(t, OS{}, p.real(name))) {
			t.Fatalf("%s differs", name)
		}
	}
}

func TestOSLockExcludes(t *testing.T) {
	name := t.TempDir() + "/lock"
	held := must[io.Closer](t)(OS{}.Lock(name))
	if _, err := (OS{}).Lock(name); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), name) {
		t.Errorf("locked twice: %v", err)
	}
	check(t, held.Close())
	again := must[io.Closer](t)(OS{}.Lock(name))
	check(t, again.Close())
}

func TestOSSpaceAndSyncDirNameThePath(t *testing.T) {
	free, err := (OS{}).Free(t.TempDir())
	if capacity := must[int64](t)(OS{}.Capacity(t.TempDir())); err != nil || free <= 0 || capacity < free {
		t.Errorf("free %d of %d, %v", free, capacity, err)
	}
	missing := t.TempDir() + "/missing"
	for _, err := range []error{second(OS{}.Free(missing)), second(OS{}.Capacity(missing)), OS{}.SyncDir(missing)} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
			t.Errorf("%v", err)
		}
	}
}
