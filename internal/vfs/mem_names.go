package vfs

import (
	"io/fs"
	"math"
	"path"
	"strings"
	"syscall"
)

// node is an inode: a directory or a file.
type node struct {
	id  int
	dir bool
	// Of a directory: its entries as processes see them, and as they are on the disk.
	entries, durable map[string]*node
	// Of a file.
	content
	opens    int
	unlinked bool
}

// nameChange is one change of names that reaches the disk whole or not at all.
type nameChange []nameEdit

// nameEdit sets an entry; to nothing where child is nil.
type nameEdit struct {
	slot
	child *node
}

type slot struct {
	dir  *node
	name string
}

func (d *disk) newNode(dir bool) *node {
	d.lastID++
	n := &node{id: d.lastID, dir: dir}
	if dir {
		n.entries, n.durable = map[string]*node{}, map[string]*node{}
	}
	return n
}

// free is the room left, in bytes.
func (d *disk) free() int64 { return max(0, d.size()-d.used*pageSize) }

func (d *disk) size() int64 {
	if d.capacity == 0 {
		return math.MaxInt64 / 4
	}
	return d.capacity
}

func (d *disk) find(name string) (*node, error) {
	n := d.root
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+name), "/"), "/") {
		if part == "" {
			continue
		}
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		child, ok := n.entries[part]
		if !ok {
			return nil, fs.ErrNotExist
		}
		n = child
	}
	return n, nil
}

// locate finds the directory that holds or would hold name.
func (d *disk) locate(name string) (slot, error) {
	clean := path.Clean("/" + name)
	if clean == "/" {
		return slot{}, syscall.EINVAL
	}
	dir, err := d.find(path.Dir(clean))
	if err == nil && !dir.dir {
		err = syscall.ENOTDIR
	}
	return slot{dir, path.Base(clean)}, err
}

// change does an edit of names in the cache and remembers that it is not durable.
func (d *disk) change(edits ...nameEdit) {
	for _, e := range edits {
		e.apply(e.dir.entries)
	}
	d.pending = append(d.pending, edits)
}

func (e nameEdit) apply(entries map[string]*node) {
	if e.child == nil {
		delete(entries, e.name)
	} else {
		entries[e.name] = e.child
	}
}

func (d *disk) create(name string) (*node, error) {
	at, err := d.locate(name)
	if err != nil {
		return nil, err
	}
	if _, ok := at.dir.entries[at.name]; ok {
		return nil, fs.ErrExist
	}
	n := d.newNode(false)
	d.change(nameEdit{at, n})
	return n, nil
}

func (d *disk) remove(name string) error {
	at, err := d.locate(name)
	if err != nil {
		return err
	}
	n, ok := at.dir.entries[at.name]
	if !ok {
		return fs.ErrNotExist
	}
	if n.dir && len(n.entries) > 0 {
		return syscall.ENOTEMPTY
	}
	d.change(nameEdit{at, nil})
	d.unlink(n)
	return nil
}

// unlink gives a file's space back, or leaves that to its last Close.
func (d *disk) unlink(n *node) {
	n.unlinked = true
	if n.opens == 0 {
		d.used -= n.allocated()
	}
}

func (d *disk) rename(oldName, newName string) error {
	from, err := d.locate(oldName)
	if err != nil {
		return err
	}
	to, err := d.locate(newName)
	if err != nil {
		return err
	}
	n, ok := from.dir.entries[from.name]
	if !ok {
		return fs.ErrNotExist
	}
	replaced, ok := to.dir.entries[to.name]
	switch {
	case ok && replaced.dir:
		return fs.ErrExist // os.Rename replaces no directory, not even an empty one
	case n.dir && strings.HasPrefix(path.Clean("/"+newName)+"/", path.Clean("/"+oldName)+"/"):
		return syscall.EINVAL
	case !ok:
	case n.dir:
		return syscall.ENOTDIR
	case from == to:
		return nil
	}
	d.change(nameEdit{from, nil}, nameEdit{to, n})
	if replaced != nil {
		d.unlink(replaced)
	}
	return nil
}

func (d *disk) mkdirAll(name string) error {
	n := d.root
	for part := range strings.SplitSeq(strings.Trim(path.Clean("/"+name), "/"), "/") {
		if part == "" {
			continue
		}
		child, ok := n.entries[part]
		if !ok {
			child = d.newNode(true)
			d.change(nameEdit{slot{n, part}, child})
		}
		if !child.dir {
			return syscall.ENOTDIR
		}
		n = child
	}
	return nil
}

// syncNames makes the changes of a directory durable, with the older changes of other directories that they build on.
func (d *disk) syncNames(dir *node) {
	forced := make([]bool, len(d.pending))
	slots := map[slot]bool{}
	for i := len(d.pending) - 1; i >= 0; i-- {
		for _, e := range d.pending[i] {
			forced[i] = forced[i] || e.dir == dir || slots[e.slot]
		}
		if forced[i] {
			for _, e := range d.pending[i] {
				slots[e.slot] = true
			}
		}
	}
	var left []nameChange
	for i, c := range d.pending {
		if !forced[i] {
			left = append(left, c)
			continue
		}
		c.applyDurable()
	}
	d.pending = left
}

func (c nameChange) applyDurable() {
	for _, e := range c {
		e.apply(e.dir.durable)
	}
}
