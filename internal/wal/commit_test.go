package wal

import (
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/vfs"
)

// What is held waits for Commit, which brings it to the disk on the caller's goroutine: nothing else runs meanwhile.
func TestCommitOnTheCallersGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, vfs.NewMem(1<<30), nil)
		var heard int64
		s := Stream{OnDurable: func(end int64) { heard = end }}
		for i := range int64(3) {
			lsn, err := l.Submit(&Entry{Head: []byte("held"), Stream: &s, End: i + 1, Held: true})
			if err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if l.Durable() > lsn || heard > i {
				t.Fatal("it was synced before anybody asked")
			}
			l.Commit()
			if l.Durable() <= lsn || heard != i+1 {
				t.Fatalf("after Commit %d is durable of %d, and %d was told", l.Durable(), lsn, heard)
			}
		}
		if st := l.Stats(); st.Groups != 3 {
			t.Errorf("%d groups", st.Groups)
		}
		l.Commit() // there is nothing
		if st := l.Stats(); st.Groups != 3 {
			t.Errorf("an empty group was written")
		}
		// Lazy entries are not what is committed: they go with the next that are, or after their delay.
		lazy, err := l.Submit(&Entry{Head: []byte("lazy"), Lazy: true, Held: true})
		if err != nil {
			t.Fatal(err)
		}
		if l.Commit(); l.Durable() > lazy {
			t.Error("Commit synced what is lazy")
		}
		if _, err := l.Submit(&Entry{Head: []byte("held"), Held: true}); err != nil {
			t.Fatal(err)
		}
		if l.Commit(); l.Durable() != lazy+2 {
			t.Errorf("%d is durable, the last is %d", l.Durable(), lazy+1)
		}
		// What nobody commits is written when the log is closed.
		lsn, err := l.Submit(&Entry{Head: []byte("held"), Stream: &s, End: 4, Held: true})
		if err != nil || l.Durable() > lsn {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil || heard != 4 {
			t.Errorf("closed with %d, %v", heard, err)
		}
	})
}

// slowSync takes a second for each sync of a log file once it is asked to.
type slowSync struct {
	vfs.FS
	delay *time.Duration
}

type slowFile struct {
	vfs.File
	delay *time.Duration
}

func (f slowSync) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return slowFile{file, f.delay}, err
}

func (f slowFile) Datasync() error {
	time.Sleep(*f.delay)
	return f.File.Datasync()
}

// While a group is being synced Commit waits for nothing: the next group takes what it wanted, after the first.
func TestCommitBesideASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delay time.Duration
		l := open(t, slowSync{vfs.NewMem(1 << 30), &delay}, nil)
		submit := func(held bool) LSN {
			lsn, err := l.Submit(&Entry{Head: []byte("x"), Held: held})
			if err != nil {
				t.Fatal(err)
			}
			return lsn
		}
		if err := l.WaitDurable(t.Context(), submit(false)); err != nil { // makes the file
			t.Fatal(err)
		}
		delay = time.Second
		for _, first := range []string{"the writer syncs", "a committer syncs"} {
			began := time.Now()
			if first == "the writer syncs" {
				submit(false)
			} else {
				submit(true)
				go l.Commit()
			}
			synctest.Wait()
			last := submit(true)
			l.Commit()
			if time.Since(began) > 0 {
				t.Errorf("%s: Commit waited for %v", first, time.Since(began))
			}
			if err := l.WaitDurable(t.Context(), last); err != nil || time.Since(began) != 2*time.Second {
				t.Errorf("%s: durable after %v: %v", first, time.Since(began), err)
			}
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
}
