package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"chronik/test/clients/go/steps"
)

const records = 300

var (
	bootstrap, prefix = os.Args[1], os.Args[2]
	client            = &kafka.Client{Addr: kafka.TCP(bootstrap), Timeout: 20 * time.Second}
	ctx               = context.Background()
	codecs            = map[string]kafka.Compression{"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	acks              = []kafka.RequiredAcks{kafka.RequireNone, kafka.RequireOne, kafka.RequireAll}
)

func main() {
	ended, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	ctx = ended
	for _, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		for _, a := range acks {
			steps.Run(fmt.Sprintf("produce %s acks=%d", name, a), func() error { return produce(name, a) })
		}
		steps.Run("consume "+name+" by assignment", func() error { return consume(name) })
	}
	steps.Run("a connection writes and reads", connection)
	steps.Run("seek by offset and timestamp", seek)
	steps.Run("consume in a group and resume", resume)
	steps.Run("two members share a group", pair)
	steps.Run("errors", refusals)
	steps.Run("administer", administer)
	steps.Done()
}

func topic(name string) string { return prefix + "-" + name }

func create(name string, partitions int) error {
	made, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: partitions, ReplicationFactor: 1}}})
	if err != nil {
		return err
	}
	return made.Errors[name]
}

func messages(values [][]byte, headers ...kafka.Header) []kafka.Message {
	all := make([]kafka.Message, len(values))
	for i, v := range values {
		all[i] = kafka.Message{Key: fmt.Append(nil, i), Value: v, Headers: headers}
	}
	return all
}

func writer(name string) *kafka.Writer {
	return &kafka.Writer{Addr: kafka.TCP(bootstrap), Topic: name, RequiredAcks: kafka.RequireAll, BatchTimeout: 5 * time.Millisecond, AllowAutoTopicCreation: true}
}

func produce(name string, acks kafka.RequiredAcks) error {
	w := writer(topic(name))
	w.RequiredAcks, w.Compression = acks, codecs[name]
	if err := w.WriteMessages(ctx, messages(steps.Values(records), kafka.Header{Key: "acks", Value: fmt.Append(nil, int(acks))})...); err != nil {
		return err
	}
	return w.Close()
}

func reader(name string, partition int) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{Brokers: []string{bootstrap}, Topic: name, Partition: partition, MinBytes: 1, MaxBytes: 10 << 20, MaxWait: 100 * time.Millisecond})
}

func read(r *kafka.Reader, n int) ([][]byte, error) {
	late, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var got [][]byte
	for len(got) < n {
		m, err := r.ReadMessage(late)
		if err != nil {
			return got, fmt.Errorf("after %d of %d records: %w", len(got), n, err)
		}
		got = append(got, m.Value)
	}
	return got, nil
}

func consume(name string) error {
	r := reader(topic(name), 0)
	defer func() { _ = r.Close() }()
	by := map[string][][]byte{}
	for i := range len(acks) * records {
		m, err := r.ReadMessage(ctx)
		if err != nil {
			return err
		}
		if m.Offset != int64(i) {
			return fmt.Errorf("offset %d, want %d", m.Offset, i)
		}
		by[string(m.Headers[0].Value)] = append(by[string(m.Headers[0].Value)], m.Value)
	}
	for _, a := range acks {
		if err := steps.Same(by[fmt.Sprint(int(a))], steps.Values(records)); err != nil {
			return fmt.Errorf("acks %d: %w", a, err)
		}
	}
	return nil
}

func connection() error {
	if err := create(topic("connection"), 1); err != nil {
		return err
	}
	conn, err := kafka.DialLeader(ctx, "tcp", bootstrap, topic("connection"), 0)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	for _, codec := range []kafka.Compression{kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		if _, err := conn.WriteCompressedMessages(codec.Codec(), messages(steps.Values(10))...); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
	}
	if first, last, err := conn.ReadOffsets(); err != nil || first != 0 || last != 40 {
		return fmt.Errorf("offsets %d to %d, %v", first, last, err)
	}
	if _, err := conn.Seek(5, kafka.SeekAbsolute); err != nil {
		return err
	}
	var got [][]byte
	for len(got) < 35 {
		batch := conn.ReadBatch(1, 1<<20)
		for {
			m, err := batch.ReadMessage()
			if err != nil {
				break
			}
			got = append(got, m.Value)
		}
		if err := batch.Close(); err != nil {
			return fmt.Errorf("after %d records: %w", len(got), err)
		}
	}
	values := steps.Values(10)
	want := append([][]byte(nil), values[5:]...)
	for range 3 {
		want = append(want, values...)
	}
	return steps.Same(got, want)
}

