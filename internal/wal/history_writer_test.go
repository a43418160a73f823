package wal_test

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path"
	"syscall"

	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// historyWriter appends records to the log, as one stream with a file of its own for the bodies.
type historyWriter struct {
	h       *history
	l       *wal.Log
	disk    vfs.FS
	rng     *rand.Rand
	stream  wal.Stream
	name    string
	file    vfs.File
	size    int64
	entries []*historyEntry // by the stream's ends, which count from 1
}

func (h *history) newWriter(l *wal.Log) *historyWriter {
	h.serial++
	w := &historyWriter{
		h: h, l: l, disk: h.faulty, rng: rand.New(rand.NewPCG(h.rng.Uint64(), 2)), name: fmt.Sprintf("segment%d", h.serial),
	}
	w.stream.OnDurable = w.durable
	return w
}

// durable is the stream's promise: all of its records up to end.
func (w *historyWriter) durable(end int64) {
	w.h.mu.Lock()
	defer w.h.mu.Unlock()
	for _, e := range w.entries[:end] {
		e.promised = true
	}
}

func (w *historyWriter) run() {
	for i := range 10 + w.rng.IntN(60) {
		if err := w.append(i); err != nil {
			w.h.die(err)
			return
		}
	}
}

func (w *historyWriter) append(serial int) error {
	body := make([]byte, w.rng.IntN(400))
	if w.rng.IntN(8) == 0 {
		body = make([]byte, 1000+w.rng.IntN(6000))
	}
	for i := range body {
		body[i] = byte('a' + w.rng.IntN(26))
	}
	e := &wal.Entry{Body: body, Stream: &w.stream, End: int64(len(w.entries) + 1), Lazy: w.rng.IntN(5) == 0, Held: w.rng.IntN(4) == 0}
	head := fmt.Sprintf("%d %s %d %d %d", serial, w.name, w.size, len(body), crc32.ChecksumIEEE(body))
	if w.rng.IntN(2) == 0 {
		switch err := w.write(body); {
		case err == nil:
			e.Reference = w
		case !errors.Is(err, syscall.ENOSPC):
			return err
		}
	}
	e.Head = []byte(head + "|")
	entry := &historyEntry{stream: w.name, body: string(body)}
	w.h.mu.Lock()
	w.h.mu.entries[head] = entry
	w.entries = append(w.entries, entry)
	w.h.mu.Unlock()

	lsn, err := w.l.Submit(e)
	if err != nil {
		return err
	}
	clear(body) // Submit copied it
	if e.Held {
		w.l.Commit()
	}
	w.h.mu.Lock()
	entry.lsn = lsn
	w.h.mu.Unlock()
	if w.rng.IntN(3) > 0 {
		return nil
	}
	if err := w.l.WaitDurable(context.Background(), lsn); err != nil {
		return err
	}
	w.h.mu.Lock()
	w.h.durable = max(w.h.durable, lsn+1)
	w.h.mu.Unlock()
	return nil
}

// write puts a body into the stream's own file, as a partition's log does.
func (w *historyWriter) write(body []byte) (err error) {
	if w.file == nil {
		if w.file, err = w.disk.Create(path.Join("data", w.name)); err != nil {
			return err
		}
	}
	if _, err = w.file.WriteAt(body, w.size); err == nil {
		w.size += int64(len(body))
	}
	return err
}

// Sync is the stream's wal.Reference.
func (w *historyWriter) Sync() error {
	if err := w.file.Sync(); err != nil {
		return err
	}
	return w.disk.SyncDir("data")
}
