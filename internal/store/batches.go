package store

import (
	"context"
	"fmt"

	"chronik/internal/kafka"
	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/vfs"
)

// Batches visits every batch of every partition of the data directory of a node that does not run, in the order of their
// offsets. The batch is valid until visit returns; an error of visit ends it.
func Batches(ctx context.Context, fsys vfs.FS, dir string, visit func(id kafka.TopicPartition, b record.Batch) error) error {
	var damage error
	in, err := inspect(fsys, dir, func(p Problem) { damage = fmt.Errorf("%v", p) })
	if err != nil {
		return err
	}
	defer in.close()
	err = in.partitions(func(pl *plan, l *log.Log) error {
		var buf []byte
		for from := l.LogStart(); from < l.LogEnd(); {
			if err := ctx.Err(); err != nil {
				return err
			}
			var next kafka.Offset
			if buf, next, err = l.ReadStretch(buf[:0], from, 1<<20, l.LogEnd(), true); err != nil {
				return fmt.Errorf("partition %s: offset %d: %w", pl.id, from, err)
			}
			for rest := buf; len(rest) > 0; {
				b, more, err := record.Next(rest)
				if err != nil {
					return fmt.Errorf("partition %s: %w", pl.id, err)
				}
				if b == nil {
					break
				}
				if err := visit(pl.id, b); err != nil {
					return err
				}
				next, rest = max(next, b.NextOffset()), more
			}
			if next <= from {
				return nil
			}
			from = next
		}
		return nil
	})
	if err == nil {
		err = damage
	}
	return err
}