func seek() error {
	if err := create(topic("times"), 1); err != nil {
		return err
	}
	base := time.Now().Add(-100 * time.Second).Truncate(time.Millisecond)
	all := messages(steps.Values(100))
	for i := range all {
		all[i].Time = base.Add(time.Duration(i) * 10 * time.Millisecond)
	}
	w := writer(topic("times"))
	if err := w.WriteMessages(ctx, all...); err != nil {
		return err
	}
	_ = w.Close()
	r := reader(topic("times"), 0)
	defer func() { _ = r.Close() }()
	at := func(want int64) error {
		m, err := r.ReadMessage(ctx)
		if err != nil || m.Offset != want || string(m.Key) != fmt.Sprint(want) || !m.Time.Equal(base.Add(time.Duration(want)*10*time.Millisecond)) {
			return fmt.Errorf("read %s at %d, %v, %v, want offset %d", m.Key, m.Offset, m.Time, err, want)
		}
		return nil
	}
	if err := errors.Join(r.SetOffset(42), at(42), at(43), r.SetOffsetAt(ctx, base.Add(505*time.Millisecond)), at(51)); err != nil {
		return err
	}
	listed, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		topic("times"): {kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0), kafka.TimeOffsetOf(0, base.Add(300*time.Millisecond))},
	}})
	if err != nil {
		return err
	}
	p := listed.Topics[topic("times")][0]
	if _, ok := p.Offsets[30]; !ok || p.FirstOffset != 0 || p.LastOffset != 100 {
		return fmt.Errorf("listed %+v", p)
	}
	return nil
}

func groupReader(group, name string) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{bootstrap}, GroupID: group, GroupTopics: []string{name}, MaxWait: 100 * time.Millisecond, StartOffset: kafka.FirstOffset,
		HeartbeatInterval: 200 * time.Millisecond, JoinGroupBackoff: 100 * time.Millisecond, RebalanceTimeout: 5 * time.Second,
	})
}

func resume() error {
	name := topic("group")
	if err := create(name, 3); err != nil {
		return err
	}
	w := writer(name)
	defer func() { _ = w.Close() }()
	if err := w.WriteMessages(ctx, messages(steps.Values(records))...); err != nil {
		return err
	}
	r := groupReader(name, name)
	got, err := read(r, records)
	if err != nil {
		return err
	}
	if err := steps.Same(got, steps.Values(records)); err != nil {
		return err
	}
	if err := r.Close(); err != nil {
		return err
	}
	if err := w.WriteMessages(ctx, kafka.Message{Value: []byte("after")}); err != nil {
		return err
	}
	r = groupReader(name, name)
	if got, err := read(r, 1); err != nil || string(got[0]) != "after" {
		return fmt.Errorf("resumed with %.40q, %v", got, err)
	}
	return r.Close()
}

