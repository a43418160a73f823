package powercut

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	topic      = "records"
	group      = "committers"
	partitions = 3
)

var hashSeed = maphash.MakeSeed()

// users produce records, commit offsets and create topics, and keep what was acknowledged.
type users struct {
	addr    string
	work    sync.WaitGroup
	stopped chan struct{}

	mu      sync.Mutex
	records [partitions][]uint64 // hash by offset, 0 where no ack came
	count   int64
	topics  []string
	commit  int64
	err     error // of the producer, other than that it was stopped
}

func newUsers(t *testing.T, ctx context.Context, addr string) *users {
	t.Helper()
	u := &users{addr: addr, stopped: make(chan struct{}), commit: -1}
	client, err := newClient(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopics(ctx, partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	u.work.Go(func() { u.note(u.produce(ctx)) })
	u.work.Go(func() { u.note(u.administrate(ctx)) })
	return u
}

func newClient(addr string, opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(addr), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
		kgo.MetadataMinAge(50 * time.Millisecond),
	}, opts...)...)
}

func (u *users) note(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err == nil {
		u.err = err
	}
}

func (u *users) ended(ctx context.Context) bool {
	select {
	case <-u.stopped:
		return true
	case <-ctx.Done():
		return true
	default:
		return false
	}
}

// produce sends numbered records, mostly small, sometimes so many at once that they go to the disk by reference.
func (u *users) produce(ctx context.Context) error {
	client, err := newClient(u.addr, kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(time.Millisecond), kgo.MaxBufferedRecords(20_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer client.Close()
	for i := uint64(0); !u.ended(ctx); i++ {
		size := 100
		switch {
		case i%5000 > 4000:
			size = 2000
		case i%40 == 0:
			time.Sleep(2 * time.Millisecond)
		}
		value := binary.BigEndian.AppendUint64(make([]byte, 0, size), i)
		for len(value) < size {
			value = binary.BigEndian.AppendUint64(value, i*0x9e3779b97f4a7c15+uint64(len(value)))
		}
		client.Produce(ctx, &kgo.Record{Value: value, Partition: int32(i % partitions)}, func(rec *kgo.Record, err error) {
			if err != nil {
				if ctx.Err() == nil {
					u.note(fmt.Errorf("produce: %w", err))
				}
				return
			}
			u.mu.Lock()
			defer u.mu.Unlock()
			list := &u.records[rec.Partition]
			for int64(len(*list)) <= rec.Offset {
				*list = append(*list, 0)
			}
			(*list)[rec.Offset] = hash(rec.Value)
			u.count++
		})
	}
	if ctx.Err() != nil {
		return nil
	}
	return client.Flush(ctx)
}

// administrate commits offsets and creates topics, one after the other; what fails is tried again.
func (u *users) administrate(ctx context.Context) error {
	client, err := newClient(u.addr)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for i := int64(0); !u.ended(ctx); i++ {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, i, -1)
		if responses, err := admin.CommitOffsets(attempt, group, offsets); err == nil && responses.Error() == nil {
			u.mu.Lock()
			u.commit = i
			u.mu.Unlock()
		}
		if i%20 == 0 {
			name := fmt.Sprintf("topic-%d", i)
			if response, err := admin.CreateTopic(attempt, 2, 1, nil, name); err == nil && response.Err == nil {
				u.mu.Lock()
				u.topics = append(u.topics, name)
				u.mu.Unlock()
			}
		}
		cancel()
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

func hash(b []byte) uint64 { return maphash.Bytes(hashSeed, b) | 1 }

func (u *users) acked() int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.count
}

func (u *users) summary() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return fmt.Sprintf("%d records, %d topics, commit %d", u.count, len(u.topics), u.commit)
}

func (u *users) stop() error {
	close(u.stopped)
	u.work.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// verify reads everything back: what was acknowledged before the call must be there.
func (u *users) verify(ctx context.Context) error {
	u.mu.Lock()
	topics, commit := append([]string(nil), u.topics...), u.commit
	var records [partitions][]uint64
	for p := range records {
		records[p] = append([]uint64(nil), u.records[p]...)
	}
	err := u.err
	u.mu.Unlock()
	if err != nil {
		return err
	}
	if err := u.verifyRecords(ctx, records); err != nil {
		return err
	}
	client, err := newClient(u.addr)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	details, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	for _, name := range topics {
		if !details.Has(name) {
			return lost("topic %s", name)
		}
	}
	offsets, err := admin.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	if at, ok := offsets.Lookup(topic, 0); commit >= 0 && (!ok || at.At < commit) {
		return lost("the group's offset %d; it is %v", commit, at.At)
	}
	return nil
}

func (u *users) verifyRecords(ctx context.Context, records [partitions][]uint64) error {
	client, err := newClient(u.addr, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(8<<20))
	if err != nil {
		return err
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	for p := range records {
		end, _ := ends.Lookup(topic, int32(p))
		if n := int64(len(records[p])); end.Offset < n {
			return lost("partition %d up to offset %d; it ends at %d", p, n, end.Offset)
		}
	}
	var next, numbers [partitions]int64
	for p := range numbers {
		numbers[p] = -1
	}
	complete := func() bool {
		for p := range records {
			if next[p] < int64(len(records[p])) {
				return false
			}
		}
		return true
	}
	var bad error
	for !complete() && bad == nil {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			p := rec.Partition
			number := int64(binary.BigEndian.Uint64(rec.Value))
			switch {
			case bad != nil:
			case rec.Offset != next[p]:
				bad = lost("partition %d: offset %d follows %d", p, rec.Offset, next[p]-1)
			case number <= numbers[p]:
				bad = fmt.Errorf("partition %d offset %d: record %d follows record %d", p, rec.Offset, number, numbers[p])
			case rec.Offset < int64(len(records[p])) && records[p][rec.Offset] != 0 && records[p][rec.Offset] != hash(rec.Value):
				bad = lost("partition %d offset %d holds other bytes", p, rec.Offset)
			}
			next[p], numbers[p] = rec.Offset+1, number
		})
	}
	return bad
}
