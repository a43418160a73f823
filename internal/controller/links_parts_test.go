package controller

import (
	"testing"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/peer"
)

// TestPartsOfTheDead: messages whose senders died in the middle keep nobody else's out, and are let go of once that is known.
func TestPartsOfTheDead(t *testing.T) {
	l := &Links{}
	l.mu.receiving = map[kafka.BrokerID]*parts{}
	who := func(id kafka.BrokerID) peer.Identity {
		return peer.Identity{Broker: id, Incarnation: [16]byte{byte(id)}}
	}
	begin := func(id kafka.BrokerID) error {
		_, err := l.gather(who(id), &pb.RaftPart{Transfer: 1, Size: 10, Data: []byte("12345")})
		return err
	}
	for id := kafka.BrokerID(1); id <= 2*partsReceiving; id++ {
		if err := begin(id); err != nil {
			t.Fatalf("broker %d: %v", id, err)
		}
		if n := len(l.mu.receiving); n > partsReceiving {
			t.Fatalf("%d messages are held", n)
		}
	}
	if whole, err := l.gather(who(2*partsReceiving), &pb.RaftPart{Transfer: 1, Number: 1, Size: 10, Last: true, Data: []byte("67890")}); err != nil || len(whole) != 10 {
		t.Fatal(whole, err)
	}
	if _, err := l.gather(who(1), &pb.RaftPart{Transfer: 1, Number: 1, Size: 10, Last: true, Data: []byte("67890")}); err == nil {
		t.Fatal("the rest of a message whose beginning was let go of")
	}
	l.onEvent(peer.Event{Kind: peer.Down, Broker: partsReceiving + 1, Identity: who(partsReceiving + 1)})
	if l.mu.receiving[partsReceiving+1] != nil {
		t.Fatal("what a dead process has begun to send is held for ever")
	}
}
