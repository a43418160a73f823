package metadata

import "iter"

// tree is a persistent sorted map: an AVL tree whose changes copy the path to what they touch and share the rest. A
// tree is a small value; copying it is taking a version. The zero value lacks its order, use newTree.
type tree[K, V any] struct {
	root    *treeNode[K, V]
	count   int
	compare func(a, b K) int
}

type treeNode[K, V any] struct {
	key         K
	value       V
	height      int8
	left, right *treeNode[K, V]
}

func newTree[K, V any](compare func(a, b K) int) tree[K, V] { return tree[K, V]{compare: compare} }

func (t tree[K, V]) len() int { return t.count }

func (t tree[K, V]) get(key K) (V, bool) {
	for n := t.root; n != nil; {
		switch c := t.compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	var none V
	return none, false
}

// with returns the tree with key set to value.
func (t tree[K, V]) with(key K, value V) tree[K, V] {
	root, added := t.set(t.root, key, value)
	t.root = root
	if added {
		t.count++
	}
	return t
}

// without returns the tree without key; the same tree if it is not there.
func (t tree[K, V]) without(key K) tree[K, V] {
	root, removed := t.remove(t.root, key)
	if !removed {
		return t
	}
	t.root = root
	t.count--
	return t
}

// all yields the entries in key order.
func (t tree[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { t.root.walk(yield) }
}

func (n *treeNode[K, V]) walk(yield func(K, V) bool) bool {
	return n == nil || n.left.walk(yield) && yield(n.key, n.value) && n.right.walk(yield)
}

func (t tree[K, V]) set(n *treeNode[K, V], key K, value V) (_ *treeNode[K, V], added bool) {
	if n == nil {
		return &treeNode[K, V]{key: key, value: value, height: 1}, true
	}
	m := *n
	switch c := t.compare(key, n.key); {
	case c < 0:
		m.left, added = t.set(n.left, key, value)
	case c > 0:
		m.right, added = t.set(n.right, key, value)
	default:
		m.key, m.value = key, value
	}
	if !added { // same shape
		return &m, false
	}
	return m.balanced(), true
}

func (t tree[K, V]) remove(n *treeNode[K, V], key K) (_ *treeNode[K, V], removed bool) {
	if n == nil {
		return nil, false
	}
	m := *n
	switch c := t.compare(key, n.key); {
	case c < 0:
		m.left, removed = t.remove(n.left, key)
	case c > 0:
		m.right, removed = t.remove(n.right, key)
	case n.left == nil:
		return n.right, true
	case n.right == nil:
		return n.left, true
	default:
		next := n.right
		for next.left != nil {
			next = next.left
		}
		m.key, m.value = next.key, next.value
		m.right, removed = t.remove(n.right, next.key)
	}
	if !removed {
		return n, false
	}
	return m.balanced(), true
}

func (n *treeNode[K, V]) depth() int8 {
	if n == nil {
		return 0
	}
	return n.height
}

func (n *treeNode[K, V]) lean() int8 { return n.left.depth() - n.right.depth() }

func (n *treeNode[K, V]) measure() { n.height = 1 + max(n.left.depth(), n.right.depth()) }

// balanced restores the AVL rule at n, which the caller owns (nobody else sees it yet); its children may be shared and
// are copied before they are turned.
func (n *treeNode[K, V]) balanced() *treeNode[K, V] {
	n.measure()
	switch lean := n.lean(); {
	case lean > 1:
		left := *n.left
		if left.lean() < 0 {
			middle := *left.right
			left.right = middle.left
			left.measure()
			middle.left = &left
			n.left = middle.right
			n.measure()
			middle.right = n
			middle.measure()
			return &middle
		}
		n.left = left.right
		n.measure()
		left.right = n
		left.measure()
		return &left
	case lean < -1:
		right := *n.right
		if right.lean() > 0 {
			middle := *right.left
			right.left = middle.right
			right.measure()
			middle.right = &right
			n.right = middle.left
			n.measure()
			middle.left = n
			middle.measure()
			return &middle
		}
		n.right = right.left
		n.measure()
		right.left = n
		right.measure()
		return &right
	}
	return n
}
