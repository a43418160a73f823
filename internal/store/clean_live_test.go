package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/vfs"
)

// What clients change of compaction while the broker runs counts at once: an hour's rest ends, and so does a rate at which
// the log would take a day.
func TestCompactionTakesChangesAtRunTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := *config.Default()
		var live *config.Live
		s := openStore(t, vfs.NewMem(0), func(o *Options) {
			compacted(o)
			o.NoBackground = false
			o.Clock = clock.System{}
			o.Config.CleanerBackoff, o.Config.CleanerBytesPerSecond = time.Hour, 1
			o.Config.ScrubBytesPerSecond = 0
			cfg = *o.Config
			live = config.NewLive(o.Config)
			o.Live = live
		})
		change := func(at int64, edit func(c *config.Config)) {
			edit(&cfg)
			changed := cfg
			live.Advance(at, &changed)
		}
		p := create(t, s, 1)
		for i := range 2000 {
			put(t, p, fmt.Sprint("k", i%20), fmt.Sprint("v", i))
		}
		synctest.Wait()
		p.SetHighWatermark(p.LogEnd())
		time.Sleep(time.Minute)
		if c := s.Stats().Cleaner; c.Running != 0 || c.Runs != 0 {
			t.Fatalf("it did not rest: %+v", c)
		}
		change(1, func(c *config.Config) { c.CleanerBackoff = time.Second })
		time.Sleep(cleanLook + time.Second)
		if c := s.Stats().Cleaner; c.Running != 1 {
			t.Fatalf("it rests on: %+v", c)
		}
		change(2, func(c *config.Config) { c.CleanerBytesPerSecond = 1 << 40 })
		begun := time.Now()
		for s.Stats().Cleaner.Runs == 0 && time.Since(begun) < time.Minute {
			time.Sleep(time.Second)
		}
		if s.Stats().Cleaner.Runs == 0 {
			t.Errorf("it goes on at the old rate: %v", time.Since(begun))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
