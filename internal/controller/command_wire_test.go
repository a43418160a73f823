package controller

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// wireCommands has every command, with every field set to something.
func wireCommands() []Command {
	two := "2"
	tp := kafka.TopicPartition{Topic: kafka.TopicID{9, 8}, Partition: 3}
	return []Command{
		{ValidateOnly: true, Timeout: 1500 * time.Millisecond, Command: createTopics{topics: []metadata.CreateTopic{
			{Name: "a", ID: kafka.TopicID{1}, Partitions: 3, ReplicationFactor: -1, Config: map[string]string{"x": "1", "y": ""}, Reason: "r"},
			{Name: "b", ID: kafka.TopicID{2}, Partitions: -1, ReplicationFactor: -1, Assignment: [][]kafka.BrokerID{{1, 2}, {2, 1}}, Internal: true},
			{Name: "c", ID: kafka.TopicID{3}, Partitions: -1, ReplicationFactor: -1, Assignment: [][]kafka.BrokerID{}},
		}}},
		{Relay: true, Command: deleteTopic{id: kafka.TopicID{4}, reason: "gone"}},
		{Command: metadata.CreatePartitions{Topic: "a", Count: 7, Assignment: [][]kafka.BrokerID{{3}}, Reason: "more"}},
		{Command: metadata.CreatePartitions{Topic: "a", Count: 7}},
		{Command: metadata.SetConfig{Resource: metadata.Resource{Type: metadata.GroupResource, Name: "g"}, Replace: true, Base: 12, Reason: "why",
			Values: map[string]*string{"set": &two, "removed": nil}}},
		{Command: allocateProducerIDs{}},
		{Command: metadata.RegisterBroker{ID: 5, Incarnation: [16]byte{1}, Directory: [16]byte{2}, Rack: "r", Unclean: true, ClusterAddress: "h:1",
			Endpoints: []metadata.Endpoint{{Listener: "L", Host: "h", Port: 9092, TLS: true}}}},
		{Command: unregisterBroker{id: 6}},
		{Command: fenceBroker{id: 7, fenced: true, reason: "silent"}},
		{Command: metadata.AssignPartition{Partition: tp, Replicas: []kafka.BrokerID{3, 1}, Base: 4, Reason: "move"}},
		{Command: metadata.SetPartitionLeader{Partition: tp, Leader: kafka.NoLeader, Base: 5, Unclean: true, Reason: "lead"}},
		{Command: metadata.UpdateISR{Partition: tp, LeaderEpoch: 6, Base: 7, ISR: []metadata.ISRMember{{Broker: 1, Epoch: 1 << 40}, {Broker: 2, Epoch: 3}}, Reason: "isr"}},
		{Command: metadata.Heartbeat{Broker: 1, Epoch: 2, Incarnation: [16]byte{3}, Applied: 4, Ready: true, ShuttingDown: true, SyncAge: 5 * time.Second,
			Damaged: []kafka.TopicPartition{tp}}},
		{Command: metadata.DescribeBrokers{}},
	}
}

func TestCommandsTravel(t *testing.T) {
	for _, want := range wireCommands() {
		data, err := encodeCommand(want)
		if err != nil {
			t.Errorf("%T: %v", want.Command, err)
			continue
		}
		got, err := decodeCommand(data)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%T: %v\n got %+v\nwant %+v", want.Command, err, got, want)
		}
		if kinds := countFields(want.Command); kinds == 0 && reflect.TypeOf(want.Command).NumField() > 0 {
			t.Errorf("%T: no field of the example is set", want.Command)
		}
	}
	// A command that nobody can read is an error, and so is a name that cannot be sent: it must not arrive as another.
	for _, bad := range []any{
		struct{}{},
		metadata.CreatePartitions{Topic: "\xff", Count: 1},
		metadata.SetConfig{Values: map[string]*string{"k": new("\xff")}},
	} {
		if _, err := encodeCommand(Command{Command: bad}); err == nil {
			t.Errorf("%+v is encoded", bad)
		}
	}
	if data, err := encodeCommand(Command{Command: deleteTopic{reason: "\xff"}}); err != nil {
		t.Error("a reason that is not UTF-8 fails a command:", err)
	} else if c, err := decodeCommand(data); err != nil || c.Command.(deleteTopic).reason != "?" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := decodeCommand(nil); err == nil {
		t.Error("a command of no kind is accepted")
	}
}

func countFields(command any) int {
	v, n := reflect.ValueOf(command), 0
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			n++
		}
	}
	return n
}

