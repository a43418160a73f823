package metadata

import (
	"iter"
	"slices"
)

// vector is a persistent list: a trie of 32-wide nodes, of which a change copies one path. Like tree, it is a small
// value that stands for one version.
type vector[T any] struct {
	root  *vectorNode[T]
	count int
	depth int // levels of inner nodes above the leaves
}

// vectorNode has children in an inner node, values in a leaf.
type vectorNode[T any] struct {
	children []*vectorNode[T]
	values   []T
}

const (
	vectorBits  = 5
	vectorWidth = 1 << vectorBits
)

func (v vector[T]) len() int { return v.count }

// at panics if i is out of range, as a slice does.
func (v vector[T]) at(i int) T {
	if uint(i) >= uint(v.count) {
		panic("metadata: index out of range of a vector")
	}
	n := v.root
	for level := v.depth; level > 0; level-- {
		n = n.children[i>>(level*vectorBits)&(vectorWidth-1)]
	}
	return n.values[i&(vectorWidth-1)]
}

// with returns the vector with element i set; i may be the length, to append.
func (v vector[T]) with(i int, value T) vector[T] {
	if uint(i) > uint(v.count) {
		panic("metadata: index out of range of a vector")
	}
	if i == v.count {
		if v.root != nil && v.count == 1<<((v.depth+1)*vectorBits) { // full: grow a level
			v.root = &vectorNode[T]{children: []*vectorNode[T]{v.root}}
			v.depth++
		}
		v.count++
	}
	v.root = v.root.with(v.depth, i, value)
	return v
}

func (n *vectorNode[T]) with(level, i int, value T) *vectorNode[T] {
	var m vectorNode[T]
	if n != nil {
		m = vectorNode[T]{children: slices.Clone(n.children), values: slices.Clone(n.values)}
	}
	slot := i >> (level * vectorBits) & (vectorWidth - 1)
	if level == 0 {
		if slot == len(m.values) {
			m.values = append(m.values, value)
		} else {
			m.values[slot] = value
		}
		return &m
	}
	if slot == len(m.children) {
		m.children = append(m.children, nil)
	}
	m.children[slot] = m.children[slot].with(level-1, i, value)
	return &m
}

// vectorOf builds a vector at once. It copies values.
func vectorOf[T any](values []T) vector[T] {
	v := vector[T]{count: len(values)}
	if len(values) == 0 {
		return v
	}
	var row []*vectorNode[T]
	for leaf := range slices.Chunk(values, vectorWidth) {
		row = append(row, &vectorNode[T]{values: slices.Clone(leaf)})
	}
	for ; len(row) > 1; v.depth++ {
		var above []*vectorNode[T]
		for group := range slices.Chunk(row, vectorWidth) {
			above = append(above, &vectorNode[T]{children: slices.Clone(group)})
		}
		row = above
	}
	v.root = row[0]
	return v
}

func (v vector[T]) all() iter.Seq[T] {
	return func(yield func(T) bool) { v.root.walk(yield) }
}

func (n *vectorNode[T]) walk(yield func(T) bool) bool {
	if n == nil {
		return true
	}
	for _, c := range n.children {
		if !c.walk(yield) {
			return false
		}
	}
	for _, value := range n.values {
		if !yield(value) {
			return false
		}
	}
	return true
}
