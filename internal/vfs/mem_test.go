package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"
)

// tester is what tests and rapid's checks share.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func must[T any](t tester) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func writeFile(t tester, f FS, name string, data []byte, sync bool) {
	t.Helper()
	file := must[File](t)(f.Create(name))
	must[int](t)(file.WriteAt(data, 0))
	if sync {
		check(t, file.Sync())
	}
	check(t, file.Close())
}

func readFile(t tester, f FS, name string) []byte {
	t.Helper()
	file := must[File](t)(f.Open(name))
	b := make([]byte, must[int64](t)(file.Size()))
	if n, err := file.ReadAt(b, 0); n != len(b) || err != nil && err != io.EOF {
		t.Fatalf("read %d of %d bytes of %s: %v", n, len(b), name, err)
	}
	check(t, file.Close())
	return b
}

func TestKillKeepsTheCacheAndPoisonsTheProcess(t *testing.T) {
	m := NewMem(0)
	file := must[File](t)(m.Create("a"))
	must[int](t)(file.WriteAt([]byte("unsynced"), 0))
	must[io.Closer](t)(m.Lock("lock"))

	next := m.Kill()
	if got := readFile(t, next, "a"); string(got) != "unsynced" {
		t.Fatalf("after the kill: %q", got)
	}
	if _, err := file.WriteAt([]byte("ghost"), 0); !errors.Is(err, ErrKilled) {
		t.Errorf("the dead process wrote: %v", err)
	}
	if err := file.Sync(); !errors.Is(err, ErrKilled) {
		t.Errorf("the dead process synced: %v", err)
	}
	if err := m.Rename("a", "b"); !errors.Is(err, ErrKilled) {
		t.Errorf("the dead process renamed: %v", err)
	}
	select {
	case <-m.Died():
	default:
		t.Error("Died is not closed")
	}
	must[io.Closer](t)(next.Lock("lock"))
	if _, err := next.Lock("lock"); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
}

func TestPowerLossDropsWhatWasNotSynced(t *testing.T) {
	m := NewMem(0)
	check(t, m.MkdirAll("d"))
	check(t, m.SyncDir("/"))
	writeFile(t, m, "d/named", []byte("old"), true)
	writeFile(t, m, "d/unsynced", []byte("x"), false)
	check(t, m.SyncDir("d"))
	writeFile(t, m, "d/unnamed", []byte("synced, but its name is not"), true)
	f := must[File](t)(m.OpenReadWrite("d/named"))
	must[int](t)(f.WriteAt([]byte("new and longer"), 0))

	// The pages stay in the cache over a kill, and the loss of power still takes them.
	m = m.Kill()
	if got := readFile(t, m, "d/named"); string(got) != "new and longer" {
		t.Fatalf("after the kill: %q", got)
	}
	m = m.PowerLoss(nil)
	if got := readFile(t, m, "d/named"); string(got) != "old" {
		t.Errorf("d/named: %q", got)
	}
	if got := readFile(t, m, "d/unsynced"); len(got) != 0 {
		t.Errorf("d/unsynced: %q", got)
	}
	if _, err := m.Stat("d/unnamed"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("d/unnamed kept its name: %v", err)
	}
}

func TestRenameIsAtomicAndDroppable(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(200) {
		m := NewMem(0)
		writeFile(t, m, "a", []byte("old"), true)
		check(t, m.SyncDir("/"))
		writeFile(t, m, "a.tmp", []byte("new"), true)
		check(t, m.Rename("a.tmp", "a"))
		m = m.PowerLoss(rand.New(rand.NewPCG(seed, 0)))
		content := string(readFile(t, m, "a"))
		_, err := m.Stat("a.tmp")
		if content == "new" && err == nil {
			t.Fatalf("seed %d: both names after the rename", seed)
		}
		if err == nil {
			content += " and tmp"
		}
		outcomes[content]++
	}
	if len(outcomes) != 3 || outcomes["old"] == 0 || outcomes["new"] == 0 || outcomes["old and tmp"] == 0 {
		t.Errorf("outcomes %v", outcomes)
	}
}

