package store

import (
	"math/rand/v2"
	"strings"
	"testing"

	"chronik/internal/vfs"
)

// What a node cannot have lost by a crash is never made anew: the rest of the data would look as if it had never been.
func TestMissingFilesAreNamed(t *testing.T) {
	for _, c := range []struct {
		remove string
		joined bool // the directory belongs to a cluster
		clean  bool // the last process ended properly
		named  string
	}{
		{"data/node", true, true, "data/node is missing"},
		{"data/node", false, false, "data/node is missing"},
		{"data/checkpoint", true, true, "data/checkpoint is missing"},
		{"data/checkpoint", false, false, "data/checkpoint is missing"},
		{"data/checkpoint data/wal data/partitions", true, true, "data/checkpoint is missing"},
		{"data/wal", true, false, "data/wal is missing"},
	} {
		mem := vfs.NewMem(0)
		s := openStore(t, mem, nil)
		if c.joined {
			if err := s.SetClusterID("abc"); err != nil {
				t.Fatal(err)
			}
		}
		p := create(t, s, 1)
		produce(t, p, 0, 10, "a")
		waitDurable(t, p)
		if !c.clean {
			mem = mem.Kill()
		}
		s.Close()
		for _, name := range strings.Fields(c.remove) {
			if err := mem.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(background, Options{FS: mem, Dir: "data", NodeID: 1, Config: testConfig()})
		if err == nil || !strings.Contains(err.Error(), c.named) {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := mem.Stat("data/partitions/" + id(1).String()); err != nil && !strings.Contains(c.remove, "partitions") {
			t.Errorf("%+v: the partition is gone: %v", c, err)
		}
	}
}

// A process that died at any moment of the very first start left a directory that the next one takes, also if the power
// went then.
func TestDiesInTheFirstStart(t *testing.T) {
	for seed := range uint64(8) {
		for n := int64(1); ; n++ {
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			mem := vfs.NewMem(0)
			mem.KillAfter(n, rng)
			s, err := Open(background, Options{FS: mem, Dir: "data", NodeID: 1, Config: testConfig()})
			if err == nil {
				s.Close()
				if n < 5 {
					t.Fatalf("the first start took %d changes only", n)
				}
				break
			}
			if seed%2 == 0 {
				mem = mem.Kill()
			} else {
				mem = mem.PowerLoss(rng)
			}
			s, err = Open(background, Options{FS: mem, Dir: "data", NodeID: 1, Config: testConfig()})
			if err != nil {
				t.Fatalf("seed %d, after %d changes: %v", seed, n, err)
			}
			if err := s.Close(); err != nil {
				t.Fatalf("seed %d, after %d changes: %v", seed, n, err)
			}
		}
	}
}
