package sim

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/record"
	"chronik/internal/store"
)

// noteCompacted remembers which partitions are compacted.
func (c *cluster) noteCompacted(image *metadata.Image, cfg *config.Config) {
	c.compacted = map[string]bool{}
	for t := range image.Topics() {
		resolved, err := cfg.ResolveTopic(t.Config)
		if err != nil {
			c.fail("the configuration of %s: %v", t.Name, err)
			continue
		}
		for p := range t.Partitions.All() {
			if resolved.CleanupPolicy.Compact {
				c.compacted[t.TopicPartition(p.Index).String()] = true
			}
		}
	}
}

// foldedReplica is a compacted partition on one disk.
type foldedReplica struct {
	node int
	last map[string]foldedRecord // by key: the last record that is no tombstone
	at   map[kafka.Offset]string // every record
}

type foldedRecord struct {
	offset kafka.Offset
	value  string
}

// checkFolds compares the replicas of compacted partitions on the disks of stopped nodes: each key has the same last record
// at the same offset (18), and what two of them hold at an offset is the same, in the same leader epoch (2, 5).
func (c *cluster) checkFolds() {
	replicas := map[string][]*foldedReplica{}
	for _, n := range c.nodes {
		of := map[string]*foldedReplica{}
		var codecs record.Codecs
		err := store.Batches(context.Background(), n.disk, dataDir, func(id kafka.TopicPartition, b record.Batch) error {
			name := id.String()
			if !c.compacted[name] {
				return nil
			}
			r := of[name]
			if r == nil {
				r = &foldedReplica{node: n.id, last: map[string]foldedRecord{}, at: map[kafka.Offset]string{}}
				of[name] = r
				replicas[name] = append(replicas[name], r)
			}
			return r.fold(&codecs, b)
		})
		if err != nil {
			c.fail("invariant 19: the disk of node %d: %v", n.id, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(replicas)) {
		for _, r := range replicas[name][1:] {
			if why := replicas[name][0].differs(r); why != "" {
				c.fail("invariant 18: partition %s: nodes %d and %d: %s", name, replicas[name][0].node, r.node, why)
			}
		}
	}
}

func (r *foldedReplica) fold(codecs *record.Codecs, b record.Batch) error {
	for one, err := range codecs.Records(b, 0) {
		if err != nil {
			return err
		}
		key := string(one.Key)
		r.at[one.Offset] = fmt.Sprintf("epoch %d key %q value %q", b.LeaderEpoch(), one.Key, one.Value)
		if b.Control() {
			continue
		}
		if one.Value == nil {
			delete(r.last, key)
		} else {
			r.last[key] = foldedRecord{one.Offset, string(bytes.Clone(one.Value))}
		}
	}
	return nil
}

func (r *foldedReplica) differs(o *foldedReplica) string {
	for _, offset := range slices.Sorted(maps.Keys(r.at)) {
		if other, ok := o.at[offset]; ok && other != r.at[offset] {
			return fmt.Sprintf("offset %d is %s, and %s", offset, r.at[offset], other)
		}
	}
	keys := map[string]bool{}
	for key := range r.last {
		keys[key] = true
	}
	for key := range o.last {
		keys[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if r.last[key] != o.last[key] {
			return fmt.Sprintf("the last record of key %q is %v, and %v", key, r.last[key], o.last[key])
		}
	}
	return ""
}