func TestSyncDirKeepsWhatARenameCameFrom(t *testing.T) {
	for seed := range uint64(50) {
		m := NewMem(0)
		check(t, m.MkdirAll("x"))
		check(t, m.MkdirAll("y"))
		check(t, m.SyncDir("/"))
		writeFile(t, m, "x/a", []byte("a"), true)
		check(t, m.Rename("x/a", "y/a"))
		check(t, m.SyncDir("y"))
		m = m.PowerLoss(rand.New(rand.NewPCG(seed, 5)))
		if got := readFile(t, m, "y/a"); string(got) != "a" {
			t.Errorf("y/a: %q", got)
		}
		if names := must[[]string](t)(m.ReadDir("x")); len(names) != 0 {
			t.Errorf("x holds %v", names)
		}
	}
}

func TestChangesOfANameStayInOrder(t *testing.T) {
	for seed := range uint64(50) {
		m := NewMem(0)
		writeFile(t, m, "a", []byte("durable"), true)
		check(t, m.SyncDir("/"))
		check(t, m.Rename("a", "b"))
		writeFile(t, m, "a", []byte("another"), true)
		m = m.PowerLoss(rand.New(rand.NewPCG(seed, 6)))
		found := 0
		for _, name := range must[[]string](t)(m.ReadDir("/")) {
			if string(readFile(t, m, name)) == "durable" {
				found++
			}
		}
		if found != 1 {
			t.Fatalf("seed %d: the durable file is there %d times", seed, found)
		}
	}
}

func TestPowerLossTearsPagesAndSizes(t *testing.T) {
	const pages = 8
	was, is := bytes.Repeat([]byte{1}, pages*pageSize), bytes.Repeat([]byte{2}, pages*pageSize)
	var kept, lost, torn, short int
	for seed := range uint64(300) {
		m := NewMem(0)
		writeFile(t, m, "a", was, true)
		check(t, m.SyncDir("/"))
		f := must[File](t)(m.OpenReadWrite("a"))
		must[int](t)(f.WriteAt(append(is, 2), 0))
		got := readFile(t, m.PowerLoss(rand.New(rand.NewPCG(seed, 1))), "a")
		if len(got) == len(was) {
			short++
		} else if len(got) != len(is)+1 {
			t.Fatalf("seed %d: size %d", seed, len(got))
		}
		for i := range pages {
			page := got[i*pageSize : (i+1)*pageSize]
			switch bytes.Count(page, []byte{2}) {
			case 0:
				lost++
			case pageSize:
				kept++
			default:
				torn++
				for s := 0; s < pageSize; s += sectorSize {
					if n := bytes.Count(page[s:s+sectorSize], []byte{2}); n != 0 && n != sectorSize {
						t.Fatalf("seed %d: a sector is torn", seed)
					}
				}
			}
		}
	}
	if kept == 0 || lost == 0 || torn == 0 || short == 0 || short == 300 {
		t.Errorf("kept %d, lost %d, torn %d, short files %d", kept, lost, torn, short)
	}
}

func TestTruncationIsDroppable(t *testing.T) {
	sizes := map[int]int{}
	for seed := range uint64(100) {
		m := NewMem(0)
		writeFile(t, m, "a", bytes.Repeat([]byte{1}, 3*pageSize), true)
		check(t, m.SyncDir("/"))
		f := must[File](t)(m.OpenReadWrite("a"))
		check(t, f.Truncate(100))
		if got := readFile(t, m, "a"); len(got) != 100 {
			t.Fatalf("%d bytes", len(got))
		}
		check(t, f.Truncate(3*pageSize))
		if got := readFile(t, m, "a"); bytes.Count(got, []byte{1}) != 100 {
			t.Fatal("the cut bytes came back")
		}
		got := readFile(t, m.PowerLoss(rand.New(rand.NewPCG(seed, 2))), "a")
		sizes[bytes.Count(got, []byte{1})]++
	}
	if sizes[3*pageSize] == 0 || sizes[100] == 0 {
		t.Errorf("sizes %v", sizes)
	}
}

