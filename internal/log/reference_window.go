package log

// referenceWindow is a stretch of a segment that was read ahead: small appends that went by reference lie one behind the
// other, and a recovery reads them from a cold disk.
type referenceWindow struct {
	name string
	at   int64
	buf  []byte
}

const referenceWindowBytes = 1 << 20

// readReference reads up to length bytes, fewer where the file ends. They are valid until the next call. What replay
// writes meanwhile lies elsewhere.
func (l *Log) readReference(name string, position, length int64) ([]byte, error) {
	w := &l.w.window
	if w.name == name && position >= w.at && position+length <= w.at+int64(len(w.buf)) {
		return w.buf[position-w.at:][:length], nil
	}
	w.name, w.buf = "", w.buf[:0]
	file, err := l.o.FS.Open(name)
	if vfsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	size, err := file.Size()
	if err != nil || size <= position {
		return nil, err
	}
	n := min(max(length, referenceWindowBytes), size-position)
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	w.buf = w.buf[:n]
	if err := readFull(file, name, w.buf, position); err != nil {
		return nil, err
	}
	w.name, w.at = name, position
	return w.buf[:min(length, n)], nil
}
