package wal

import "chronik/internal/vfs"

// Inspection is what a log at rest looks like.
type Inspection struct {
	Files []FileInfo // all of the directory
	Next  LSN        // behind the last record
}

// FileInfo describes a file of a log.
type FileInfo struct {
	Path    string
	Size    int64  // bytes
	Number  uint64 // 0 for a spare file, and where the header is damaged
	First   LSN
	Damaged bool  // the header is neither valid nor zero: a file that was about to be used, or damage
	Needed  bool  // it was read
	End     int64 // of a file that was read: behind its last whole group
}

// Inspect reads the log in a directory that nobody uses, as Open would, and changes nothing. It yields the records from
// LSN from on (0: all there are) to fn, which may be nil. The error is a *CorruptionError for damage; what was read until
// then is returned with it.
func Inspect(fsys vfs.FS, dir string, from LSN, fn func(Record) error) (Inspection, error) {
	s, err := scanHeaders(fsys, dir)
	if err != nil {
		return Inspection{}, err
	}
	if err = s.cut(from); err == nil {
		err = s.read(from, fn)
	}
	in := Inspection{Next: s.end}
	read := map[string]scannedFile{}
	for _, f := range s.run {
		read[f.path] = f
	}
	for _, f := range s.all {
		info := FileInfo{Path: f.path, Size: f.size, Number: f.number, First: f.first, Damaged: f.state == headerDamaged}
		if r, ok := read[f.path]; ok {
			info.Needed, info.End = true, r.end
		}
		in.Files = append(in.Files, info)
	}
	return in, err
}