func TestNoSpace(t *testing.T) {
	m := NewMem(4 * pageSize)
	writeFile(t, m, "a", make([]byte, 2*pageSize), true)
	f := must[File](t)(m.Create("b"))
	n, err := f.WriteAt(make([]byte, 3*pageSize), 0)
	if n != 2*pageSize || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("wrote %d, %v", n, err)
	}
	if free := must[int64](t)(m.Free("/")); free != 0 {
		t.Errorf("free %d", free)
	}
	if capacity := must[int64](t)(m.Capacity("/")); capacity != 4*pageSize {
		t.Errorf("capacity %d", capacity)
	}
	must[int](t)(f.WriteAt([]byte("over what is there"), 100)) // needs no room
	check(t, m.Remove("a"))
	must[int](t)(f.WriteAt(make([]byte, 2*pageSize), 2*pageSize))
	check(t, m.Remove("b"))
	if free := must[int64](t)(m.Free("/")); free != 0 {
		t.Errorf("an open file gave its space back: %d", free)
	}
	check(t, f.Close())
	if used := m.Used(); used != 0 {
		t.Errorf("used %d", used)
	}
}

func TestSpaceIsCountedOverCrashes(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		m := NewMem(0)
		for _, name := range []string{"a", "b", "c"} {
			writeFile(t, m, name, make([]byte, 1+rng.IntN(5*pageSize)), rng.IntN(2) == 0)
		}
		if rng.IntN(2) == 0 {
			check(t, m.SyncDir("/"))
		}
		held := must[File](t)(m.OpenReadWrite("a"))
		check(t, held.Truncate(int64(rng.IntN(pageSize))))
		check(t, m.Remove("a"))
		if rng.IntN(2) == 0 {
			m = m.Kill()
		} else {
			m = m.PowerLoss(rng)
		}
		clone := m.Clone()
		if clone.Used() != m.Used() {
			t.Fatalf("seed %d: the clone uses %d, not %d", seed, clone.Used(), m.Used())
		}
		for _, name := range must[[]string](t)(m.ReadDir("/")) {
			check(t, m.Remove(name))
		}
		if m.Used() != 0 {
			t.Fatalf("seed %d: an empty disk uses %d", seed, m.Used())
		}
	}
}

func TestKillAfterDiesInTheMiddle(t *testing.T) {
	sizes := map[int]bool{}
	for seed := range uint64(30) {
		m := NewMem(0)
		f := must[File](t)(m.Create("a"))
		m.KillAfter(2, rand.New(rand.NewPCG(seed, 4)))
		must[int](t)(f.WriteAt(make([]byte, 1000), 0))
		if _, err := f.WriteAt(make([]byte, 1000), 1000); !errors.Is(err, ErrKilled) {
			t.Fatalf("survived: %v", err)
		}
		sizes[len(readFile(t, m.Kill(), "a"))] = true
	}
	if len(sizes) < 10 {
		t.Errorf("writes were cut in %d places", len(sizes))
	}
}

func TestCloneIsIndependent(t *testing.T) {
	m := NewMem(0)
	check(t, m.MkdirAll("d"))
	writeFile(t, m, "d/a", []byte("one"), false)
	c := m.Clone()
	f := must[File](t)(m.OpenReadWrite("d/a"))
	must[int](t)(f.WriteAt([]byte("two"), 0))
	check(t, m.Rename("d/a", "d/b"))
	if got := readFile(t, c, "d/a"); string(got) != "one" {
		t.Errorf("the clone has %q", got)
	}
	check(t, c.SyncDir("/"))
	check(t, c.SyncDir("d"))
	c = c.PowerLoss(nil)
	if got := readFile(t, c, "d/a"); len(got) != 0 {
		t.Errorf("the clone's page was not dirty: %q", got)
	}
	if got := readFile(t, m, "d/b"); string(got) != "two" {
		t.Errorf("the original has %q", got)
	}
}

func TestCorrupt(t *testing.T) {
	m := NewMem(0)
	writeFile(t, m, "a", []byte{1, 2, 3}, true)
	check(t, m.SyncDir("/"))
	check(t, m.Corrupt("a", 1, 0x80))
	if got := readFile(t, m, "a"); !bytes.Equal(got, []byte{1, 0x82, 3}) {
		t.Errorf("%x", got)
	}
	if got := readFile(t, m.PowerLoss(nil), "a"); !bytes.Equal(got, []byte{1, 0x82, 3}) {
		t.Errorf("after a power loss %x", got)
	}
	if err := m.Corrupt("a", 3, 1); err == nil {
		t.Error("flipped a bit beyond the end")
	}
}
