package vfs

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
)

// Kill ends the process as kill -9 does: the page cache survives. It returns the next process's view.
func (m *Mem) Kill() *Mem {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.process.dieLocked()
	return m.disk.newProcess()
}

// PowerLoss ends the process and the page cache: of the unsynced pages, sizes and names any subset that rng chooses
// is lost; all of it where rng is nil. It returns the view of the first process after the reboot. A process that was killed before, without
// syncing, loses its pages all the same.
func (m *Mem) PowerLoss(rng *rand.Rand) *Mem {
	d := m.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	d.process.dieLocked()

	// How much survives differs from crash to crash, so that "nothing" and "everything" occur too.
	keepNames, keepPages := odds(rng), odds(rng)
	dropped := map[slot]bool{}
	for _, c := range d.pending {
		drop := !chance(rng, keepNames)
		for _, e := range c {
			drop = drop || dropped[e.slot] // a name's changes reach the disk in order
		}
		if !drop {
			c.applyDurable()
			continue
		}
		for _, e := range c {
			dropped[e.slot] = true
		}
	}
	d.pending = nil
	d.used = 0
	nodes := d.root.reboot(map[int]*node{})
	for _, id := range slices.Sorted(maps.Keys(nodes)) {
		if n := nodes[id]; !n.dir {
			n.lose(rng, keepPages)
			d.used += n.allocated()
		}
	}
	return d.newProcess()
}

func odds(rng *rand.Rand) float64 {
	if rng == nil {
		return 0
	}
	return []float64{0, 0.1, 0.5, 0.5, 0.9, 1}[rng.IntN(6)]
}

func chance(rng *rand.Rand, p float64) bool { return p > 0 && rng.Float64() < p }

// reboot takes the names of a directory and those below from the disk, and collects what they lead to.
func (n *node) reboot(into map[int]*node) map[int]*node {
	n.entries = maps.Clone(n.durable)
	into[n.id] = n
	for _, child := range n.entries {
		if child.dir {
			child.reboot(into)
		} else {
			child.unlinked, child.opens = false, 0
			into[child.id] = child
		}
	}
	return into
}

// dieLocked ends the process. Files that it held open and unlinked are freed.
func (m *Mem) dieLocked() {
	if m.dead {
		return
	}
	m.dead = true
	close(m.died)
	m.disk.used = 0
	m.disk.root.closeAll(m.disk)
}

func (n *node) closeAll(d *disk) {
	n.opens = 0
	d.used += n.allocated()
	for _, child := range n.entries {
		child.closeAll(d)
	}
}

// Died is closed when the process is dead.
func (m *Mem) Died() <-chan struct{} { return m.died }

// KillAfter lets the process die in the middle of its n-th mutating call from now (1 is the next): a write is done in
// part, any other call wholly or not at all. rng must not be used elsewhere meanwhile.
func (m *Mem) KillAfter(n int64, rng *rand.Rand) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.killAt, m.killRand = m.operations+n, rng
}

// Operations counts the process's mutating calls: creates, writes, truncates, renames, removes, syncs.
func (m *Mem) Operations() int64 {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.operations
}

// SetCapacity changes the room for content, in bytes; 0 means no limit.
func (m *Mem) SetCapacity(capacity int64) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.disk.capacity = capacity
}

// Used is the room that files take, in bytes.
func (m *Mem) Used() int64 {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	return m.disk.used * pageSize
}

// Corrupt flips the bits of mask in one byte of a file, on the disk and in the page cache.
func (m *Mem) Corrupt(name string, offset int64, mask byte) error {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	n, err := m.disk.find(name)
	if err != nil || n.dir || offset < 0 || offset >= n.size {
		return &fs.PathError{Op: "corrupt", Path: name, Err: fmt.Errorf("no byte at %d: %w", offset, fs.ErrInvalid)}
	}
	i := offset / pageSize
	flipped := func(p []byte) []byte {
		q := make([]byte, pageSize)
		copy(q, p)
		q[offset%pageSize] ^= mask
		return q
	}
	if n.page(i) == nil {
		m.disk.used++
	}
	p, cached := n.cache[i]
	if cached {
		n.cache[i] = flipped(p)
	}
	if q := n.diskPages[i]; q != nil || !cached {
		n.writePage(i, flipped(q))
	}
	return nil
}

// Clone copies the machine, page cache and all, without its process: the view that it returns is a new one's.
func (m *Mem) Clone() *Mem {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	d := &disk{capacity: m.disk.capacity, lastID: m.disk.lastID}
	copies := map[*node]*node{}
	d.root = m.disk.root.clone(copies)
	for _, c := range m.disk.pending {
		edits := make(nameChange, len(c))
		for i, e := range c {
			edits[i] = nameEdit{slot{e.dir.clone(copies), e.name}, e.child.clone(copies)}
		}
		d.pending = append(d.pending, edits)
	}
	d.root.closeAll(d)
	return d.newProcess()
}

func (n *node) clone(copies map[*node]*node) *node {
	if n == nil {
		return nil
	}
	if c := copies[n]; c != nil {
		return c
	}
	c := &node{id: n.id, dir: n.dir, content: n.content, unlinked: n.unlinked}
	copies[n] = c
	c.cache, c.diskPages, c.dirty = maps.Clone(n.cache), maps.Clone(n.diskPages), maps.Clone(n.dirty)
	c.sizes = slices.Clone(n.sizes)
	for i, history := range c.dirty {
		c.dirty[i] = slices.Clone(history)
	}
	if n.dir {
		c.entries, c.durable = map[string]*node{}, map[string]*node{}
		for name, child := range n.entries {
			c.entries[name] = child.clone(copies)
		}
		for name, child := range n.durable {
			c.durable[name] = child.clone(copies)
		}
	}
	return c
}
