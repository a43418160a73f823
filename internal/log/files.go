package log

import (
	"fmt"
	"sync"

	"chronik/internal/vfs"
)

// Files is a bounded set of open files, shared by the logs of a node. A file is opened when it is needed and closed when
// too many are open and nobody uses it, one with unsynced writes last.
type Files struct {
	fs    vfs.FS
	limit int

	mu struct {
		sync.Mutex
		open int
		// Open and not in use: a ring through idle, least recently used first. It allocates nothing.
		idle   handle
		closed bool
	}
}

// NewFiles keeps at most limit files open, as far as their users let go of them.
func NewFiles(fs vfs.FS, limit int) *Files {
	f := &Files{fs: fs, limit: max(limit, 8)}
	f.mu.idle.next, f.mu.idle.prev = &f.mu.idle, &f.mu.idle
	return f
}

// Close closes the files that nobody uses, and every other when its last user lets go.
func (f *Files) Close() error {
	f.mu.Lock()
	f.mu.closed = true
	victims := f.evictLocked(0)
	f.mu.Unlock()
	closeAll(victims)
	return nil
}

// handle is one file of a log, open or not.
type handle struct {
	files *Files
	path  string

	// Guarded by Files.mu.
	file    vfs.File      // nil: not open
	opening chan struct{} // closed when whoever opens it has finished; nil if nobody does
	refs    int
	next    *handle // in the ring of idle files; nil outside of it
	prev    *handle
	dirty   bool // written to since the last sync began
	removed bool // unlinked: closed with the last reference, never opened again

	syncing chan struct{} // one-slot: the order of syncs
	syncErr error         // of the first sync that failed; syncing's
}

func (f *Files) handle(path string) handle {
	return handle{files: f, path: path, syncing: make(chan struct{}, 1)}
}

// sync brings what was written to the disk. The kernel reports a failed sync once, to one of those who wait for it, and
// calls the pages clean: therefore one sync runs at a time, and none succeeds after one that failed. opened is false
// where the file could not even be opened.
func (h *handle) sync() (opened bool, err error) {
	h.syncing <- struct{}{}
	defer func() { <-h.syncing }()
	if h.syncErr != nil {
		return true, h.syncErr
	}
	file, err := h.acquire()
	if err != nil {
		return false, err
	}
	h.clean()
	err = file.Datasync()
	h.release()
	if err != nil {
		h.syncErr = fmt.Errorf("sync %s: %w", h.path, err)
	}
	return true, h.syncErr
}

// acquire returns the open file and holds it open until release.
func (h *handle) acquire() (vfs.File, error) {
	return h.open(func() (vfs.File, error) { return h.files.fs.OpenReadWrite(h.path) })
}

// create makes the file and acquires it. What stands there already is left-over and emptied, unless keep.
func (h *handle) create(keep bool) (vfs.File, error) {
	return h.open(func() (vfs.File, error) {
		if file, err := h.files.fs.Create(h.path); err == nil {
			return file, nil
		}
		file, err := h.files.fs.OpenReadWrite(h.path)
		if err != nil {
			// Neither can be made nor opened: say why it cannot be made.
			return h.files.fs.Create(h.path)
		}
		if keep {
			return file, nil
		}
		if err := file.Truncate(0); err != nil {
			_ = file.Close()
			return nil, err
		}
		return file, nil
	})
}

