package log

import (
	"context"
	"errors"
	"math"
	"syscall"
	"testing"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// TestCleanable: segments young in record time, above the high watermark, an open transaction's start or the durable
// checkpoint are not compacted, nor is what lies behind them, nor the one appended to.
func TestCleanable(t *testing.T) {
	l := openFresh(t, options(vfs.NewMem(0), Config{SegmentBytes: 300}))
	for i := range 50 { // a segment holds three of them or so, a second apart
		mustAppend(t, l, keyed(int64(1000*(i+1)), kv{"k", "some value that takes its room"}), 0)
	}
	all := cleanAll(l, 60_000).CleanLimits
	ask := func(change func(*CleanLimits)) Cleanable {
		t.Helper()
		limits := all
		change(&limits)
		c, err := l.Cleanable(&limits)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	whole := ask(func(*CleanLimits) {})
	if active := l.mu.segments[len(l.mu.segments)-1].base; whole.To != active || whole.Ratio() != 1 || whole.Overdue != 0 || whole.Waiting != 0 {
		t.Errorf("%+v, the last segment begins at %d", whole, active)
	}
	for _, tc := range []struct {
		name   string
		change func(*CleanLimits)
		below  kafka.Offset // To is in (below-4, below]
	}{
		{"high watermark", func(c *CleanLimits) { c.Committed = 20 }, 20},
		{"min lag", func(c *CleanLimits) { c.MinLag = 30_000 }, 30},
		{"checkpoint", func(c *CleanLimits) { c.Durable.EndOffset = 11 }, 10},
		{"another generation", func(c *CleanLimits) { c.Durable.Generation++ }, 0},
		{"no time", func(c *CleanLimits) { c.MinLag = 60_000 }, 0},
	} {
		c := ask(tc.change)
		if c.To > tc.below || c.To <= tc.below-4 && tc.below > 0 {
			t.Errorf("%s: compacted to %d, want %d", tc.name, c.To, tc.below)
		}
		if (c.Waiting > 0) != (tc.name == "checkpoint" || tc.name == "another generation") {
			t.Errorf("%s: %d bytes wait for a checkpoint", tc.name, c.Waiting)
		}
	}
	if c := ask(func(c *CleanLimits) { c.MaxLag = 40_000 }); c.Overdue != 60_000-40_000-1000 {
		t.Errorf("overdue by %d", c.Overdue)
	}
	if c := ask(func(c *CleanLimits) { c.MaxLag = 59_500 }); c.Overdue != 0 {
		t.Errorf("overdue by %d", c.Overdue)
	}
	// What was compacted is not dirty any more, and not overdue.
	mustClean(t, l, &CleanOptions{CleanLimits: all, MapBytes: 1 << 20, MapLoad: 0.9, IOBytes: 8192})
	for i := range 4 {
		mustAppend(t, l, keyed(int64(60_000+i), kv{"k", "some value that takes its room"}), 0)
	}
	all = cleanAll(l, 61_000).CleanLimits
	if c := ask(func(c *CleanLimits) { c.MaxLag = 11_500 }); c.From != whole.To || c.Overdue != 61_000-11_500-1000*int64(whole.To+1) || c.Ratio() <= 0.5 || c.Ratio() >= 1 {
		t.Errorf("%+v", c)
	}
	b := record.NewBuilder()
	b.ProducerID, b.ProducerEpoch, b.BaseSequence, b.Transactional = 1, 0, 0, true
	open := mustAppend(t, l, keyedBy(b, 62_000, kv{"k", "v"}), 0).BaseOffset
	for range 10 {
		mustAppend(t, l, keyed(63_000, kv{"k", "some value that takes its room"}), 0)
	}
	all = cleanAll(l, math.MaxInt64).CleanLimits
	if c := ask(func(*CleanLimits) {}); c.To > open {
		t.Errorf("compacted to %d, a transaction is open since %d", c.To, open)
	}
}

// TestCleanFails: where a file cannot be written nothing has changed and nothing is left over; where the files can no longer be
// moved the log takes nothing any more, is read as before, and is whole when it is opened again.
func TestCleanFails(t *testing.T) {
	mem := vfs.NewMem(0)
	fault := vfs.NewFault(mem, clock.System{})
	o := options(fault, Config{SegmentBytes: 600, IndexIntervalBytes: 100})
	l := openFresh(t, o)
	for range 60 {
		mustAppend(t, l, keyed(100, kv{"k", "v"}, kv{"l", "w"}), 0)
	}
	before, segments := fold(t, l), l.Segments()
	at, err := l.Sync()
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range []vfs.Rule{
		{Path: cleanedSuffix, Op: vfs.OpCreate, Err: syscall.ENOSPC},
		{Path: cleanedSuffix, Op: vfs.OpWrite, Err: syscall.ENOSPC},
		{Path: indexSuffix + cleanedSuffix, Op: vfs.OpWrite, Err: syscall.ENOSPC},
		{Path: swapName + tempSuffix, Op: vfs.OpWrite, Err: syscall.ENOSPC},
	} {
		remove := fault.Add(rule)
		if _, err := l.Clean(cleanAll(l, 5000)); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("%+v: %v", rule, err)
		}
		remove()
		if l.Segments() != segments || l.FirstDirty() != 0 || len(fold(t, l)) != len(before) {
			t.Errorf("%+v: %d segments, first dirty %d", rule, l.Segments(), l.FirstDirty())
		}
	}
	names, err := fault.ReadDir(o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == swapName || len(name) > 8 && name[len(name)-8:] == cleanedSuffix {
			t.Errorf("%s is left over", name)
		}
	}
	remove := fault.Add(vfs.Rule{Path: cleanedSuffix, Op: vfs.OpRename, Err: syscall.EIO})
	if _, err := l.Clean(cleanAll(l, 5000)); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	remove()
	if f := fold(t, l); len(f) != len(before) || f["k"] != before["k"] {
		t.Errorf("read through the open files: %v", f)
	}
	if _, err := l.Append(keyed(1, kv{"k", "v"}), 0, record.FromClient); !errors.Is(err, ErrFailed) {
		t.Error(err)
	}
	_ = l.Close()
	o.Checkpoint, o.ReadOnly = &at, true
	tool, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := tool.Verify(context.Background(), func(c *Corruption) { t.Errorf("verify: %v", c) }); err != nil {
		t.Error(err)
	}
	if f := fold(t, tool); len(f) != len(before) || f["k"] != before["k"] {
		t.Errorf("read by a tool: %v", f)
	}
	_ = tool.Close()
	if _, err := fault.Stat(l.swapPath()); err != nil {
		t.Errorf("a tool has changed something: %v", err)
	}
	o.ReadOnly = false
	l = openFresh(t, o)
	if f := fold(t, l); len(f) != len(before) || f["k"] != before["k"] || l.Segments() != 2 {
		t.Errorf("opened again: %v, %d segments", f, l.Segments())
	}
	noneLeftOver(t, fault, o.Dir)
	verifyClean(t, l)
}
