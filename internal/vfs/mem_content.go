package vfs

import (
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
)

const (
	pageSize   = 4096
	sectorSize = 512
	// pageHistory is how many earlier contents of a dirty page a power loss may bring back.
	pageHistory = 4
)

// content is a file's bytes: those on the disk, and the page cache over them. A page is never changed in place, so
// disk, cache, history and clones share them; an absent one is a hole and reads as zeros.
type content struct {
	size int64
	// cache holds what differs from the disk: the dirty pages, and those that a failed sync called clean without
	// writing them. A nil page is a hole where the disk may have bytes.
	cache map[int64][]byte
	// dirty holds each dirty page's earlier contents since the last sync, oldest first: the kernel may have written
	// any of them on its own.
	dirty map[int64][][]byte
	// sizes are the file's earlier sizes since the last sync.
	sizes []int64

	diskSize  int64
	diskPages map[int64][]byte
}

func (c *content) page(i int64) []byte {
	if p, ok := c.cache[i]; ok {
		return p
	}
	return c.diskPages[i]
}

func (c *content) allocated() int64 {
	n := int64(0)
	for i := range c.diskPages {
		if _, ok := c.cache[i]; !ok {
			n++
		}
	}
	for _, p := range c.cache {
		if p != nil {
			n++
		}
	}
	return n
}

// setPage puts a page in the cache and makes it dirty.
func (c *content) setPage(i int64, p []byte) {
	if c.cache == nil {
		c.cache, c.dirty = map[int64][]byte{}, map[int64][][]byte{}
	}
	history, ok := c.dirty[i]
	if ok {
		history = append(history, c.cache[i])
		if len(history) > pageHistory {
			history = history[1:]
		}
	}
	c.cache[i] = p
	c.dirty[i] = history
}

func (c *content) setSize(size int64) {
	if size != c.size {
		c.sizes = append(c.sizes, c.size)
		c.size = size
	}
}

func (c *content) readAt(b []byte, offset int64) (int, error) {
	n := 0
	for n < len(b) && offset+int64(n) < c.size {
		at := offset + int64(n)
		within := at % pageSize
		part := b[n:min(len(b), n+int(pageSize-within))]
		part = part[:min(int64(len(part)), c.size-at)]
		if p := c.page(at / pageSize); p != nil {
			copy(part, p[within:])
		} else {
			clear(part)
		}
		n += len(part)
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// writeAt writes as many pages as d has room for.
func (c *content) writeAt(d *disk, b []byte, offset int64) (int, error) {
	n := 0
	for n < len(b) {
		at := offset + int64(n)
		i, within := at/pageSize, at%pageSize
		part := b[n:min(len(b), n+int(pageSize-within))]
		old := c.page(i)
		if old == nil {
			if d.free() < pageSize {
				return n, syscall.ENOSPC
			}
			d.used++
		}
		p := make([]byte, pageSize)
		copy(p, old)
		copy(p[within:], part)
		c.setPage(i, p)
		n += len(part)
		c.setSize(max(c.size, at+int64(len(part))))
	}
	return n, nil
}

func (c *content) truncate(d *disk, size int64) {
	if size < c.size {
		if p := c.page(size / pageSize); p != nil && size%pageSize != 0 {
			cut := make([]byte, pageSize)
			copy(cut, p[:size%pageSize])
			c.setPage(size/pageSize, cut)
		}
		for i := (size + pageSize - 1) / pageSize; i*pageSize < c.size; i++ {
			if c.page(i) != nil {
				c.setPage(i, nil)
				d.used--
			}
		}
	}
	c.setSize(size)
}

// sync writes the dirty pages and the size to the disk. A page that an earlier failed sync called clean is not dirty
// and stays unwritten.
func (c *content) sync() {
	for i := range c.dirty {
		c.writePage(i, c.cache[i])
		delete(c.cache, i)
	}
	clear(c.dirty)
	c.diskSize, c.sizes = c.size, nil
}

func (c *content) writePage(i int64, p []byte) {
	if p == nil {
		delete(c.diskPages, i)
		return
	}
	if c.diskPages == nil {
		c.diskPages = map[int64][]byte{}
	}
	c.diskPages[i] = p
}

// loseDirty is what Linux does when a sync fails: the pages are called clean and were not written.
func (c *content) loseDirty() { clear(c.dirty) }

// drop forgets the clean pages that lie wholly in the range, as POSIX_FADV_DONTNEED does.
func (c *content) drop(d *disk, offset, length int64) {
	for i := range c.cache {
		if _, dirty := c.dirty[i]; dirty || i*pageSize < offset || length > 0 && (i+1)*pageSize > offset+length {
			continue
		}
		d.used += c.forget(i)
	}
}

// forget drops a page from the cache; it returns by how many pages the file grew.
func (c *content) forget(i int64) int64 {
	grown := int64(0)
	if c.cache[i] != nil {
		grown--
	}
	if c.diskPages[i] != nil {
		grown++
	}
	delete(c.cache, i)
	return grown
}

// lose is a power loss: of each dirty page the disk has what it had, the last content, one in between, or a mix of
// them by sectors.
func (c *content) lose(rng *rand.Rand, keep float64) {
	dirty := make([]int64, 0, len(c.dirty))
	for i := range c.dirty {
		dirty = append(dirty, i)
	}
	slices.Sort(dirty)
	for _, i := range dirty {
		versions := append([][]byte{c.diskPages[i]}, c.dirty[i]...)
		versions = append(versions, c.cache[i])
		c.writePage(i, survivor(rng, keep, versions))
	}
	sizes := append(append([]int64{c.diskSize}, c.sizes...), c.size)
	c.diskSize = sizes[pick(rng, keep, len(sizes))]
	*c = content{size: c.diskSize, diskSize: c.diskSize, diskPages: c.diskPages}
	c.cutDisk()
}

// pick chooses one of n versions: the last with probability keep, else the first most of the time.
func pick(rng *rand.Rand, keep float64, n int) int {
	switch {
	case chance(rng, keep):
		return n - 1
	case n > 2 && keep > 0 && rng.Float64() < 0.3:
		return 1 + rng.IntN(n-2)
	}
	return 0
}

func survivor(rng *rand.Rand, keep float64, versions [][]byte) []byte {
	torn := keep > 0 && keep < 1 && rng.Float64() < 0.2
	if !torn {
		return versions[pick(rng, keep, len(versions))]
	}
	p := make([]byte, pageSize)
	for at := 0; at < pageSize; at += sectorSize {
		if v := versions[pick(rng, keep, len(versions))]; v != nil {
			copy(p[at:at+sectorSize], v[at:])
		}
	}
	return p
}

// cutDisk takes off the disk what lies beyond the file's end.
func (c *content) cutDisk() {
	for i, p := range c.diskPages {
		end := c.diskSize - i*pageSize
		switch {
		case end <= 0:
			delete(c.diskPages, i)
		case end < pageSize:
			cut := make([]byte, pageSize)
			copy(cut, p[:end])
			c.diskPages[i] = cut
		}
	}
}
