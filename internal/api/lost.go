package api

import (
	"context"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// A client whose broker dies asks another one at once who leads now, often before the controller has decided. An answer that
// names the dead broker once more sends the client there again, and many wait long before they ask again (franz-go 5 s). So
// an answer that would name a broker that this node has just lost sight of waits for the election, for a moment.

const (
	electionPoll = 5 * time.Millisecond
	electionWait = 1000 // milliseconds, for one request
)

// lost are the brokers that the metadata call live and that this node has just lost sight of; nil for none.
func (h *Handlers) lost(img *metadata.Image) map[kafka.BrokerID]bool {
	if h.Lost == nil {
		return nil
	}
	var lost map[kafka.BrokerID]bool
	for b := range img.Brokers() {
		if !b.Fenced && b.ID != h.NodeID && h.Lost(b.ID) {
			if lost == nil {
				lost = map[kafka.BrokerID]bool{}
			}
			lost[b.ID] = true
		}
	}
	return lost
}

// awaitElection waits, for a second at most, while the answer would name one of the lost.
func (h *Handlers) awaitElection(ctx context.Context, names func(img *metadata.Image, lost map[kafka.BrokerID]bool) bool) {
	img := h.Store.Image()
	lost := h.lost(img)
	if lost == nil || !names(img, lost) {
		return
	}
	ctx, cancel := h.within(ctx, electionWait)
	defer cancel()
	for lost != nil && names(img, lost) && h.pause(ctx, electionPoll) {
		img = h.Store.Image()
		lost = h.lost(img)
	}
}

// ledBy tells whether one of the brokers leads a partition of the topic.
func ledBy(topic *metadata.Topic, brokers map[kafka.BrokerID]bool) bool {
	if topic == nil {
		return false
	}
	for p := range topic.Partitions.All() {
		if brokers[p.Leader] {
			return true
		}
	}
	return false
}

// anyLedBy is ledBy for the topics of these names, or for all.
func anyLedBy(img *metadata.Image, all bool, names []string, brokers map[kafka.BrokerID]bool) bool {
	if all {
		for topic := range img.Topics() {
			if ledBy(topic, brokers) {
				return true
			}
		}
		return false
	}
	for _, name := range names {
		if ledBy(img.Topic(name), brokers) {
			return true
		}
	}
	return false
}
