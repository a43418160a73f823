package group

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// What many groups have committed goes in steps, and all of it: when its topic is deleted, when that was missed, and when it expires.
func TestManyOffsetsGoInSteps(t *testing.T) {
	for name, end := range map[string]func(m *Machine, tx *coordinator.Tx){
		"topic deleted": func(m *Machine, tx *coordinator.Tx) { m.TopicDeleted(tx, "t", topicID(1)) },
		"missed": func(m *Machine, tx *coordinator.Tx) {
			m.DropDeleted(tx, func(id kafka.TopicID) bool { return id != topicID(1) })
		},
		"expired": nil,
	} {
		limits := Limits{OffsetMetadataMax: 10, RecordMaxBytes: 1 << 20, OffsetsRetention: time.Hour}
		if end == nil {
			limits.OffsetsRetentionCheck = time.Minute
		}
		timers, now := coordinator.NewTimers(), time.UnixMilli(1_000_000)
		m := New(func() Limits { return limits }, func() string { return "id" }, slog.New(slog.DiscardHandler))
		var records, most int
		do := func(op func(tx *coordinator.Tx)) {
			tx := coordinator.NewTx(now, timers)
			op(tx)
			n := len(tx.Take())
			records, most = records+n, max(most, n)
		}
		do(m.Loaded)
		const groups, partitions = 700, 10
		commit := func(group, topic string, id kafka.TopicID) {
			r := &Commit{Group: group, Version: 9, Generation: -1, RetentionMillis: -1, Topics: []CommitTopic{{Name: topic, ID: id}}}
			for p := range int32(partitions) {
				r.Topics[0].Partitions = append(r.Topics[0].Partitions, kmsg.OffsetCommitRequestTopicPartition{Partition: p, Offset: 1})
			}
			do(func(tx *coordinator.Tx) { _, _ = m.Commit(tx, r) })
		}
		for g := range groups {
			commit(fmt.Sprint("g", g), "t", topicID(1))
		}
		now = now.Add(30 * time.Minute)
		commit("kept", "u", topicID(2))
		commit("kept", "t", topicID(2)) // a topic of the same name, made anew
		records, most = 0, 0
		if end != nil {
			do(func(tx *coordinator.Tx) { end(m, tx) })
		} else {
			now = now.Add(40 * time.Minute)
		}
		for op := timers.Due(now); op != nil; op = timers.Due(now) {
			do(op)
		}
		want := groups * partitions
		if end == nil {
			want += groups // which go with their offsets
		}
		if records != want || most >= expiryStep+2*partitions || len(m.offsets) != 1 || len(m.Fetch("kept", nil)) != 2 {
			t.Errorf("%s: %d tombstones, %d at most at once; %d groups have offsets; the other has %v", name, records, most, len(m.offsets), m.Fetch("kept", nil))
		}
	}
}
