package log

import (
	"slices"
	"sync"
	"testing"

	"chronik/internal/vfs"
)

// forgetful notes what the kernel is asked to forget.
type forgetful struct {
	*vfs.Mem
	mu    sync.Mutex
	drops []drop
}

type drop struct {
	name     string
	from, to int64
}

type forgetfulFile struct {
	vfs.File
	fs *forgetful
}

func (s *forgetful) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return forgetfulFile{f, s}, nil
}

func (s *forgetful) OpenReadWrite(name string) (vfs.File, error) {
	return s.wrap(s.Mem.OpenReadWrite(name))
}
func (s *forgetful) Create(name string) (vfs.File, error) { return s.wrap(s.Mem.Create(name)) }

func (f forgetfulFile) DropCache(offset, length int64) error {
	f.fs.mu.Lock()
	f.fs.drops = append(f.fs.drops, drop{f.Name(), offset, offset + length})
	f.fs.mu.Unlock()
	return f.File.DropCache(offset, length)
}

func (s *forgetful) take() []drop {
	s.mu.Lock()
	defer s.mu.Unlock()
	drops := s.drops
	s.drops = nil
	return drops
}

// Everything but the last bytes is let go of once, also where segments end in between, and is still there to be read.
func TestDropBehind(t *testing.T) {
	const keep, overlap = 5 << 10, behindOverlap
	fs := &forgetful{Mem: vfs.NewMem(0)}
	l := openFresh(t, options(fs, Config{SegmentBytes: 8 << 10}))
	covered := map[string]int64{} // let go of, from the file's start on
	var all []byte
	step := func(what string) {
		t.Helper()
		l.DropBehind(keep)
		for _, d := range fs.take() {
			if d.from > covered[d.name] || d.to <= covered[d.name] || d.from < covered[d.name]-overlap {
				t.Fatalf("%s: %+v after %d", what, d, covered[d.name])
			}
			covered[d.name] = d.to
		}
		left := l.Size()
		l.mu.Lock()
		segments := slices.Clone(l.mu.segments)
		l.mu.Unlock()
		for _, s := range segments {
			left -= min(covered[s.data.path], s.size)
		}
		if want := min(l.Size(), keep); left != want {
			t.Fatalf("%s: %d bytes of %d stay in the cache, not %d", what, left, l.Size(), want)
		}
		l.DropBehind(keep)
		if again := fs.take(); len(again) > 0 {
			t.Fatalf("%s: let go again: %+v", what, again)
		}
	}
	for i := range 40 {
		batch := plain(1, 300+50*(i%7), int64(i))
		mustAppend(t, l, batch, 0)
		all = append(all, batch...)
		if i%3 == 0 {
			step("appended")
		}
	}
	step("at the end")
	if l.Segments() < 3 {
		t.Fatalf("%d segments", l.Segments())
	}
	if got := readAll(t, l, 0, 1<<20); len(got) != len(all) {
		t.Errorf("%d bytes are read back of %d", len(got), len(all))
	}
}
