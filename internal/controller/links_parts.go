package controller

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/peer"
)

const (
	partBytes      = 256 << 10 // of a Raft message; what is larger goes in parts
	partTimeout    = 5 * time.Second
	messageBytes   = 1 << 30 // of one Raft message at most
	partsReceiving = 4       // messages that are being received at a time; the one that was begun first makes room
)

// parts is a large message on its way here.
type parts struct {
	from     [16]byte // incarnation
	transfer uint64
	next     uint32
	data     []byte
	number   uint64 // of all that were begun here
}

// sendParts sends a message in parts, each when the one before has arrived; false if another one is under way. delivered
// is called, unless false is returned.
func (l *Links) sendParts(to kafka.BrokerID, message []byte, delivered func(ok bool)) bool {
	l.mu.Lock()
	busy := l.mu.sending[to]
	if !busy {
		l.mu.sending[to] = true
		l.mu.transfers++
	}
	transfer := l.mu.transfers
	l.mu.Unlock()
	if busy || l.ctx.Err() != nil {
		return false
	}
	l.under.Go(func() {
		err := l.sendAll(to, transfer, message)
		if err != nil {
			l.o.Logger.Debug("a large Raft message was not delivered", "to", to, "bytes", len(message), "error", err)
		}
		l.mu.Lock()
		delete(l.mu.sending, to)
		l.mu.Unlock()
		delivered(err == nil)
	})
	return true
}

func (l *Links) sendAll(to kafka.BrokerID, transfer uint64, message []byte) error {
	size := uint64(len(message))
	for number := uint32(0); ; number++ {
		n := min(len(message), partBytes)
		body, err := proto.Marshal(&pb.RaftPart{Transfer: transfer, Number: number, Last: n == len(message), Size: size, Data: message[:n]})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(l.ctx, partTimeout)
		_, err = l.o.Peers.Call(ctx, to, peer.RaftPart, body)
		cancel()
		if err != nil {
			return err
		}
		if message = message[n:]; len(message) == 0 {
			return nil
		}
	}
}

// onPart gathers the parts; with the last one the message goes to the controller.
func (l *Links) onPart(_ context.Context, from peer.Identity, body []byte) ([]byte, error) {
	part := &pb.RaftPart{}
	if err := proto.Unmarshal(body, part); err != nil {
		return nil, fmt.Errorf("a part of a Raft message: %w", err)
	}
	message, err := l.gather(from, part)
	if err != nil {
		return nil, err
	}
	if message != nil {
		l.deliver(from, message)
	}
	return nil, nil
}

// gather returns the message once it is whole.
func (l *Links) gather(from peer.Identity, part *pb.RaftPart) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.mu.receiving[from.Broker]
	if part.GetNumber() == 0 {
		if part.GetSize() > messageBytes {
			return nil, fmt.Errorf("a Raft message of %d bytes; at most %d are accepted", part.GetSize(), messageBytes)
		}
		if p == nil && len(l.mu.receiving) >= partsReceiving {
			l.forgetOldestLocked() // its sender may be dead, and begins again if it is not
		}
		l.mu.begun++
		p = &parts{from: from.Incarnation, transfer: part.GetTransfer(), number: l.mu.begun}
		l.mu.receiving[from.Broker] = p
	}
	if p == nil || p.from != from.Incarnation || p.transfer != part.GetTransfer() || p.next != part.GetNumber() {
		return nil, fmt.Errorf("part %d of Raft message %d does not follow what came before", part.GetNumber(), part.GetTransfer())
	}
	p.next++
	p.data = append(p.data, part.GetData()...)
	switch {
	case uint64(len(p.data)) > part.GetSize(), part.GetLast() && uint64(len(p.data)) != part.GetSize():
		delete(l.mu.receiving, from.Broker)
		return nil, fmt.Errorf("a Raft message announces %d bytes and has %d", part.GetSize(), len(p.data))
	case !part.GetLast():
		return nil, nil
	}
	delete(l.mu.receiving, from.Broker)
	return p.data, nil
}

func (l *Links) forgetOldestLocked() {
	var oldest *parts
	var of kafka.BrokerID
	for id, p := range l.mu.receiving {
		if oldest == nil || p.number < oldest.number {
			oldest, of = p, id
		}
	}
	delete(l.mu.receiving, of)
}

// forgetParts lets go of what a process has begun to send that is gone.
func (l *Links) forgetParts(from peer.Identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p := l.mu.receiving[from.Broker]; p != nil && p.from == from.Incarnation {
		delete(l.mu.receiving, from.Broker)
	}
}
