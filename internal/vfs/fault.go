package vfs

import (
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"chronik/internal/clock"
)

// Operation is a set of file system calls.
type Operation uint32

const (
	OpOpen Operation = 1 << iota
	OpCreate
	OpRead
	OpWrite
	OpTruncate
	OpSync // Sync and Datasync of a file
	OpSyncDir
	OpRename
	OpRemove // Remove and RemoveAll
	OpMkdir
	OpReadDir
	OpStat
	OpLock
	OpFree
	OpCapacity
	OpDropCache

	OpAny Operation = 1<<iota - 1
)

// Rule says what happens to some calls. The fields that are zero restrict nothing and do nothing.
type Rule struct {
	// Path picks the names that contain it; with a * or ? in it, those whose last element matches it as path.Match
	// does. A rename is picked by either name.
	Path string
	Op   Operation
	// After lets so many picked calls pass first; Times ends the rule after so many.
	After, Times int

	// Delay makes the call wait on the clock before it is done.
	Delay time.Duration
	// Hook runs before the call, without a lock held.
	Hook func(op Operation, name string)
	// Err is the call's error; it is not done then. A sync that fails also calls the file's dirty pages clean, as
	// Linux does, if the file is a Mem's.
	Err error
	// Short lets a write that fails with Err write so many of its bytes first.
	Short int
}

// Fault wraps a file system and breaks calls by rules; the first rule that picks a call decides. Reads through OSFile
// (sendfile) are not seen; while a rule picks reads of a file, OSFile answers nil for it.
type Fault struct {
	under FS
	clock clock.Clock
	mu    struct {
		sync.Mutex
		rules []*armedRule
		calls [bits.UintSize]int64
	}
}

var _ FS = (*Fault)(nil)

type armedRule struct {
	Rule
	picked int
}

// NewFault wraps under with no rules.
func NewFault(under FS, c clock.Clock) *Fault { return &Fault{under: under, clock: c} }

// Add arms a rule after those that there are; remove disarms it.
func (f *Fault) Add(r Rule) (remove func()) {
	if r.Op == 0 {
		r.Op = OpAny
	}
	armed := &armedRule{Rule: r}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = append(f.mu.rules, armed)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i, other := range f.mu.rules {
			if other == armed {
				f.mu.rules = append(f.mu.rules[:i:i], f.mu.rules[i+1:]...)
				return
			}
		}
	}
}

// Clear disarms all rules.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.rules = nil
}

// Calls counts the calls of the given operations so far, broken ones too.
func (f *Fault) Calls(ops Operation) int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := int64(0)
	for i, c := range f.mu.calls {
		if ops&(1<<i) != 0 {
			n += c
		}
	}
	return n
}

func (r *armedRule) picks(op Operation, names []string) bool {
	if r.Op&op == 0 {
		return false
	}
	for _, name := range names {
		if strings.ContainsAny(r.Path, "*?") {
			if ok, _ := path.Match(r.Path, path.Base(name)); ok {
				return true
			}
		} else if strings.Contains(name, r.Path) {
			return true
		}
	}
	return false
}

// before finds what happens to a call and waits as long as it is to wait.
func (f *Fault) before(op Operation, names ...string) (short int, err error) {
	r, ok := f.rule(op, names)
	if !ok {
		return 0, nil
	}
	if r.Delay > 0 {
		<-f.clock.NewTimer(r.Delay).C()
	}
	if r.Hook != nil {
		r.Hook(op, names[0])
	}
	if r.Err != nil {
		return r.Short, &fs.PathError{Op: op.String(), Path: names[0], Err: r.Err}
	}
	return 0, nil
}

func (f *Fault) rule(op Operation, names []string) (Rule, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.calls[bits.TrailingZeros32(uint32(op))]++
	for _, r := range f.mu.rules {
		if !r.picks(op, names) {
			continue
		}
		r.picked++
		if r.picked > r.After && (r.Times == 0 || r.picked <= r.After+r.Times) {
			return r.Rule, true
		}
	}
	return Rule{}, false
}

// armed says whether a rule would pick such calls.
func (f *Fault) armed(op Operation, name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.mu.rules {
		if r.picks(op, []string{name}) {
			return true
		}
	}
	return false
}

