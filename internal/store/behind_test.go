package store

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// forgetful counts what the kernel is asked to forget of segment files.
type forgetful struct {
	*vfs.Mem
	dropped atomic.Int64
}

type forgetfulFile struct {
	vfs.File
	fs *forgetful
}

func (s *forgetful) Create(name string) (vfs.File, error) {
	f, err := s.Mem.Create(name)
	if err != nil || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return forgetfulFile{f, s}, nil
}

func (f forgetfulFile) DropCache(offset, length int64) error {
	f.fs.dropped.Add(1)
	return f.File.DropCache(offset, length)
}

// A replica that follows leaves the page cache behind it; one that leads, that is read, or that is compacted does not.
func TestFollowerLeavesThePageCache(t *testing.T) {
	for _, c := range []struct {
		name                         string
		leads, read, compact, bounds bool
		want                         bool
	}{
		{name: "follows", bounds: true, want: true},
		{name: "follows, without a bound"},
		{name: "leads", bounds: true, leads: true},
		{name: "is read", bounds: true, read: true},
		{name: "is compacted", bounds: true, compact: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fs := &forgetful{Mem: vfs.NewMem(0)}
				s := openStore(t, fs, func(o *Options) {
					o.Config.FollowerCacheBytes = -1
					if c.bounds {
						o.Config.FollowerCacheBytes = 8 << 10
					}
				})
				defer s.Close()
				p := create(t, s, 1)
				topic := s.o.Config.Topic
				topic.CleanupPolicy.Compact = c.compact
				s.Reconfigure(id(1), topic)
				if c.leads {
					if err := p.StartEpoch(background, 1); err != nil {
						t.Fatal(err)
					}
				} else {
					p.Follow(1)
				}
				for i := range 40 {
					if c.leads {
						produce(t, p, 1, 1<<10, "value")
					} else {
						b := record.Batch(batch(1<<10, "value"))
						b.SetBaseOffset(kafka.Offset(i))
						b.SetLeaderEpoch(1)
						if _, err := p.AppendReplicated(b, false); err != nil {
							t.Fatal(err)
						}
					}
					if c.read {
						slice, err := p.Read(kafka.Offset(i), 1, kafka.Offset(i+1), true)
						if err != nil {
							t.Fatal(err)
						}
						slice.Release()
					}
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				if got := fs.dropped.Load() > 0; got != c.want {
					t.Errorf("asked %d times to forget cached pages", fs.dropped.Load())
				}
				if got := len(content(t, p)); got != 40 {
					t.Errorf("%d values are read back", got)
				}
			})
		})
	}
}
