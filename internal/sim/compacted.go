package sim

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// compactedTopic is one whose records have keys, some of them deletions.
const compactedTopic = "kv"

// deleteRetention is for how long a deletion can be read there, at least.
const deleteRetention = 4 * time.Second

// compacted is what happened to the compacted topic.
type compacted struct {
	mu    sync.Mutex
	ops   []*keyedOp
	scans []*scan
}

// keyedOp sets a key, or deletes it.
type keyedOp struct {
	key     string
	value   string // "" deletes
	offset  int64
	unknown bool // there was no acknowledgement: it may be there or not
}

// scan is what a reader made of the topic that read it from its first offset on, up to an end.
type scan struct {
	name string
	end  int64
	took time.Duration
	last map[string]string
}

func (w *workload) createCompacted() bool {
	client, err := w.client()
	if err != nil {
		w.fail("create topic %s: %v", compactedTopic, err)
		return false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	value := func(s string) *string { return &s }
	resp, err := kadm.NewClient(client).CreateTopic(ctx, 1, 3, map[string]*string{
		"cleanup.policy": value("compact"), "min.compaction.lag.ms": value("0"), "max.compaction.lag.ms": value("1000"),
		"delete.retention.ms": value(strconv.FormatInt(deleteRetention.Milliseconds(), 10)),
	}, compactedTopic)
	if err == nil {
		err = resp.Err
	}
	if err != nil {
		w.fail("create topic %s: %v", compactedTopic, err)
	}
	return err == nil
}

const compactedKeys = 8

// setKeys sets and deletes keys, one after the other.
func (w *workload) setKeys(_ int, rng *rand.Rand) {
	client, err := w.producerClient()
	if err != nil {
		w.fail("who sets keys: %v", err)
		return
	}
	defer client.Close()
	for i := 0; w.ctx.Err() == nil; i++ {
		op := &keyedOp{key: fmt.Sprintf("key-%d", rng.IntN(compactedKeys)), unknown: true}
		r := &kgo.Record{Topic: compactedTopic, Key: []byte(op.key)}
		if rng.IntN(3) > 0 {
			op.value = fmt.Sprintf("value-%d", i)
			r.Value = []byte(op.value)
		}
		w.kv.mu.Lock()
		w.kv.ops = append(w.kv.ops, op)
		w.kv.mu.Unlock()
		if sent, err := client.ProduceSync(context.Background(), r).First(); err == nil {
			w.kv.mu.Lock()
			op.unknown, op.offset = false, sent.Offset
			w.kv.mu.Unlock()
		}
		w.sleep(between(rng, 5*time.Millisecond, 60*time.Millisecond))
	}
}

// scanSlowly reads the topic from its first offset on, again and again, a little at a time, while it is compacted below.
func (w *workload) scanSlowly(_ int, rng *rand.Rand) {
	for i := 0; w.ctx.Err() == nil; i++ {
		if s := w.scan(w.ctx, fmt.Sprintf("scan %d", i), 5+rng.IntN(40), between(rng, time.Millisecond, 100*time.Millisecond)); s != nil {
			w.kv.mu.Lock()
			w.kv.scans = append(w.kv.scans, s)
			w.kv.mu.Unlock()
		}
		w.sleep(between(rng, 10*time.Millisecond, 500*time.Millisecond))
	}
}

// scan reads up to the end, some records at a time; nil if ctx ended before.
func (w *workload) scan(ctx context.Context, name string, step int, rest time.Duration) *scan {
	s := &scan{name: name, last: map[string]string{}}
	p := partition{compactedTopic, 0}
	r := &reader{workload: w, name: name, next: map[partition]int64{}, compacted: true}
	r.seen = func(_ partition, record *kgo.Record) {
		if record.Value == nil {
			delete(s.last, string(record.Key))
		} else {
			s.last[string(record.Key)] = string(record.Value)
		}
	}
	var err error
	r.client, err = w.clientOn(w.net.Host(memberIP(membersMax)).Boot(), name, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{compactedTopic: {0: kgo.NewOffset().At(0)}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500*time.Millisecond), kgo.KeepRetryableFetchErrors(), kgo.FetchMaxPartitionBytes(512))
	if err != nil {
		w.fail("%s: %v", name, err)
		return nil
	}
	defer r.client.Close()
	began := time.Now()
	for ctx.Err() == nil && time.Since(began) < time.Minute {
		poll, cancel := context.WithTimeout(ctx, time.Second)
		fetches := r.client.PollRecords(poll, step)
		cancel()
		r.take(fetches)
		end := int64(-1)
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			if f.Err == nil {
				end = max(end, f.HighWatermark)
			}
		})
		if end >= 0 && r.next[p] >= end {
			s.end, s.took = r.next[p], time.Since(began)
			return s
		}
		time.Sleep(rest)
	}
	return nil
}

// checkCompacted judges the scans, and one more: who reads from the first offset to an end within delete.retention.ms finds
// each key as the last record below that end has it, be it set or deleted (18).
func (w *workload) checkCompacted() {
	last := w.scan(context.Background(), "the last scan", 1000, 0)
	if last == nil {
		w.fail("invariant 23: %s cannot be read to its end", compactedTopic)
		return
	}
	judged := 0
	for _, s := range append(w.kv.scans, last) {
		if s.took < deleteRetention {
			judged++
			w.judge(s)
		}
	}
	w.trace.note("%d of %d scans of %s were judged", judged, len(w.kv.scans)+1, compactedTopic)
}

func (w *workload) judge(s *scan) {
	expected, unsure := map[string]*keyedOp{}, map[string]bool{}
	for _, op := range w.kv.ops {
		switch before := expected[op.key]; {
		case op.unknown:
			unsure[op.key] = true
		case op.offset < s.end && (before == nil || before.offset < op.offset):
			expected[op.key] = op
		}
	}
	for _, key := range slices.Sorted(maps.Keys(expected)) {
		if op := expected[key]; !unsure[key] && s.last[key] != op.value {
			w.fail("invariant 18: %s of %s, up to offset %d within %v, finds %s=%q; the last record, at offset %d, made it %q", s.name, compactedTopic, s.end, s.took, key, s.last[key], op.offset, op.value)
		}
	}
}