func pair() error {
	name := topic("pair")
	if err := create(name, 4); err != nil {
		return err
	}
	readers := []*kafka.Reader{groupReader(name, name), groupReader(name, name)}
	var mu sync.Mutex
	var got [][]byte
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	var readersEnded sync.WaitGroup
	for _, r := range readers {
		readersEnded.Go(func() {
			for {
				m, err := r.ReadMessage(reading)
				if err != nil {
					return
				}
				mu.Lock()
				got = append(got, m.Value)
				mu.Unlock()
			}
		})
	}
	if err := steps.Until("two members with two partitions each", func() (bool, error) {
		described, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{name}})
		if err != nil || described.Groups[0].GroupState != "Stable" || len(described.Groups[0].Members) != 2 {
			return false, err
		}
		for _, m := range described.Groups[0].Members {
			if len(m.MemberAssignments.Topics) != 1 || len(m.MemberAssignments.Topics[0].Partitions) != 2 {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		return err
	}
	w := writer(name)
	defer func() { _ = w.Close() }()
	if err := w.WriteMessages(ctx, messages(steps.Values(records))...); err != nil {
		return err
	}
	if err := steps.Until("all records between them", func() (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		return len(got) >= records, nil
	}); err != nil {
		return err
	}
	cancel()
	readersEnded.Wait()
	return errors.Join(readers[0].Close(), readers[1].Close(), steps.Same(got, steps.Values(records)))
}

func refusals() error {
	big := writer(topic("big"))
	big.BatchBytes = 20 << 20
	defer func() { _ = big.Close() }()
	var failures kafka.WriteErrors
	err := big.WriteMessages(ctx, kafka.Message{Value: make([]byte, 2<<20)})
	if errors.As(err, &failures) {
		err = failures[0]
	}
	if !errors.Is(err, kafka.MessageSizeTooLarge) {
		return fmt.Errorf("a record of 2 MiB: %v", err)
	}
	w := writer(topic("never-made"))
	w.AllowAutoTopicCreation, w.MaxAttempts = false, 2
	defer func() { _ = w.Close() }()
	if err := w.WriteMessages(ctx, kafka.Message{Value: []byte("nowhere")}); !errors.Is(err, kafka.UnknownTopicOrPartition) {
		return fmt.Errorf("an unknown topic: %v", err)
	}
	if err := create(topic("big"), 1); !errors.Is(err, kafka.TopicAlreadyExists) {
		return fmt.Errorf("a topic that exists: %v", err)
	}
	if err := create("no spaces", 1); !errors.Is(err, kafka.InvalidTopic) {
		return fmt.Errorf("a bad name: %v", err)
	}
	return nil
}

func administer() error {
	name := topic("admin")
	if err := create(name, 1); err != nil {
		return err
	}
	grown, err := client.CreatePartitions(ctx, &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: name, Count: 3}}})
	if err != nil || grown.Errors[name] != nil {
		return fmt.Errorf("grow: %+v, %v", grown, err)
	}
	resource := kafka.IncrementalAlterConfigsRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: name,
		Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "retention.ms", Value: "3600000", ConfigOperation: kafka.ConfigOperationSet}}}
	altered, err := client.IncrementalAlterConfigs(ctx, &kafka.IncrementalAlterConfigsRequest{Resources: []kafka.IncrementalAlterConfigsRequestResource{resource}})
	if err != nil || altered.Resources[0].Error != nil {
		return fmt.Errorf("alter: %+v, %v", altered, err)
	}
	described, err := client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{Resources: []kafka.DescribeConfigRequestResource{
		{ResourceType: kafka.ResourceTypeTopic, ResourceName: name, ConfigNames: []string{"retention.ms"}},
	}})
	if err != nil || len(described.Resources[0].ConfigEntries) != 1 || described.Resources[0].ConfigEntries[0].ConfigValue != "3600000" {
		return fmt.Errorf("describe: %+v, %v", described, err)
	}
	committed, err := client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: name, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{name: {{Partition: 1, Offset: 7, Metadata: "by hand"}}}})
	if err != nil || committed.Topics[name][0].Error != nil {
		return fmt.Errorf("commit: %+v, %v", committed, err)
	}
	fetched, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: name, Topics: map[string][]int{name: {0, 1}}})
	if err != nil || fetched.Error != nil || len(fetched.Topics[name]) != 2 || fetched.Topics[name][1].CommittedOffset != 7 || fetched.Topics[name][0].CommittedOffset != -1 {
		return fmt.Errorf("fetched: %+v, %v", fetched, err)
	}
	listed, err := client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil || listed.Error != nil || len(listed.Groups) == 0 {
		return fmt.Errorf("groups: %+v, %v", listed, err)
	}
	gone, err := client.DeleteGroups(ctx, &kafka.DeleteGroupsRequest{GroupIDs: []string{name}})
	if err != nil || gone.Errors[name] != nil {
		return fmt.Errorf("delete group: %+v, %v", gone, err)
	}
	deleted, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{name, name + "-not"}})
	if err != nil || deleted.Errors[name] != nil || !errors.Is(deleted.Errors[name+"-not"], kafka.UnknownTopicOrPartition) {
		return fmt.Errorf("delete: %+v, %v", deleted, err)
	}
	return nil
}
