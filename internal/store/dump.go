package store

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path"

	"chronik/internal/log"
	"chronik/internal/record"
	"chronik/internal/vfs"
	"chronik/internal/wal"
)

// Dump writes what a data directory holds that no process uses, line by line for a person: the identity, the WAL's
// operations from the checkpoint on, each partition's state, and its batches up to the synced end. It changes nothing.
func Dump(ctx context.Context, fsys vfs.FS, dir string, out io.Writer) error {
	w := bufio.NewWriter(out)
	in, err := inspect(fsys, dir, func(p Problem) { fmt.Fprintln(w, "problem:", p) })
	if err != nil {
		return err
	}
	defer in.close()
	if err := in.dumpNode(w); err != nil {
		return err
	}
	err = in.partitions(func(pl *plan, l *log.Log) error {
		c := pl.synced
		fmt.Fprintf(w, "partition %s: log start %d, synced end %d (segment %d, byte %d), generation %d, leader epochs %v%s\n",
			pl.id, c.LogStart, c.EndOffset, c.Segment, c.Position, c.Generation, l.Epochs(), compactedTo(l))
		return dumpBatches(ctx, w, l)
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

// compactedTo says how far a log was compacted, nothing if it was not.
func compactedTo(l *log.Log) string {
	if l.FirstDirty() <= l.LogStart() {
		return ""
	}
	return fmt.Sprintf(", compacted up to offset %d, deletions gone below offset %d", l.FirstDirty(), l.DeletesRemovedBelow())
}

func (in *inspection) dumpNode(w io.Writer) error {
	if b, err := readFile(in.fs, path.Join(in.dir, nodeName)); err == nil {
		if id, err := decodeIdentity(b); err == nil {
			fmt.Fprintf(w, "node %d, directory %x, cluster %q\n", id.NodeID, id.Directory, id.ClusterID)
		}
	}
	c := in.checkpoint
	fmt.Fprintf(w, "checkpoint: replay from WAL record %d, clean %v, %d partitions\n", c.from, c.clean, len(c.partitions))
	return in.wal(walDir, c.from, func(rec wal.Record) error {
		op, _, err := decodeOperation(rec)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "wal %d: %s\n", rec.LSN, op.describe(rec.ByReference))
		return nil
	})
}

func (o *operation) describe(byReference bool) string {
	s := fmt.Sprintf("%s %s", opNames[o.kind], o.id)
	switch o.kind {
	case opAppend, opStretch:
		where := "inline"
		if byReference {
			where = "by reference"
		}
		if o.kind == opStretch {
			where += fmt.Sprintf(", leader epochs %v", o.epochs)
		}
		return fmt.Sprintf("%s offsets %d-%d generation %d, %d bytes %s, segment %d byte %d, crc %08x", s, o.first, o.end-1, o.generation, o.length, where, o.segment, o.position, o.crc)
	case opTruncate, opReset:
		return fmt.Sprintf("%s to offset %d, generation %d", s, o.offset, o.generation)
	case opEpoch:
		return fmt.Sprintf("%s epoch %d at offset %d, generation %d", s, o.epoch, o.offset, o.generation)
	case opLogStart:
		return fmt.Sprintf("%s to offset %d", s, o.base.LogStart)
	}
	return s
}

func horizonOf(b record.Batch) string {
	if h, ok := b.DeleteHorizon(); ok {
		return fmt.Sprintf(", delete horizon %d", h)
	}
	return ""
}

func dumpBatches(ctx context.Context, w io.Writer, l *log.Log) error {
	var buf []byte
	for from := l.LogStart(); from < l.LogEnd(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := from
		var err error
		if buf, next, err = l.ReadStretch(buf[:0], from, 1<<20, l.LogEnd(), true); err != nil {
			fmt.Fprintf(w, "  problem: offset %d cannot be read: %v\n", from, err)
			return nil
		}
		for rest := buf; len(rest) > 0; {
			b, more, err := record.Next(rest)
			if err != nil || b == nil {
				fmt.Fprintf(w, "  problem: no batch stands at offset %d: %v\n", from, err)
				return nil
			}
			if from < b.BaseOffset() {
				fmt.Fprintf(w, "  gap: nothing is left of offsets %d-%d\n", from, b.BaseOffset()-1)
			}
			fmt.Fprintf(w, "  offsets %d-%d epoch %d %d bytes, %d records, codec %s, max timestamp %d, producer %d/%d sequence %d, transactional %v, control %v, crc ok %v%s\n",
				b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(), b.Size(), b.Count(), b.Codec(), b.MaxTimestamp(), b.ProducerID(),
				b.ProducerEpoch(), b.BaseSequence(), b.Transactional(), b.Control(), b.VerifyCRC(), horizonOf(b))
			from, rest = b.NextOffset(), more
		}
		if from < next {
			fmt.Fprintf(w, "  gap: nothing is left of offsets %d-%d\n", from, next-1)
		} else if len(buf) == 0 {
			return nil
		}
		from = next
	}
	return nil
}
