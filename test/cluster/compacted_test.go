package cluster

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/record"
)

// table is what a producer of keyed records knows to be the last value of each key.
type table struct {
	mu   sync.Mutex
	last map[string]*kgo.Record // acknowledged; a record without a value deletes
	sent int
	err  error
}

func (k *table) produce(ctx context.Context, c *kgo.Client, topic string) {
	rng := rand.New(rand.NewPCG(1, 2))
	for ctx.Err() == nil {
		// Keys come and go, so that some are never written again.
		r := &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key %d", rng.IntN(20)+k.sent/500)}
		if k.sent++; rng.IntN(5) > 0 {
			r.Value = fmt.Appendf(nil, "value %d %0*d", k.sent, 4000+rng.IntN(8000), 0)
		}
		c.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			if err != nil {
				k.err = err
			} else if have := k.last[string(r.Key)]; have == nil || have.Offset < r.Offset {
				k.last[string(r.Key)] = r
			}
		})
		if k.sent%50 == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// values are the keys that have one.
func values(last map[string]*kgo.Record) map[string]string {
	m := map[string]string{}
	for key, r := range last {
		if r.Value != nil {
			m[key] = fmt.Sprintf("%d %.20s", r.Offset, r.Value)
		}
	}
	return m
}

// A compacted topic is written to while nodes are killed and all of them compact all the time: who reads it finds the last
// value of each key, at the offset that was acknowledged, and all replicas mean the same.
func TestCompactedTopic(t *testing.T) {
	c := started(t, "log.cleaner.backoff.ms=100", "checkpoint.bytes=1048576")
	admin := kadm.NewClient(client(t, c.Bootstrap()))
	set := func(v string) *string { return &v }
	res, err := admin.CreateTopic(within(t, time.Minute), 1, 3, map[string]*string{
		"cleanup.policy": set("compact"), "segment.bytes": set("1048576"), "min.cleanable.dirty.ratio": set("0.01"), "delete.retention.ms": set("500"),
		"max.compaction.lag.ms": set("1000"),
	}, "table")
	if err != nil || res.Err != nil {
		t.Fatal(err, res.Err)
	}
	writes := &table{last: map[string]*kgo.Record{}}
	writer := client(t, c.Bootstrap(), kgo.UnknownTopicRetries(-1))
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { writes.produce(ctx, writer, "table") })
	time.Sleep(2 * time.Second)
	for i := range 4 {
		m := c.Member(i%3 + 1)
		m.Kill()
		time.Sleep(time.Duration(i) * time.Second) // longer and longer: deletions are gone when it comes back
		m.Start()
		inSync(t, c, "table")
	}
	time.Sleep(time.Second)
	stop()
	done.Wait()
	if err := writer.Flush(within(t, time.Minute)); err != nil || writes.err != nil {
		t.Fatal(err, writes.err)
	}
	inSync(t, c, "table")
	time.Sleep(2 * time.Second) // of compaction
	want := values(writes.last)
	got := map[string]*kgo.Record{}
	records := consumeAll(t, c.Bootstrap(), "table")
	for _, r := range records {
		got[string(r.Key)] = r
	}
	if have := values(got); !maps.Equal(have, want) {
		t.Errorf("read: %v\nacknowledged: %v", have, want)
	}
	t.Logf("%d records were written, %d are left to read, %d keys have a value", writes.sent, len(records), len(want))
	if len(records) > writes.sent/2 {
		t.Error("that is not compacted")
	}
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.Members {
		if out, err := exec.Command(m.Bin, "log", "verify", m.Dir).CombinedOutput(); err != nil {
			t.Errorf("log verify of node %d: %v\n%s", m.ID, err, out)
		}
		out, err := exec.Command(m.Bin, "log", "dump", m.Dir).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "gap: nothing is left of offsets ") {
			t.Errorf("log dump of node %d: %v, %d bytes", m.ID, err, len(out))
		}
		folded := map[string]*kgo.Record{}
		var codecs record.Codecs
		for data := stored(t, m, "table")[0]; len(data) > 0; {
			b, rest, err := record.Next(data)
			if err != nil {
				t.Fatal(err)
			}
			for r, err := range codecs.Records(b, 0) {
				if err != nil {
					t.Fatal(err)
				}
				folded[string(r.Key)] = &kgo.Record{Offset: int64(r.Offset), Value: append([]byte(nil), r.Value...)}
				if r.Value == nil {
					folded[string(r.Key)].Value = nil
				}
			}
			data = rest
		}
		if have := values(folded); !maps.Equal(have, want) {
			t.Errorf("node %d has %v\nacknowledged: %v", m.ID, have, want)
		}
	}
}

// consumeAll reads a partition from its start to where it ends now.
func consumeAll(t *testing.T, addrs []string, topic string) (all []*kgo.Record) {
	t.Helper()
	c := client(t, addrs, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	ctx := within(t, time.Minute)
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	for next := int64(0); next < end.Offset; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset < next {
				t.Errorf("offset %d comes after %d", r.Offset, next-1)
			}
			next = r.Offset + 1
			all = append(all, r)
		})
	}
	return all
}
