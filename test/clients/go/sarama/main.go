package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"

	"chronik/test/clients/go/steps"
)

const records = 300

var (
	bootstrap, prefix = os.Args[1], os.Args[2]

	codecs = []struct {
		name  string
		codec sarama.CompressionCodec
	}{
		{"none", sarama.CompressionNone},
		{"gzip", sarama.CompressionGZIP},
		{"snappy", sarama.CompressionSnappy},
		{"lz4", sarama.CompressionLZ4},
		{"zstd", sarama.CompressionZSTD},
	}
	acks = []sarama.RequiredAcks{sarama.NoResponse, sarama.WaitForLocal, sarama.WaitForAll}
	// The versions at which sarama's choice of API versions changes most.
	versions = []sarama.KafkaVersion{
		sarama.V0_11_0_0, sarama.V1_0_0_0, sarama.V1_1_0_0, sarama.V2_0_0_0, sarama.V2_1_0_0, sarama.V2_3_0_0,
		sarama.V2_4_0_0, sarama.V2_6_0_0, sarama.V2_8_0_0, sarama.V3_1_0_0, sarama.V3_6_0_0, sarama.V4_0_0_0,
	}
)

func main() {
	for _, c := range codecs {
		for _, a := range acks {
			steps.Run(fmt.Sprintf("produce %s acks=%d", c.name, a), func() error { return produceWith(c.name, c.codec, a) })
		}
		steps.Run("consume "+c.name+" by assignment", func() error { return consumeAll(c.name, len(acks)) })
	}
	steps.Run("idempotent producer", idempotent)
	steps.Run("error on an oversized record", oversized)
	steps.Run("error on an unknown topic", unknownTopic)
	steps.Run("seek by offset and timestamp", seek)
	for _, v := range versions {
		steps.Run("everything as of "+v.String(), func() error { return everything(v) })
	}
	for name, strategy := range strategies {
		steps.Run("two members share a group, "+name, func() error { return pair(name, strategy()) })
	}
	steps.Run("a static member keeps its partitions", static)
	steps.Run("administer topics", adminTopics)
	steps.Run("administer configuration", adminConfigs)
	steps.Run("administer groups", adminGroups)
	steps.Done()
}

func topic(name string) string { return prefix + "-" + name }

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Return.Errors = true
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Producer.Return.Successes = true
	c.Producer.MaxMessageBytes = 20 << 20
	c.Producer.Partitioner = sarama.NewRoundRobinPartitioner
	c.Metadata.AllowAutoTopicCreation = true
	return c
}

