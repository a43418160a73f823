package replica

import (
	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/record"
)

// prepare checks the batches against the topic's configuration and brings them into the form in which they are stored:
// timestamps, and another codec where the topic asks for one. It returns r.Batches, patched, or new memory.
func (p *Partition) prepare(r AppendRequest) ([]byte, error) {
	c := p.config.Load()
	now := p.node.clock.Now().UnixMilli()
	if r.Origin != record.FromClient {
		return r.Batches, p.stamp(r.Batches, c, now)
	}
	limits := record.Limits{
		Origin:         r.Origin,
		MaxBatchBytes:  int(c.MaxMessageBytes),
		Compacted:      c.CleanupPolicy.Compact,
		Codec:          record.KeepCodec,
		TimestampType:  record.TimestampType(c.TimestampType),
		BeforeMax:      c.TimestampBeforeMaxMillis,
		AfterMax:       c.TimestampAfterMaxMillis,
		Now:            now,
		ProduceVersion: r.Version,
	}
	if c.CompressionType != config.CompressionProducer {
		limits.Codec = record.Codec(c.CompressionType)
	}
	valid, err := p.node.codecs.Validate(r.Batches, &limits)
	if err != nil {
		return nil, err
	}
	return valid.Batch, nil
}

// stamp does for this process's own batches what a topic may still ask of them: a limit on their size, and the time of
// the append.
func (p *Partition) stamp(batches []byte, c *config.Topic, now int64) error {
	for len(batches) > 0 {
		b, rest, err := record.Next(batches)
		if err != nil {
			return err
		}
		if len(b) > int(c.MaxMessageBytes) {
			return kafka.ErrMessageTooLarge.With("a record batch of %d bytes for %s-%d: its max.message.bytes is %d",
				len(b), p.topic, p.id.Partition, c.MaxMessageBytes)
		}
		if c.TimestampType == config.LogAppendTime {
			b.SetMaxTimestamp(record.LogAppendTime, now)
		}
		batches = rest
	}
	return nil
}