var operationNames = [...]string{"open", "create", "read", "write", "truncate", "fsync", "fsync directory", "rename",
	"remove", "mkdir", "readdir", "stat", "lock", "statfs of what is free", "statfs of all", "fadvise"}

func (o Operation) String() string { return operationNames[bits.TrailingZeros32(uint32(o))] }

func (f *Fault) Open(name string) (File, error) { return f.open(OpOpen, name, f.under.Open) }

func (f *Fault) OpenReadWrite(name string) (File, error) {
	return f.open(OpOpen, name, f.under.OpenReadWrite)
}

func (f *Fault) Create(name string) (File, error) { return f.open(OpCreate, name, f.under.Create) }

func (f *Fault) open(op Operation, name string, open func(string) (File, error)) (File, error) {
	if _, err := f.before(op, name); err != nil {
		return nil, err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fault: f}, nil
}

func (f *Fault) Remove(name string) error {
	return f.name(OpRemove, name, f.under.Remove)
}

func (f *Fault) RemoveAll(name string) error {
	return f.name(OpRemove, name, f.under.RemoveAll)
}

func (f *Fault) MkdirAll(name string) error {
	return f.name(OpMkdir, name, f.under.MkdirAll)
}

func (f *Fault) SyncDir(name string) error {
	return f.name(OpSyncDir, name, f.under.SyncDir)
}

func (f *Fault) name(op Operation, name string, do func(string) error) error {
	if _, err := f.before(op, name); err != nil {
		return err
	}
	return do(name)
}

func (f *Fault) Rename(oldName, newName string) error {
	if _, err := f.before(OpRename, oldName, newName); err != nil {
		return err
	}
	return f.under.Rename(oldName, newName)
}

func (f *Fault) ReadDir(name string) ([]string, error) {
	if _, err := f.before(OpReadDir, name); err != nil {
		return nil, err
	}
	return f.under.ReadDir(name)
}

func (f *Fault) Stat(name string) (Info, error) {
	if _, err := f.before(OpStat, name); err != nil {
		return Info{}, err
	}
	return f.under.Stat(name)
}

func (f *Fault) Lock(name string) (io.Closer, error) {
	if _, err := f.before(OpLock, name); err != nil {
		return nil, err
	}
	return f.under.Lock(name)
}

func (f *Fault) Free(name string) (int64, error) {
	if _, err := f.before(OpFree, name); err != nil {
		return 0, err
	}
	return f.under.Free(name)
}

func (f *Fault) Capacity(name string) (int64, error) {
	if _, err := f.before(OpCapacity, name); err != nil {
		return 0, err
	}
	return f.under.Capacity(name)
}

type faultFile struct {
	File
	fault *Fault
}

func (f *faultFile) ReadAt(b []byte, offset int64) (int, error) {
	if _, err := f.fault.before(OpRead, f.Name()); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, offset)
}

func (f *faultFile) WriteAt(b []byte, offset int64) (int, error) {
	short, err := f.fault.before(OpWrite, f.Name())
	if err == nil {
		return f.File.WriteAt(b, offset)
	}
	n := 0
	if short > 0 {
		var underErr error
		if n, underErr = f.File.WriteAt(b[:min(short, len(b))], offset); underErr != nil {
			return n, underErr
		}
	}
	return n, err
}

func (f *faultFile) Truncate(size int64) error {
	if _, err := f.fault.before(OpTruncate, f.Name()); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Sync() error { return f.sync(f.File.Sync) }

func (f *faultFile) Datasync() error { return f.sync(f.File.Datasync) }

func (f *faultFile) sync(do func() error) error {
	_, err := f.fault.before(OpSync, f.Name())
	if err == nil {
		return do()
	}
	if under, ok := f.File.(interface{ failSync() }); ok {
		under.failSync()
	}
	return err
}

func (f *faultFile) DropCache(offset, length int64) error {
	if _, err := f.fault.before(OpDropCache, f.Name()); err != nil {
		return err
	}
	return f.File.DropCache(offset, length)
}

func (f *faultFile) OSFile() *os.File {
	if f.fault.armed(OpRead, f.Name()) {
		return nil
	}
	return f.File.OSFile()
}
