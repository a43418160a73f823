package group

import (
	"encoding/hex"
	"log/slog"
	"strings"
	"testing"
	"time"

	"chronik/internal/coordinator"
	"chronik/internal/group/assign"
	"chronik/internal/kafka"
)

// The records, byte by byte as Kafka's schemas (ConsumerGroup*Key and *Value.json) have them, put together by hand.
func TestConsumerRecordBytes(t *testing.T) {
	id := kafka.TopicID{0xaa, 15: 0xbb}
	uuid := "aa0000000000000000000000000000bb"
	x := "x"
	g := newConsumerGroup("g")
	g.epoch, g.hash, g.targetEpoch = 7, 0x0102030405060708, 6
	a := assign.Assignment{{Topic: id, Partitions: []int32{1, 2}}}
	mb := &consumerMember{
		id: "m", instance: &x, clientID: "c", clientHost: "/h", topics: []string{"t"}, rebalanceTimeout: 5, epoch: 3, previousEpoch: 2,
		state: memberUnrevoked, assigned: heldAt(a, 3), pending: heldAt(assign.Assignment{{Topic: id, Partitions: []int32{4}}}, 1),
	}
	classic := *mb
	classic.instance, classic.assignor, classic.regex = nil, &x, "r"
	classic.classic = &classicMember{sessionTimeout: 9, protocols: []protocol{{"range", []byte{1}}}}
	unhashed := newConsumerGroup("g")
	unhashed.epoch = 1
	for _, tc := range []struct {
		name       string
		rec        coordinator.Record
		key, value string
	}{
		{"epoch", epochRecord(g), "0003 0001 67", "0000 00000007 01 00 08 0102030405060708"},
		{"epoch without topics", epochRecord(unhashed), "0003 0001 67", "0000 00000001 00"},
		{"epoch tombstone", epochTombstone("g"), "0003 0001 67", ""},
		{"partition metadata tombstone", partitionMetadataTombstone("g"), "0004 0001 67", ""},
		{"member", memberRecord("g", mb), "0005 0001 67 0001 6d", "0000 02 78 00 02 63 03 2f68 02 02 74 01 00000005 00 00"},
		{"classic member", memberRecord("g", &classic), "0005 0001 67 0001 6d",
			"0000 00 00 02 63 03 2f68 02 02 74 02 72 00000005 02 78 01 00 10 01 00000009 02 06 72616e6765 02 01 00 00"},
		{"member tombstone", memberTombstone("g", "m"), "0005 0001 67 0001 6d", ""},
		{"target epoch", targetEpochRecord(g), "0006 0001 67", "0000 00000006 00"},
		{"target epoch tombstone", targetEpochTombstone("g"), "0006 0001 67", ""},
		{"target", targetRecord("g", "m", a), "0007 0001 67 0001 6d", "0000 02 " + uuid + " 03 00000001 00000002 00 00"},
		{"target tombstone", targetTombstone("g", "m"), "0007 0001 67 0001 6d", ""},
		{"position", positionRecord("g", mb), "0008 0001 67 0001 6d", "0000 00000003 00000002 01" +
			"02 " + uuid + " 03 00000001 00000002 01 00 09 03 00000003 00000003" +
			"02 " + uuid + " 02 00000004 01 00 05 02 00000001" + "00"},
		{"position tombstone", positionTombstone("g", "m"), "0008 0001 67 0001 6d", ""},
		{"regex", regexRecord("g", "r.", resolvedRegex{[]string{"r1", "r2"}, 4, 5}), "0010 0001 67 0002 722e",
			"0000 03 03 7231 03 7232 0000000000000004 0000000000000005 00"},
		{"regex tombstone", regexTombstone("g", "r."), "0010 0001 67 0002 722e", ""},
	} {
		for _, x := range []struct {
			what string
			got  []byte
			want string
		}{{"key", tc.rec.Key, tc.key}, {"value", tc.rec.Value, tc.value}} {
			if got, want := hex.EncodeToString(x.got), strings.ReplaceAll(x.want, " ", ""); got != want {
				t.Errorf("%s: %s is\n%s, want\n%s", tc.name, x.what, got, want)
			}
		}
		if (tc.rec.Value == nil) != (tc.value == "") {
			t.Errorf("%s: a value that is empty and not null", tc.name)
		}
	}
}