func wireAnswers() []Answer {
	topic := &metadata.Topic{Name: "a", ID: kafka.TopicID{1}, Config: map[string]string{"k": "v"}, ConfigOffset: 3, Internal: true,
		Partitions: metadata.PartitionsOf(&metadata.Partition{Index: 0, Replicas: []kafka.BrokerID{1, 2}, ISR: []kafka.BrokerID{1}, Leader: 1, LeaderEpoch: 2,
			PartitionEpoch: 5, History: []metadata.Change{{Offset: 3, Time: time.UnixMilli(5).UTC(), Reason: "r", Leader: 1}}})}
	return []Answer{
		{Offset: 9},
		{Err: kafka.ErrRequestTimedOut.With("too late"), Offset: 4},
		{Err: kafka.ErrUnknownTopicID},
		{Value: []metadata.CreateTopicResult{{Topic: topic}, {Err: kafka.ErrTopicAlreadyExists.With("it does")}}, Offset: 8},
		{Value: kafka.ProducerID(1 << 50)},
		{Value: kafka.BrokerEpoch(77)},
		{Value: kafka.PartitionEpoch(78)},
		{Value: metadata.HeartbeatAnswer{Fenced: true, MayShutDown: true, Term: 5, Lease: time.Second, Offset: 6}},
		{Value: []metadata.BrokerStatus{{ID: 1, Epoch: 2, Silence: -1, Fenced: true, InControlledShutdown: true, Slow: true, Since: time.UnixMilli(9).UTC(),
			Reason: "r", Ready: true, Applied: 3, SyncAge: 4, Damaged: []kafka.TopicPartition{{Topic: kafka.TopicID{1}, Partition: 2}}}}},
	}
}

func TestAnswersTravel(t *testing.T) {
	for _, want := range wireAnswers() {
		data, err := encodeAnswer(want)
		if err != nil {
			t.Errorf("%T: %v", want.Value, err)
			continue
		}
		got, err := decodeAnswer(data)
		if err != nil || got.Offset != want.Offset || !sameError(got.Err, want.Err) || !sameValue(got.Value, want.Value) {
			t.Errorf("%T: %v\n got %+v\nwant %+v", want.Value, err, got, want)
		}
	}
	// No error becomes a success, whatever it is.
	for _, err := range []error{errors.New("plain"), &kafka.Error{Code: 0, Name: "NONE"}, &kafka.Error{Code: 9999}} {
		data, encodeErr := encodeAnswer(Answer{Err: err})
		if encodeErr != nil {
			t.Fatal(encodeErr)
		}
		if a, decodeErr := decodeAnswer(data); decodeErr != nil || a.Err == nil || kafka.CodeOf(a.Err) != kafka.ErrUnknownServerError.Code {
			t.Errorf("%v arrives as %v, %v", err, a.Err, decodeErr)
		}
	}
	if _, err := encodeAnswer(Answer{Value: 3}); err == nil {
		t.Error("an answer of an unknown type is sent")
	}
}

func sameError(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return kafka.CodeOf(a) == kafka.CodeOf(b) && *kafka.Message(a) == *kafka.Message(b)
}

// sameValue compares through the encoding where values hold persistent structures.
func sameValue(a, b any) bool {
	topics, ok := a.([]metadata.CreateTopicResult)
	if !ok {
		return reflect.DeepEqual(a, b)
	}
	want := b.([]metadata.CreateTopicResult)
	x, errX := proto.MarshalOptions{Deterministic: true}.Marshal(createTopicsAnswer(topics))
	y, errY := proto.MarshalOptions{Deterministic: true}.Marshal(createTopicsAnswer(want))
	return errX == nil && errY == nil && bytes.Equal(x, y) && topics[0].Topic.Partitions.At(0).History[0].Reason == "r"
}

// FuzzCommand: whatever arrives is refused or understood, and what is understood is sent on as it is.
func FuzzCommand(f *testing.F) {
	for _, c := range wireCommands() {
		data, err := encodeCommand(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, a := range wireAnswers() {
		data, err := encodeAnswer(a)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := decodeCommand(data); err == nil {
			again, err := encodeCommand(c)
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			if twice, err := decodeCommand(again); err != nil || !reflect.DeepEqual(c, twice) {
				t.Fatalf("%v\n%+v\n%+v", err, c, twice)
			}
			img := form("fuzz", []metadata.Voter{{ID: 1, Directory: directory}}).image
			s := state{image: img, limits: Limits{PartitionsPerRequest: 100, Partitions: 1000}}
			if _, ok := c.Command.(metadata.Heartbeat); !ok {
				_, _ = decide(s, c.Command)
			}
		}
		if a, err := decodeAnswer(data); err == nil {
			if _, err := encodeAnswer(a); err != nil {
				t.Fatalf("%+v: %v", a, err)
			}
		}
		var part pb.RaftPart
		if proto.Unmarshal(data, &part) == nil {
			l := &Links{}
			l.mu.receiving = map[kafka.BrokerID]*parts{}
			_, _ = l.gather(l.self, &part)
		}
	})
}
