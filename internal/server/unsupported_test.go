package server

import (
	"encoding/binary"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestUnsupportedApiVersions(t *testing.T) {
	s := start(t, empty, nil)
	c := dial(t, s)
	for _, version := range []int16{6, 99, 32767} {
		frame := formatter.AppendRequest(nil, kmsg.NewPtrApiVersionsRequest(), 7)
		binary.BigEndian.PutUint16(frame[6:], uint16(version))
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
		id, body := c.receive()
		m := kmsg.NewPtrApiVersionsResponse() // version 0
		if err := m.ReadFrom(body); err != nil || id != 7 {
			t.Fatal(id, err)
		}
		if m.ErrorCode != 35 || len(m.ApiKeys) != 1 || m.ApiKeys[0].ApiKey != 18 || m.ApiKeys[0].MaxVersion != 5 {
			t.Errorf("version %d: %+v", version, m)
		}
		if len(m.AppendTo(nil)) != len(body) {
			t.Errorf("version %d: the body is not of version 0: %x", version, body)
		}
	}
	c.ask(8, kmsg.NewPtrApiVersionsRequest())
}

func TestUnknownKeysAreAnswered(t *testing.T) {
	s := start(t, empty, nil)
	c := dial(t, s)
	for _, key := range []int16{5, 127, 128, 999, -1, 32767} {
		frame := formatter.AppendRequest(nil, heartbeat("g"), int32(key)+1)
		binary.BigEndian.PutUint16(frame[4:], uint16(key))
		if _, err := c.Write(frame); err != nil {
			t.Fatal(err)
		}
		if id, body := c.receive(); id != int32(key)+1 || hex(body) != "0023" {
			t.Errorf("key %d: answer %d: %x", key, id, body)
		}
	}
	c.ask(8, heartbeat("g"))
}

func TestUnsupportedProduceIsAnsweredByPartition(t *testing.T) {
	s := start(t, empty, nil)
	c := dial(t, s)
	for version := int16(0); version < 3; version++ {
		r := produce(version, "topic", []byte("records"))
		r.Topics[0].Partitions[0].Partition = 4
		m := c.ask(int32(version), r).(*kmsg.ProduceResponse)
		if len(m.Topics) != 1 || m.Topics[0].Topic != "topic" || len(m.Topics[0].Partitions) != 1 {
			t.Fatalf("version %d: %+v", version, m)
		}
		if p := m.Topics[0].Partitions[0]; p.Partition != 4 || p.ErrorCode != 35 {
			t.Errorf("version %d: %+v", version, p)
		}
	}
	c.ask(9, produce(3, "topic", nil))
	r := produce(2, "topic", nil)
	r.Acks = 0
	c.send(10, r)
	c.closed()
}

func TestOldAndNewVersionsAreAnswered(t *testing.T) {
	s := start(t, empty, nil)
	c := dial(t, s)
	old := kmsg.NewPtrFetchRequest()
	old.SetVersion(3)
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic = "t"
	topic.Partitions = append(topic.Partitions, kmsg.NewFetchRequestTopicPartition())
	old.Topics = append(old.Topics, topic)
	m := c.ask(1, old).(*kmsg.FetchResponse)
	if len(m.Topics) != 1 || len(m.Topics[0].Partitions) != 1 || m.Topics[0].Partitions[0].ErrorCode != 35 {
		t.Errorf("%+v", m)
	}
	frame := formatter.AppendRequest(nil, heartbeat("g"), 2)
	binary.BigEndian.PutUint16(frame[6:], 5) // one beyond
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	id, body := c.receive()
	if h := decode(t, heartbeat(""), body).(*kmsg.HeartbeatResponse); id != 2 || h.ErrorCode != 35 {
		t.Errorf("answer %d: %+v", id, h)
	}
	// Every key, at versions beyond what is known: answered, and the connection lives on.
	for key := range int16(128) {
		if _, _, ok := fake(nil).Lookup(key); !ok {
			continue
		}
		for _, version := range []uint16{200, 0x8000} {
			frame := formatter.AppendRequest(nil, heartbeat("g"), int32(key))
			binary.BigEndian.PutUint16(frame[4:], uint16(key))
			binary.BigEndian.PutUint16(frame[6:], version)
			if _, err := c.Write(frame); err != nil {
				t.Fatal(err)
			}
			if id, _ := c.receive(); id != int32(key) {
				t.Errorf("key %d version %d: answer %d", key, version, id)
			}
		}
	}
	c.ask(3, heartbeat("g"))
}
