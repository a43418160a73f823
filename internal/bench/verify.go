package bench

import (
	"context"
	"fmt"

	"chronik/internal/record"
)

// verify reads every partition from where the workload began and compares: offsets without a gap, every batch sound,
// and of each batch that a connection sent at least as many as were acknowledged, or exactly as many where no request
// failed. Compaction takes records away, but never an offset: of a compacted topic the offsets are counted, and what is left
// has to be sound and in order.
func verify(ctx context.Context, o *Options, t *target, r *Report, acked []ack) error {
	ends, err := t.ends(ctx)
	if err != nil {
		return err
	}
	stored := map[uint32]int64{}
	var records, bytes int64
	for p := range t.leaders {
		n, size, err := scan(ctx, t, int32(p), t.start[p], ends[p], stored)
		if err != nil {
			return err
		}
		if t.compact {
			n = ends[p] - t.start[p]
		}
		records, bytes = records+n, bytes+size
	}
	want := int64(0)
	for _, a := range acked {
		want += a.records
		if o.Driver != DriverRaw || t.compact || o.TopicConfig["message.timestamp.type"] == "LogAppendTime" {
			continue // the client builds its own batches: records are counted
		}
		if got := stored[a.crc]; got < a.batches || r.Errors == 0 && got != a.batches {
			return fmt.Errorf("bench: %s/%d holds %d of the %d batches that it acknowledged to one connection", t.name, a.partition, got, a.batches)
		}
	}
	if records < want || r.Errors == 0 && records != want {
		return fmt.Errorf("bench: %s holds %d records, %d were acknowledged", t.name, records, want)
	}
	r.Verified = fmt.Sprintf("%d acknowledged records, each once, %d MB", want, bytes/1e6)
	if t.compact {
		r.Verified = fmt.Sprintf("%d acknowledged records, each an offset; compaction left %d MB, in order", want, bytes/1e6)
	}
	return nil
}

// emptyFetches is how many fetches in a row that bring nothing say that compaction left nothing up to the end.
const emptyFetches = 5

// scan reads a partition and counts its batches by CRC.
func scan(ctx context.Context, t *target, p int32, from, end int64, stored map[uint32]int64) (records, bytes int64, err error) {
	r, err := openReader(ctx, t, p, 4<<20, from)
	if err != nil {
		return 0, 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = r.conn.Close() })
	defer stop()
	defer func() { _ = r.conn.Close() }()
	expect := from
	visit := func(b record.Batch) error {
		if err := follows(b, expect, t.compact); err != nil {
			return err
		}
		stored[b.CRC()]++
		records += int64(b.Count())
		bytes += int64(len(b))
		expect = int64(b.LastOffset()) + 1
		return nil
	}
	for empty := 0; r.next < end && empty < emptyFetches; empty++ {
		n, err := r.fetch(visit)
		if err != nil {
			return 0, 0, fmt.Errorf("bench: read %s/%d back at offset %d: %w", t.name, p, r.next, err)
		}
		if n > 0 || !t.compact {
			empty = -1
		}
	}
	return records, bytes, nil
}

// follows checks that a batch is sound and the next one; behind a gap only where compaction may have made one.
func follows(b record.Batch, expect int64, gaps bool) error {
	if base := int64(b.BaseOffset()); base != expect && (!gaps || base < expect) {
		return fmt.Errorf("offset %d follows %d", base, expect)
	}
	if !b.VerifyCRC() {
		return fmt.Errorf("the batch at offset %d fails its CRC", b.BaseOffset())
	}
	return nil
}
