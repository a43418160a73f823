package wal

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"chronik/internal/vfs"
)

// reference counts its syncs and can be held up.
type reference struct {
	gate  chan struct{}
	syncs atomic.Int32
}

func (r *reference) Sync() error {
	<-r.gate
	r.syncs.Add(1)
	return nil
}

func TestReferences(t *testing.T) {
	fs := vfs.NewMem(0)
	l := open(t, fs, func(o *Options) { o.ReferenceBytes = 1000 })
	ref := &reference{gate: make(chan struct{})}
	bulk, small := make(chan int64, 10), make(chan int64, 10)
	bulky := &Stream{OnDurable: func(end int64) { bulk <- end }}
	other := &Stream{OnDurable: func(end int64) { small <- end }}
	submit := func(s *Stream, end int64, n int) LSN {
		t.Helper()
		lsn, err := l.Submit(&Entry{Head: []byte("head"), Body: make([]byte, n), Reference: ref, Stream: s, End: end})
		if err != nil {
			t.Fatal(err)
		}
		return lsn
	}
	submit(bulky, 1, 5000)
	submit(other, 1, 10)
	if got := <-small; got != 1 {
		t.Fatal(got)
	}
	// Behind the reference nothing of the stream is durable, others go on.
	last := submit(bulky, 2, 10)
	submit(other, 2, 10)
	if got := <-small; got != 2 {
		t.Fatal(got)
	}
	select {
	case end := <-bulk:
		t.Fatalf("end %d is durable before its reference", end)
	default:
	}
	if l.Durable() > 1 {
		t.Fatalf("durable up to %d before the reference", l.Durable())
	}
	close(ref.gate)
	if err := l.WaitDurable(context.Background(), last); err != nil {
		t.Fatal(err)
	}
	for end := int64(0); end < 2; {
		end = <-bulk
	}
	if ref.syncs.Load() == 0 {
		t.Fatal("the reference was not synced")
	}
	until := l.Next()
	if _, err := l.Append(context.Background(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	l.Close()

	l = open(t, fs, nil)
	defer l.Close()
	var kinds string
	var known LSN
	l.Replay(1, func(r Record) error {
		if r.ByReference {
			kinds += "r"
			if string(r.Data) != "head" {
				t.Errorf("record by reference holds %q", r.Data)
			}
		} else {
			kinds += "i"
		}
		known = r.ReferencesUntil
		return nil
	})
	if kinds != "riiii" {
		t.Errorf("records are %s", kinds)
	}
	if known != until {
		t.Errorf("references are known as synced until %d, want %d", known, until)
	}
}

// Groups that come while a file is synced share its next sync: one covers all that was written before it.
func TestReferencesShareSyncs(t *testing.T) {
	l := open(t, vfs.NewMem(0), func(o *Options) { o.ReferenceBytes = 1000 })
	defer l.Close()
	ref, other := &reference{gate: make(chan struct{})}, &reference{gate: make(chan struct{})}
	var ends []int64
	s, o := &Stream{OnDurable: func(end int64) { ends = append(ends, end) }}, &Stream{OnDurable: func(int64) {}}
	var last LSN
	for i := range int64(5) {
		e := Entry{Head: []byte("head"), Body: make([]byte, 5000), Reference: ref, Stream: s, End: i + 1}
		if i == 3 {
			e.Reference, e.Stream = other, o
		}
		var err error
		if last, err = l.Submit(&e); err != nil {
			t.Fatal(err)
		}
		for l.Stats().Groups <= i { // a group for each
			time.Sleep(time.Millisecond)
		}
	}
	close(other.gate)
	close(ref.gate)
	if err := l.WaitDurable(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if n, m := ref.syncs.Load(), other.syncs.Load(); n < 1 || n > 2 || m != 1 {
		t.Errorf("%d and %d syncs for five groups, of which four came during the first; want 2 and 1", n, m)
	}
	if !slices.Equal(ends, []int64{1, 2, 3, 5}) {
		t.Errorf("told of ends %v", ends)
	}
}

// Once a stream's share of a group reaches the limit, its later records of that group go by reference as well.
func TestReferencesCountPerGroup(t *testing.T) {
	fs := vfs.NewMem(0)
	l := open(t, fs, func(o *Options) { o.ReferenceBytes = 1000; o.LazyDelay = time.Hour })
	ref := &reference{gate: make(chan struct{})}
	close(ref.gate)
	s := &Stream{OnDurable: func(int64) {}}
	var last LSN
	for i := range 4 {
		last, _ = l.Submit(&Entry{Head: []byte("h"), Body: make([]byte, 400), Reference: ref, Stream: s, End: int64(i), Lazy: true})
	}
	l.WaitDurable(context.Background(), last)
	last, _ = l.Submit(&Entry{Head: []byte("h"), Body: make([]byte, 400), Reference: ref, Stream: s, End: 9})
	l.WaitDurable(context.Background(), last)
	l.Close()
	l = open(t, fs, nil)
	defer l.Close()
	var kinds []bool
	l.Replay(1, func(r Record) error { kinds = append(kinds, r.ByReference); return nil })
	if fmt.Sprint(kinds) != "[false false true true false]" {
		t.Error(kinds)
	}
}
