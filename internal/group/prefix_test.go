package group

import (
	"cmp"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

func replayed(t *testing.T, log []coordinator.Record, limits Limits) *Machine {
	t.Helper()
	ids := 0
	m := New(func() Limits { return limits }, func() string { ids++; return "r" + strconv.Itoa(ids) }, slog.New(slog.DiscardHandler))
	for i, rec := range log {
		if err := m.Replay(coordinator.Replayed{Record: rec, Offset: kafka.Offset(i)}); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	return m
}

// stateOf is all that a machine holds for good, as text; without groups that are nothing but a name that is to expire.
func stateOf(m *Machine) string {
	var out strings.Builder
	for _, id := range m.groupIDs() {
		if g := m.groups[id]; g != nil && (g.generation > 0 || m.offsets[id] != nil) {
			fmt.Fprintf(&out, "%s %v %s\n", id, g.state, printRecord(groupRecord(&classic{ // not since when
				id: g.id, protocolType: g.protocolType, generation: g.generation, protocol: g.protocol, leader: g.leader, members: g.members,
			})))
		}
		for topic, c := range m.offsets[id].all() {
			fmt.Fprintf(&out, "  %s-%d %+v\n", topic, c.partition, *c)
		}
	}
	return out.String()
}

// validState fails if the machine holds what no history leads to.
func validState(t *testing.T, m *Machine) {
	t.Helper()
	for id, g := range m.groups {
		want := Empty
		if len(g.members) > 0 {
			want = Stable
		}
		if g.state != want || len(g.byID) != len(g.members) || (len(g.members) > 0) != (g.byID[g.leader] != nil && g.protocol != nil) {
			t.Fatalf("group %s: %+v", id, g)
		}
	}
	for id, o := range m.offsets {
		if m.expirerOf(id) == nil {
			t.Fatalf("group %s has offsets and does not exist", id)
		}
		names := slices.IsSortedFunc(o.topics, func(a, b topicOffsets) int { return cmp.Compare(a.name, b.name) })
		for _, topic := range o.topics {
			strictly := slices.IsSortedFunc(topic.partitions, func(a, b committed) int { return cmp.Or(cmp.Compare(a.partition, b.partition), 1) })
			if !names || !strictly || len(topic.partitions) == 0 {
				t.Fatalf("offsets of group %s: %+v", id, o)
			}
		}
	}
}

// compactedLog is what compaction leaves in the end: the last record of each key, and no tombstones.
func compactedLog(log []coordinator.Record) []coordinator.Record {
	last := map[string]int{}
	for i, rec := range log {
		last[string(rec.Key)] = i
	}
	var kept []coordinator.Record
	for i, rec := range log {
		if last[string(rec.Key)] == i && rec.Value != nil {
			kept = append(kept, rec)
		}
	}
	return kept
}

// folded is what the log's records say about offsets, independently of the machine.
func folded(t *testing.T, log []coordinator.Record) map[string]int64 {
	t.Helper()
	offsets := map[string]int64{}
	for _, rec := range log {
		key, value := kmsg.NewOffsetCommitKey(), kmsg.NewOffsetCommitValue()
		if rec.Key[1] != offsetKeyVersion {
			continue
		}
		if err := key.ReadFrom(rec.Key); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s/%s/%d", key.Group, key.Topic, key.Partition)
		if rec.Value == nil {
			delete(offsets, name)
			continue
		}
		if err := value.ReadFrom(rec.Value); err != nil {
			t.Fatal(err)
		}
		offsets[name] = value.Offset
	}
	return offsets
}

// administrators do what clients of no group do.
func (w *world) administrators() {
	group, topic := fmt.Sprint("s", w.rnd.IntN(4)), fmt.Sprint("t", w.rnd.IntN(3))
	if w.rnd.IntN(4) == 0 {
		group = "g"
	}
	w.do(func(tx *coordinator.Tx) {
		switch w.rnd.IntN(12) {
		case 0:
			w.m.TopicDeleted(tx, topic, topicID(w.rnd.IntN(2)))
		case 1:
			_ = w.m.Delete(tx, group) // a group with members stays
		case 2:
			_, _ = w.m.DeleteOffsets(tx, group, []FetchTopic{{Name: topic, Partitions: []int32{int32(w.rnd.IntN(5))}}})
		case 3:
			alive := w.rnd.IntN(2)
			w.m.DropDeleted(tx, func(id kafka.TopicID) bool { return id == topicID(alive) })
		default:
			r := &Commit{Group: group, Version: int16(2 + w.rnd.IntN(8)), Generation: -1, RetentionMillis: -1, Topics: []CommitTopic{{Name: topic, ID: topicID(w.rnd.IntN(2))}}}
			if r.Version < 5 && w.rnd.IntN(2) == 0 {
				r.RetentionMillis = int64(w.rnd.IntN(100_000))
			}
			for range 1 + w.rnd.IntN(3) {
				r.Topics[0].Partitions = append(r.Topics[0].Partitions, kmsg.OffsetCommitRequestTopicPartition{Partition: int32(w.rnd.IntN(5)), Offset: w.rnd.Int64N(1000)})
			}
			_, _ = w.m.Commit(tx, r) // a group with members takes none of these
		}
	})
}

// Any prefix of the log replays to a state that is one: a coordinator may take over after any record. What compaction leaves of it
// replays to the same.
func TestEveryPrefixReplays(t *testing.T) {
	limits := Limits{
		MinSessionTimeout: time.Second, MaxSessionTimeout: time.Hour, MaxSize: 100, InitialRebalanceDelay: time.Second,
		OffsetMetadataMax: 100, RecordMaxBytes: 1 << 20, OffsetsRetention: 60 * time.Second, OffsetsRetentionCheck: 7 * time.Second,
	}
	expired := 0
	for seed := range uint64(20) {
		w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 11)), now: time.UnixMilli(1_000_000), owners: map[int32]map[string]string{}}
		w.fresh()
		w.m.limits = func() Limits { return limits }
		w.do(w.m.Loaded)
		for i := range 3 {
			w.clients = append(w.clients, &client{name: fmt.Sprint("client", i), protocols: []string{"range", "sticky"}})
		}
		for range 300 {
			c := w.clients[w.rnd.IntN(len(w.clients))]
			switch w.rnd.IntN(12) {
			case 0:
				w.leave(c)
			case 1, 2:
				before := len(w.log)
				w.advance(time.Duration(w.rnd.IntN(9000)) * time.Millisecond)
				expired += len(w.log) - before
			case 3, 4, 5:
				w.administrators()
			default:
				w.step(c)
			}
			if w.m.groups["g"] == nil { // its generations begin anew
				clear(w.owners)
			}
		}
		for n := range len(w.log) + 1 {
			m := replayed(t, w.log[:n], limits)
			validState(t, m)
			want := folded(t, w.log[:n])
			got := map[string]int64{}
			for id, o := range m.offsets {
				for topic, c := range o.all() {
					got[fmt.Sprintf("%s/%s/%d", id, topic, c.partition)] = int64(c.offset)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d, %d records: offsets\n%v, the log says\n%v", seed, n, got, want)
			}
			if a, b := stateOf(replayed(t, compactedLog(w.log[:n]), limits)), stateOf(m); a != b {
				t.Fatalf("seed %d, %d records: compacted\n%s, whole\n%s", seed, n, a, b)
			}
			m.Loaded(coordinator.NewTx(w.now, coordinator.NewTimers()))
		}
		// The live machine holds what its log says.
		m := replayed(t, w.log, limits)
		for _, id := range w.m.groupIDs() {
			if a, b := fmt.Sprint(m.Fetch(id, nil)), fmt.Sprint(w.m.Fetch(id, nil)); a != b {
				t.Fatalf("seed %d: group %s after the replay: %s, before: %s", seed, id, a, b)
			}
		}
	}
	if expired == 0 {
		t.Error("nothing ever expired")
	}
}
