package wal

import (
	"encoding/binary"
	"fmt"
	"path"
	"slices"
	"strings"

	"chronik/internal/vfs"
)

// CorruptionError says that the log holds something that no crash explains: what was durable once is damaged.
type CorruptionError struct {
	File   string
	Offset int64 // bytes
	Detail string
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("write-ahead log is corrupt: %s at byte %d: %s", e.File, e.Offset, e.Detail)
}

// scannedFile is a file as Open found it.
type scannedFile struct {
	header
	path  string
	size  int64
	state headerState
	end   int64 // behind the last whole group
}

// scan is the state of the log's files at rest. It changes nothing.
type scan struct {
	fs    vfs.FS
	dir   string
	all   []scannedFile // every file of the directory
	run   []scannedFile // those that hold the log: consecutive numbers up to the highest
	end   LSN           // behind the last whole group
	names int           // the highest number in a name
}

// scanHeaders finds the files of the log by their headers.
func scanHeaders(fsys vfs.FS, dir string) (*scan, error) {
	s := &scan{fs: fsys, dir: dir}
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list write-ahead log: %w", err)
	}
	for _, name := range names {
		base, ours := strings.CutSuffix(name, suffix)
		if !ours {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(base, "%d", &n); err == nil {
			s.names = max(s.names, n)
		}
		f, err := s.scanHeader(path.Join(dir, name))
		if err != nil {
			return nil, err
		}
		s.all = append(s.all, f)
	}
	for _, f := range s.all {
		if f.state == headerValid {
			s.run = append(s.run, f)
		}
	}
	slices.SortFunc(s.run, func(a, b scannedFile) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	for i := len(s.run) - 1; i > 0; i-- {
		if s.run[i].number == s.run[i-1].number {
			return nil, &CorruptionError{s.run[i].path, 0, fmt.Sprintf("it has the same number %d as %s", s.run[i].number, s.run[i-1].path)}
		}
	}
	return s, nil
}

func (s *scan) scanHeader(name string) (scannedFile, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return scannedFile{}, fmt.Errorf("open write-ahead log: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return scannedFile{}, fmt.Errorf("open write-ahead log: %w", err)
	}
	b := make([]byte, min(size, fileHeader))
	if _, err := f.ReadAt(b, 0); err != nil && size > 0 {
		return scannedFile{}, fmt.Errorf("read write-ahead log %s: %w", name, err)
	}
	h, state, err := decodeHeader(b)
	if err != nil {
		return scannedFile{}, fmt.Errorf("%s: %w", name, err)
	}
	return scannedFile{header: h, path: name, size: size, state: state}, nil
}

// cut leaves in run what is needed from LSN from on. A number that is missing above it is corruption.
func (s *scan) cut(from LSN) error {
	start := 0
	for i := 1; i < len(s.run); i++ {
		if s.run[i].first <= from {
			start = i
		} else if s.run[i].number != s.run[i-1].number+1 {
			if from == 0 { // whoever needs all that is there judges by content
				start = i
				continue
			}
			return &CorruptionError{s.run[i].path, 0, fmt.Sprintf("the file before it, number %d, is missing or its header is damaged", s.run[i].number-1)}
		}
	}
	if len(s.run) == 0 {
		if from > 1 {
			return &CorruptionError{s.dir, 0, fmt.Sprintf("no file holds record %d, from which on the log is needed", from)}
		}
		return nil
	}
	s.run = s.run[start:]
	if from > 0 && s.run[0].first > from {
		return &CorruptionError{s.run[0].path, 0, fmt.Sprintf("the oldest record is %d, but the log is needed from %d on", s.run[0].first, from)}
	}
	return nil
}

// read reads all groups of run in order, yields their records from LSN from on, and finds the end.
func (s *scan) read(from LSN, fn func(Record) error) error {
	s.end = max(from, 1)
	if len(s.run) > 0 {
		s.end = s.run[0].first
	}
	for i := range s.run {
		f := &s.run[i]
		if f.first != s.end {
			p := &s.run[i-1]
			return &CorruptionError{p.path, p.end, fmt.Sprintf("its groups end at record %d, but the next file %s starts at %d", s.end, f.path, f.first)}
		}
		if err := s.readFile(f, from, fn, i == len(s.run)-1); err != nil {
			return err
		}
	}
	if len(s.run) == 0 {
		if err := s.checkDamagedHeaders(); err != nil {
			return err
		}
	}
	if s.end < from {
		return &CorruptionError{s.dir, 0, fmt.Sprintf("the log ends at record %d, but is needed from %d on", s.end, from)}
	}
	return nil
}

func (s *scan) readFile(f *scannedFile, from LSN, fn func(Record) error, last bool) error {
	in, err := s.fs.Open(f.path)
	if err != nil {
		return fmt.Errorf("open write-ahead log: %w", err)
	}
	defer in.Close()
	r := groupReader{f: in, name: f.path, size: f.size}
	f.end = headerBlock
	for {
		g, records, next, err := r.group(f.end)
		if err != nil {
			return err
		}
		if next == 0 || g.salt != f.salt || g.first != s.end {
			break
		}
		visit := func(rec Record) error {
			if fn == nil || rec.LSN < from {
				return nil
			}
			return fn(rec)
		}
		if _, err := decodeRecords(g, records, visit); err != nil {
			return err
		}
		s.end = g.first + LSN(g.count)
		f.end = next
	}
	if !last {
		return nil
	}
	return s.checkTail(r, f)
}

// checkTail looks for a whole group behind the end: it was written after the one that is broken had been synced. It
// looks as well at files whose header is damaged: groups that continue the log prove that the header was whole.
func (s *scan) checkTail(r groupReader, f *scannedFile) error {
	at, g, err := r.find(f.end, func(g groupHead) bool { return g.salt == f.salt && g.first >= s.end })
	if err != nil {
		return err
	}
	if at > 0 {
		return &CorruptionError{f.path, f.end, fmt.Sprintf("record %d cannot be read, but a later group with record %d at byte %d is whole, so this is damage and not a torn tail", s.end, g.first, at)}
	}
	return s.checkDamagedHeaders()
}

func (s *scan) checkDamagedHeaders() error {
	for i := range s.all {
		d := &s.all[i]
		if d.state != headerDamaged {
			continue
		}
		in, err := s.fs.Open(d.path)
		if err != nil {
			return fmt.Errorf("open write-ahead log: %w", err)
		}
		r := groupReader{f: in, name: d.path, size: d.size}
		at, g, err := r.find(headerBlock, func(g groupHead) bool { return g.first >= s.end })
		_ = in.Close()
		if err != nil {
			return err
		}
		if at > 0 {
			return &CorruptionError{d.path, 0, fmt.Sprintf("the header is damaged, but the file holds record %d, which is needed, at byte %d", g.first, at)}
		}
	}
	return nil
}

// groupReader reads groups of one file through a window.
type groupReader struct {
	f      vfs.File
	name   string
	size   int64
	window []byte
	at     int64 // of the window
}

const windowBytes = 1 << 20

// bytes returns n bytes at a position, nil if the file ends before.
func (r *groupReader) bytes(at, n int64) ([]byte, error) {
	if at < 0 || n < 0 || at+n > r.size {
		return nil, nil
	}
	if at < r.at || at+n > r.at+int64(len(r.window)) {
		want := min(max(n, windowBytes), r.size-at)
		if int64(cap(r.window)) < want {
			r.window = make([]byte, want)
		}
		r.window, r.at = r.window[:want], at
		if m, err := r.f.ReadAt(r.window, at); int64(m) < want {
			return nil, fmt.Errorf("read write-ahead log %s at byte %d: %w", r.name, at, err)
		}
	}
	return r.window[at-r.at : at-r.at+n], nil
}

// group reads the group at a position; next is where the one after it would start, 0 if there is no whole group here.
func (r *groupReader) group(at int64) (g groupHead, records []byte, next int64, err error) {
	b, err := r.bytes(at, groupHeader)
	if b == nil {
		return g, nil, 0, err
	}
	g, ok := decodeGroupHead(b)
	if !ok || int64(g.count)*recordHeader > int64(g.length) {
		return g, nil, 0, nil
	}
	b, err = r.bytes(at, groupHeader+int64(g.length))
	if b == nil {
		return g, nil, 0, err
	}
	if groupCRC(b, g.salt) != g.crc {
		return g, nil, 0, nil
	}
	if ok, _ := decodeRecords(g, b[groupHeader:], nil); !ok {
		return g, nil, 0, nil
	}
	return g, b[groupHeader:], at + align(groupHeader+int64(g.length)), nil
}

// find returns where the first whole group that is wanted starts, at or behind a position; 0 if there is none.
func (r *groupReader) find(at int64, want func(groupHead) bool) (int64, groupHead, error) {
	for at = align(at); at+groupHeader <= r.size; {
		n := min(r.size-at, windowBytes) &^ (groupAlign - 1)
		b, err := r.bytes(at, n)
		if err != nil {
			return 0, groupHead{}, err
		}
		i := int64(0)
		for i < n && binary.LittleEndian.Uint32(b[i:]) != groupMagic {
			i += groupAlign
		}
		at += i
		if i == n {
			continue
		}
		g, _, next, err := r.group(at)
		if err != nil {
			return 0, groupHead{}, err
		}
		if next > 0 && want(g) {
			return at, g, nil
		}
		at += groupAlign
	}
	return 0, groupHead{}, nil
}
