package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"chronik/internal/record"
	"chronik/internal/vfs"
)

// A process dies at any moment of its shutdown, the next one at any moment of its start and first append, and then the power
// goes: what the second one believed, such as a checkpoint that was renamed and not synced, must not have cost anything.
func TestDiesInShutdownThenInStartThenThePowerGoes(t *testing.T) {
	for n := int64(1); ; n++ {
		died := false
		for m := int64(1); ; m++ {
			rng := rand.New(rand.NewPCG(uint64(n), uint64(m)))
			mem := vfs.NewMem(0)
			s := openStore(t, mem, func(o *Options) { o.NoBackground = true })
			p := create(t, s, 1)
			produce(t, p, 0, 10, "a")
			waitDurable(t, p)
			if err := s.Checkpoint(); err != nil {
				t.Fatal(err)
			}
			produce(t, p, 0, 10, "b")
			waitDurable(t, p)
			mem.KillAfter(n, rng)
			died = s.Close() != nil
			mem = mem.Kill()
			mem.KillAfter(m, rng)
			o := Options{FS: mem, Dir: "data", NodeID: 1, Config: testConfig(), NoBackground: true, Fatal: func(error) {}}
			s, err := Open(background, o)
			last := false
			if err == nil {
				p = s.Partition(id(1))
				_, err := p.Append(batch(10, "c"), 0, record.FromClient)
				for deadline := time.Now().Add(time.Minute); err == nil && s.failed() == nil && p.DurableEnd() < 3; {
					if time.Now().After(deadline) {
						t.Fatal("neither durable nor failed")
					}
					time.Sleep(20 * time.Microsecond)
				}
				last = s.failed() == nil && p.DurableEnd() == 3
			}
			want := "[a b]"
			if last {
				want = "[a b c]"
			}
			mem = mem.PowerLoss(nil)
			if s != nil {
				s.Close()
			}
			s, err = Open(background, Options{FS: mem, Dir: "data", NodeID: 1, Config: testConfig(), NoBackground: true})
			if err != nil {
				t.Fatalf("died after %d changes of the shutdown and %d of the start: %v", n, m, err)
			}
			if got := fmt.Sprint(content(t, s.Partition(id(1)))); got != want && got != "[a b c]" {
				t.Fatalf("died after %d changes of the shutdown and %d of the start: %s, not %s", n, m, got, want)
			}
			s.Close()
			if last {
				break
			}
		}
		if !died {
			return
		}
	}
}
