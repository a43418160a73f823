package metadata

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// check verifies order, count and the AVL rule.
func (t tree[K, V]) check(tb testing.TB) {
	tb.Helper()
	count := 0
	var walk func(n *treeNode[K, V]) int8
	var last *K
	walk = func(n *treeNode[K, V]) int8 {
		if n == nil {
			return 0
		}
		l := walk(n.left)
		if last != nil && t.compare(*last, n.key) >= 0 {
			tb.Fatalf("key %v comes after %v", n.key, *last)
		}
		last = &n.key
		count++
		r := walk(n.right)
		if n.height != 1+max(l, r) || l-r > 1 || r-l > 1 {
			tb.Fatalf("node %v has height %d over %d and %d", n.key, n.height, l, r)
		}
		return n.height
	}
	walk(t.root)
	if count != t.len() {
		tb.Fatalf("%d nodes, len says %d", count, t.len())
	}
}

// TestTreeModel compares a tree and many of its older versions with plain maps.
func TestTreeModel(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		keys := 1 + rng.IntN(300)
		type version struct {
			tree  tree[int, int]
			model map[int]int
		}
		now := version{newTree[int, int](cmp.Compare[int]), map[int]int{}}
		var kept []version
		for step := range 1000 {
			key := rng.IntN(keys)
			if rng.IntN(3) == 0 {
				now.tree = now.tree.without(key)
				delete(now.model, key)
			} else {
				now.tree = now.tree.with(key, step)
				now.model[key] = step
			}
			if rng.IntN(50) == 0 {
				kept = append(kept, version{now.tree, maps.Clone(now.model)})
			}
		}
		for _, v := range append(kept, now) {
			v.tree.check(t)
			if got := maps.Collect(v.tree.all()); !maps.Equal(got, v.model) {
				t.Fatalf("seed %d: tree has %v, want %v", seed, got, v.model)
			}
			for key := range keys {
				got, ok := v.tree.get(key)
				want, has := v.model[key]
				if got != want || ok != has {
					t.Fatalf("seed %d: get(%d) = %d, %v, want %d, %v", seed, key, got, ok, want, has)
				}
			}
		}
	}
}

func TestTreeSharesStructure(t *testing.T) {
	a := newTree[int, int](cmp.Compare[int])
	for i := range 10_000 {
		a = a.with(i, i)
	}
	if depth, most := float64(a.root.height), 1.45*math.Log2(10_000); depth > most {
		t.Fatalf("10,000 keys stand %v deep, above %v", depth, most)
	}
	old := map[*treeNode[int, int]]bool{}
	var collect func(n *treeNode[int, int], f func(*treeNode[int, int]))
	collect = func(n *treeNode[int, int], f func(*treeNode[int, int])) {
		if n != nil {
			f(n)
			collect(n.left, f)
			collect(n.right, f)
		}
	}
	collect(a.root, func(n *treeNode[int, int]) { old[n] = true })
	fresh := 0
	collect(a.with(5000, -1).root, func(n *treeNode[int, int]) {
		if !old[n] {
			fresh++
		}
	})
	if fresh > int(a.root.height) {
		t.Fatalf("a change made %d nodes, more than a path", fresh)
	}
	if b := a.without(-1); b.root != a.root {
		t.Fatal("removing what is not there made a new tree")
	}
}

func TestTreeEarlyStop(t *testing.T) {
	a := newTree[int, int](cmp.Compare[int])
	for i := range 100 {
		a = a.with(i, i)
	}
	var got []int
	for key := range a.all() {
		if got = append(got, key); key == 41 {
			break
		}
	}
	if len(got) != 42 || !slices.IsSorted(got) {
		t.Fatalf("stopped with %v", got)
	}
}

func TestVectorModel(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		n := []int{0, 1, 31, 32, 33, 1023, 1024, 1025, 5000}[rng.IntN(9)]
		model := make([]int, n)
		for i := range model {
			model[i] = i
		}
		v := vectorOf(model)
		for step := range 200 {
			i := rng.IntN(len(model) + 1)
			before, frozen := v, slices.Clone(model)
			v = v.with(i, -step)
			if i == len(model) {
				model = append(model, -step)
			} else {
				model[i] = -step
			}
			if got := slices.Collect(before.all()); !slices.Equal(got, frozen) {
				t.Fatalf("seed %d: an older version changed", seed)
			}
		}
		if got := slices.Collect(v.all()); !slices.Equal(got, model) {
			t.Fatalf("seed %d: %v, want %v", seed, got, model)
		}
		for i, want := range model {
			if v.at(i) != want {
				t.Fatalf("seed %d: at(%d) = %d, want %d", seed, i, v.at(i), want)
			}
		}
	}
	// By appending alone, over two levels.
	var v vector[int]
	for i := range 2100 {
		v = v.with(i, i)
	}
	if got := slices.Collect(v.all()); len(got) != 2100 || !slices.IsSorted(got) {
		t.Fatalf("appended to %v", got)
	}
}
