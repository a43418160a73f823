package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func values(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("value-%d-%s", i, strings.Repeat(string(rune('a'+i%26)), i*13%400))
	}
	return all
}

// produce sends the values to partition 0 and returns the offsets.
func produce(t *testing.T, ctx context.Context, c *kgo.Client, topic string, values []string) []int64 {
	t.Helper()
	records := make([]*kgo.Record, len(values))
	for i, v := range values {
		records[i] = &kgo.Record{Topic: topic, Value: []byte(v)}
	}
	var offsets []int64
	for _, r := range c.ProduceSync(ctx, records...) {
		if r.Err != nil {
			t.Fatalf("%s: %v", topic, r.Err)
		}
		offsets = append(offsets, r.Record.Offset)
	}
	return offsets
}

// poll reads want records.
func poll(t *testing.T, ctx context.Context, c *kgo.Client, want int) []string {
	t.Helper()
	var got []string
	for len(got) < want {
		fetches := c.PollFetches(ctx)
		fetches.EachError(func(topic string, p int32, err error) {
			t.Fatalf("%s/%d after %d records: %v", topic, p, len(got), err)
		})
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

func TestFranz(t *testing.T) {
	t.Parallel()
	addr, prefix := broker(t), prefix(t, "franz")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	admin := kadm.NewClient(client(t, addr))
	want := values(300)

	t.Run("create topic", func(t *testing.T) {
		if _, err := admin.CreateTopic(ctx, 3, 1, nil, prefix+"-basic"); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.CreateTopic(ctx, 3, 1, nil, prefix+"-basic"); !errors.Is(err, kerr.TopicAlreadyExists) {
			t.Errorf("again: %v", err)
		}
	})
	franzCodecs(t, ctx, addr, prefix, want)
	t.Run("idempotent producer", func(t *testing.T) {
		offsets := produce(t, ctx, client(t, addr, kgo.ProducerBatchMaxBytes(2000)), prefix+"-idempotent", want)
		for i, o := range offsets {
			if int64(i) != o {
				t.Fatalf("record %d has offset %d", i, o)
			}
		}
	})
	t.Run("consume in a group and resume", func(t *testing.T) {
		group := func() *kgo.Client {
			return client(t, addr, kgo.ConsumerGroup(prefix+"-group"), kgo.ConsumeTopics(prefix+"-idempotent"), kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		}
		c := group()
		if got := poll(t, ctx, c, len(want)); !slices.Equal(got, want) {
			t.Errorf("got %d values, or another order", len(got))
		}
		if err := c.CommitUncommittedOffsets(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.LeaveGroupContext(ctx); err != nil {
			t.Fatal(err)
		}
		c.Close()
		produce(t, ctx, client(t, addr), prefix+"-idempotent", []string{"after"})
		if got := poll(t, ctx, group(), 1); !slices.Equal(got, []string{"after"}) {
			t.Errorf("resumed with %q", got)
		}
	})
	franzSeekAndErrors(t, ctx, addr, prefix, admin, want)
}

func franzCodecs(t *testing.T, ctx context.Context, addr, prefix string, want []string) {
	compression := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string][]kgo.Opt{
		"0": {kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()}, "1": {kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()}, "all": {kgo.RequiredAcks(kgo.AllISRAcks())},
	}
	for _, codec := range codecs {
		topic := prefix + "-" + codec
		for _, level := range []string{"all", "1", "0"} { // the topic is made by the first, which waits for it
			t.Run("produce "+codec+" acks="+level, func(t *testing.T) {
				produce(t, ctx, client(t, addr, append(acks[level], kgo.ProducerBatchCompression(compression[codec]))...), topic, want)
			})
		}
		t.Run("consume "+codec+" by assignment", func(t *testing.T) {
			c := client(t, addr, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(0)}}))
			if got := poll(t, ctx, c, 3*len(want)); !slices.Equal(got, slices.Concat(want, want, want)) {
				t.Errorf("got %d values, or another order", len(got))
			}
		})
	}
	storedCodecs(t, addr, prefix, 3*len(want), codecs...)
}

func franzSeekAndErrors(t *testing.T, ctx context.Context, addr, prefix string, admin *kadm.Client, want []string) {
	t.Run("seek by offset and timestamp", func(t *testing.T) {
		topic := prefix + "-idempotent"
		c := client(t, addr, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(42)}}))
		if got := poll(t, ctx, c, 1); got[0] != want[42] {
			t.Errorf("offset 42 is %q", got[0])
		}
		listed, err := admin.ListOffsetsAfterMilli(ctx, 1, topic)
		if err != nil {
			t.Fatal(err)
		}
		if o, _ := listed.Lookup(topic, 0); o.Offset != 0 || o.Err != nil {
			t.Errorf("first offset since timestamp 1: %+v", o)
		}
		if _, err := admin.DeleteRecords(ctx, kadm.Offsets{topic: {0: {Topic: topic, Partition: 0, At: 10}}}); err != nil {
			t.Fatal(err)
		}
		if o, _ := must(admin.ListStartOffsets(ctx, topic))(t).Lookup(topic, 0); o.Offset != 10 {
			t.Errorf("start offset %+v after records up to 10 were deleted", o)
		}
	})
	t.Run("error on an unknown topic", func(t *testing.T) {
		c := must(kgo.NewClient(kgo.SeedBrokers(addr), kgo.UnknownTopicRetries(1)))(t) // one that creates no topics
		defer c.Close()
		res, err := kadm.NewClient(c).ListTopics(ctx, prefix+"-never-made")
		if err != nil {
			t.Fatal(err)
		}
		if err := res[prefix+"-never-made"].Err; !errors.Is(err, kerr.UnknownTopicOrPartition) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("error on an oversized record", func(t *testing.T) {
		c := client(t, addr, kgo.ProducerBatchMaxBytes(20<<20), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.BrokerMaxWriteBytes(64<<20))
		err := c.ProduceSync(ctx, &kgo.Record{Topic: prefix + "-basic", Value: make([]byte, 2<<20)}).FirstErr()
		if !errors.Is(err, kerr.MessageTooLarge) {
			t.Errorf("got %v", err)
		}
	})
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