// What other versions write: no epochs of partitions, a state and tags that nobody here knows, topics' metadata of Kafka 4.0.
func TestConsumerRecordsOfOthers(t *testing.T) {
	uuid := "aa0000000000000000000000000000bb"
	m := New(func() Limits { return Limits{MaxSize: 10, RecordMaxBytes: 1000} }, func() string { return "" }, slog.New(slog.DiscardHandler))
	for _, rec := range [][2]string{
		{"0003 0001 67", "0000 00000007 02 01 08 0000000000000001 05 01 ff"},
		{"0004 0001 67", "0000 02 " + uuid + " 02 74 00000001 01 00 00"},
		{"0005 0001 67 0001 6d", "0000 00 00 02 63 03 2f68 02 02 74 00 00000005 00 01 09 02 0102"},
		{"0006 0001 67", "0000 00000007 01 00 08 0000000000000009"},
		{"0007 0001 67 0001 6d", "0000 03 " + uuid + " 02 00000002 00 " + uuid + " 02 00000001 00 00"},
		{"0008 0001 67 0001 6d", "0000 00000003 00000002 09 02 " + uuid + " 03 00000002 00000001 00 01 00"},
	} {
		key, _ := hex.DecodeString(strings.ReplaceAll(rec[0], " ", ""))
		value, _ := hex.DecodeString(strings.ReplaceAll(rec[1], " ", ""))
		if err := m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: key, Value: value}}); err != nil {
			t.Fatalf("%s: %v", rec[0], err)
		}
	}
	g := m.consumers["g"]
	mb := g.members["m"]
	if g.epoch != 7 || g.targetEpoch != 7 || g.hash != 0 || !g.legacy || mb.state != memberUnknown || mb.regex != "" || mb.epoch != 3 {
		t.Errorf("group %+v, member %+v", g, mb)
	}
	if got := printHeld(mb.assigned); got != "[170-1@3 170-2@3]" {
		t.Errorf("assigned: %s", got)
	}
	if got := g.targets["m"].Len(); got != 2 || len(g.targets["m"]) != 1 {
		t.Errorf("target: %v", g.targets["m"])
	}
	m.Loaded(coordinator.NewTx(time.UnixMilli(0), coordinator.NewTimers()))
	if err := g.validateEpoch(mb, 3, nil, false); kafka.CodeOf(err) != kafka.ErrFencedMemberEpoch.Code {
		t.Errorf("a member in an unknown state that does not say what it has: %v", err)
	}
	if err := g.validateEpoch(mb, 0, nil, true); err != nil {
		t.Errorf("a member in an unknown state that has nothing: %v", err)
	}
	for _, rec := range [][2]string{
		{"0003 0001 67", "0001 00000007 00"},
		{"0003 0001 67", "0000 000000"},
		{"0003 0001 67", "0000 00000007 01 00 04 00000000"},
		{"0003 0001 67", "0000 00000007 00 00"},
		{"0005 0001 67", "0000"},
		{"0003 0001 67 00", ""},
	} {
		key, _ := hex.DecodeString(strings.ReplaceAll(rec[0], " ", ""))
		value, _ := hex.DecodeString(strings.ReplaceAll(rec[1], " ", ""))
		before := m.print()
		if err := m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: key, Value: value}}); err == nil {
			t.Errorf("key %s value %s: no error", rec[0], rec[1])
		}
		if got := m.print(); got != before {
			t.Errorf("key %s value %s: half of it is in the state:\n%s", rec[0], rec[1], got)
		}
	}
}