func produceWith(name string, codec sarama.CompressionCodec, acks sarama.RequiredAcks) error {
	c := config()
	c.Producer.Compression, c.Producer.RequiredAcks = codec, acks
	c.Producer.Flush.Frequency = 5 * time.Millisecond
	p, err := sarama.NewAsyncProducer([]string{bootstrap}, c)
	if err != nil {
		return err
	}
	headers := []sarama.RecordHeader{{Key: []byte("acks"), Value: fmt.Append(nil, acks)}}
	go func() {
		for i, v := range steps.Values(records) {
			p.Input() <- &sarama.ProducerMessage{Topic: topic(name), Key: sarama.StringEncoder(fmt.Sprint(i)), Value: sarama.ByteEncoder(v), Headers: headers}
		}
		p.AsyncClose()
	}()
	acknowledged := 0
	for p.Successes() != nil {
		select {
		case _, ok := <-p.Successes():
			if !ok {
				if acknowledged != records {
					return fmt.Errorf("%d of %d records acknowledged", acknowledged, records)
				}
				return nil
			}
			acknowledged++
		case err := <-p.Errors():
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func consumeAll(name string, times int) error {
	got, err := read(config(), topic(name), times*records)
	if err != nil {
		return err
	}
	by := map[string][][]byte{}
	for _, m := range got {
		by[string(m.Headers[0].Value)] = append(by[string(m.Headers[0].Value)], m.Value)
	}
	for _, a := range acks {
		if err := steps.Same(by[fmt.Sprint(a)], steps.Values(records)); err != nil {
			return fmt.Errorf("acks %d: %w", a, err)
		}
	}
	return nil
}

// read consumes want records of a topic from its partitions' beginnings.
func read(c *sarama.Config, topic string, want int) ([]*sarama.ConsumerMessage, error) {
	consumer, err := sarama.NewConsumer([]string{bootstrap}, c)
	if err != nil {
		return nil, err
	}
	defer func() { _ = consumer.Close() }()
	partitions, err := consumer.Partitions(topic)
	if err != nil {
		return nil, err
	}
	all := make(chan *sarama.ConsumerMessage)
	fails := make(chan error, len(partitions))
	done := make(chan struct{})
	defer close(done)
	for _, p := range partitions {
		pc, err := consumer.ConsumePartition(topic, p, sarama.OffsetOldest)
		if err != nil {
			return nil, err
		}
		defer pc.AsyncClose()
		go func() {
			for {
				select {
				case m := <-pc.Messages():
					select {
					case all <- m:
					case <-done:
						return
					}
				case err := <-pc.Errors():
					fails <- err
					return
				case <-done:
					return
				}
			}
		}()
	}
	var got []*sarama.ConsumerMessage
	late := time.After(30 * time.Second)
	for len(got) < want {
		select {
		case m := <-all:
			got = append(got, m)
		case err := <-fails:
			return got, err
		case <-late:
			return got, fmt.Errorf("%s: %d of %d records", topic, len(got), want)
		}
	}
	return got, nil
}

// send writes the values with a synchronous producer, in order, to partition 0.
func send(c *sarama.Config, topic string, values [][]byte) error {
	c.Producer.Partitioner = sarama.NewManualPartitioner
	p, err := sarama.NewSyncProducer([]string{bootstrap}, c)
	if err != nil {
		return err
	}
	messages := make([]*sarama.ProducerMessage, len(values))
	for i, v := range values {
		messages[i] = &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(v)}
	}
	if err := p.SendMessages(messages); err != nil {
		_ = p.Close()
		return err
	}
	return p.Close()
}

func idempotent() error {
	c := config()
	c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests = true, sarama.WaitForAll, 1
	if err := send(c, topic("idempotent"), steps.Values(records)); err != nil {
		return err
	}
	got, err := read(config(), topic("idempotent"), records)
	if err != nil {
		return err
	}
	for i, v := range steps.Values(records) {
		if string(got[i].Value) != string(v) || got[i].Offset != int64(i) {
			return fmt.Errorf("record %d is %.40q at offset %d", i, got[i].Value, got[i].Offset)
		}
	}
	return nil
}

func oversized() error {
	if err := send(config(), topic("big"), [][]byte{[]byte("first")}); err != nil {
		return err
	}
	err := send(config(), topic("big"), [][]byte{make([]byte, 2<<20)})
	var failures sarama.ProducerErrors
	if !errors.As(err, &failures) || !errors.Is(failures[0].Err, sarama.ErrMessageSizeTooLarge) {
		return fmt.Errorf("a record of 2 MiB: %v", err)
	}
	return nil
}

func unknownTopic() error {
	c := config()
	c.Metadata.AllowAutoTopicCreation = false
	c.Metadata.Retry.Max = 0
	client, err := sarama.NewClient([]string{bootstrap}, c)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Partitions(topic("never-made")); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		return fmt.Errorf("partitions of an unknown topic: %v", err)
	}
	return nil
}

func seek() error {
	base := time.Now().Add(-100 * time.Second).Truncate(time.Millisecond)
	p, err := sarama.NewSyncProducer([]string{bootstrap}, config())
	if err != nil {
		return err
	}
	for i := range 100 {
		m := &sarama.ProducerMessage{Topic: topic("times"), Value: sarama.StringEncoder(fmt.Sprint(i)), Timestamp: base.Add(time.Duration(i) * 10 * time.Millisecond)}
		if _, _, err := p.SendMessage(m); err != nil {
			return err
		}
	}
	_ = p.Close()
	client, err := sarama.NewClient([]string{bootstrap}, config())
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	for _, at := range []struct{ when, want int64 }{
		{base.UnixMilli() + 505, 51}, {base.UnixMilli(), 0}, {sarama.OffsetNewest, 100}, {sarama.OffsetOldest, 0}, {base.UnixMilli() + 1e9, -1},
	} {
		if got, err := client.GetOffset(topic("times"), 0, at.when); err != nil || got != at.want {
			return fmt.Errorf("offset at %d is %d, %v, want %d", at.when-base.UnixMilli(), got, err, at.want)
		}
	}
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		return err
	}
	pc, err := consumer.ConsumePartition(topic("times"), 0, 42)
	if err != nil {
		return err
	}
	defer func() { _ = pc.Close() }()
	if m := <-pc.Messages(); string(m.Value) != "42" || m.Offset != 42 || !m.Timestamp.Equal(base.Add(420*time.Millisecond)) {
		return fmt.Errorf("at offset 42: %q at %d, %v", m.Value, m.Offset, m.Timestamp)
	}
	if _, err := consumer.ConsumePartition(topic("times"), 0, 1000); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		return fmt.Errorf("consuming from behind the end: %v", err)
	}
	return nil
}