func (h *handle) open(do func() (vfs.File, error)) (vfs.File, error) {
	f := h.files
	f.mu.Lock()
	for h.file == nil && h.opening != nil {
		wait := h.opening
		f.mu.Unlock()
		<-wait
		f.mu.Lock()
	}
	if h.file != nil {
		h.refs++
		h.unlinkLocked()
		file := h.file
		f.mu.Unlock()
		return file, nil
	}
	if h.removed || f.mu.closed {
		f.mu.Unlock()
		return nil, fmt.Errorf("open %s: %w", h.path, ErrClosed)
	}
	done := make(chan struct{})
	h.opening = done
	f.mu.open++
	victims := f.evictLocked(f.limit)
	f.mu.Unlock()
	closeAll(victims)

	file, err := do()

	f.mu.Lock()
	h.opening = nil
	if err != nil {
		f.mu.open--
		if h.removed && vfsNotExist(err) { // it was unlinked just now
			err = fmt.Errorf("open %s: %w", h.path, ErrClosed)
		}
	} else {
		h.file = file
		h.refs++
	}
	f.mu.Unlock()
	close(done)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// adopt makes an open file, which is to come to the handle's path, that of the handle, acquired.
func (h *handle) adopt(file vfs.File) {
	f := h.files
	f.mu.Lock()
	h.file, h.refs = file, 1
	f.mu.open++
	victims := f.evictLocked(f.limit)
	f.mu.Unlock()
	closeAll(victims)
}

// retire is remove, and once it returns nobody opens the path for this handle any more: another file may take its place.
func (h *handle) retire() {
	f := h.files
	f.mu.Lock()
	h.removed = true
	for h.opening != nil {
		wait := h.opening
		f.mu.Unlock()
		<-wait
		f.mu.Lock()
	}
	victims := h.dropLocked()
	f.mu.Unlock()
	closeAll(victims)
}

// release ends an acquire.
func (h *handle) release() { h.letGo(false) }

// releaseDirty ends an acquire in which the file was written to.
func (h *handle) releaseDirty() { h.letGo(true) }

func (h *handle) letGo(dirty bool) {
	f := h.files
	f.mu.Lock()
	h.dirty = h.dirty || dirty
	h.refs--
	if h.refs < 0 {
		panic("log: a file is released twice: " + h.path)
	}
	var victims []vfs.File
	if h.refs == 0 {
		if h.removed || f.mu.closed {
			victims = append(victims, h.file)
			h.file = nil
			f.mu.open--
		} else {
			h.linkLocked()
			victims = f.evictLocked(f.limit)
		}
	}
	f.mu.Unlock()
	closeAll(victims)
}

// clean is called before a sync: writes from here on make the file dirty again.
func (h *handle) clean() {
	h.files.mu.Lock()
	h.dirty = false
	h.files.mu.Unlock()
}

// remove marks the file as unlinked; who reads it keeps it open.
func (h *handle) remove() {
	f := h.files
	f.mu.Lock()
	h.removed = true
	victims := h.dropLocked()
	f.mu.Unlock()
	closeAll(victims)
}

// forget closes the file unless somebody uses it.
func (h *handle) forget() {
	h.files.mu.Lock()
	victims := h.dropLocked()
	h.files.mu.Unlock()
	closeAll(victims)
}

func (h *handle) dropLocked() []vfs.File {
	if h.next == nil {
		return nil
	}
	h.unlinkLocked()
	file := h.file
	h.file = nil
	h.files.mu.open--
	return []vfs.File{file}
}

// linkLocked puts the file at the end of the ring of idle ones.
func (h *handle) linkLocked() {
	root := &h.files.mu.idle
	h.prev, h.next = root.prev, root
	h.prev.next, root.prev = h, h
}

func (h *handle) unlinkLocked() {
	if h.next != nil {
		h.prev.next, h.next.prev = h.next, h.prev
		h.next, h.prev = nil, nil
	}
}

// evictLocked takes idle files out until at most limit are open, clean ones first.
func (f *Files) evictLocked(limit int) []vfs.File {
	var victims []vfs.File
	root := &f.mu.idle
	for f.mu.open > limit && root.next != root {
		chosen := root.next
		for h, n := chosen, 0; h != root && n < 32; h, n = h.next, n+1 {
			if !h.dirty {
				chosen = h
				break
			}
		}
		victims = append(victims, chosen.dropLocked()...)
	}
	return victims
}

func closeAll(files []vfs.File) {
	for _, file := range files {
		_ = file.Close() // what was written is synced through another opening; a close has nothing to add
	}
}
