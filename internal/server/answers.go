package server

import (
	"time"

	"chronik/internal/wire"
)

// Answers that are copied (all but the sections of files) are counted while they are sent, where they are worth it. Over the
// bound the sweeper closes clients that do not take theirs, and meanwhile no further answer is made that is likely to be
// large: other requests go on.

// pressedPoll is how often a reply that waits for others' answers to be gone looks again.
const pressedPoll = 100 * time.Millisecond

// awaitAnswers waits while more copied answers are held than should be, if the request's is likely to add to that.
func (c *connection) awaitAnswers(it *inflight) {
	for c.server.answersOver() && c.answerGrows(it.key) {
		c.flush() // it must not be its own answers that it waits for
		timer := c.server.opts.Clock.NewTimer(pressedPoll)
		select {
		case <-timer.C():
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// encodersAtOnce is how many answers that may be large are encoded side by side: they are counted once they are encoded.
const encodersAtOnce = 4

// takeTurn waits for a place to encode an answer; the returned function gives it back.
func (c *connection) takeTurn(it *inflight) (done func()) {
	for {
		c.awaitAnswers(it)
		select {
		case c.server.encoding <- struct{}{}:
		case <-c.ctx.Done():
			return func() {}
		}
		if !c.server.answersOver() || c.ctx.Err() != nil {
			return func() { <-c.server.encoding }
		}
		<-c.server.encoding
	}
}

// holdOut counts what is encoded, once it is worth it, and dropOut forgets it.
func (c *connection) holdOut() {
	if n := int64(len(c.out.B)); n > countedBytes {
		c.server.responses.Force(n - c.held)
		c.copied.Add(n - c.held)
		c.held = n
	}
}

func (c *connection) dropOut() {
	if c.held > 0 {
		c.copied.Add(-c.held)
		c.server.responses.Release(c.held)
		c.held = 0
	}
}

func (s *Server) answersOver() bool { return s.responses.Used() > s.opts.Limits.ResponsesInFlightBytes }

// answerGrows tells whether the answers to a key grow with the cluster or with the request. A consumer's Fetch does where its
// last one did; records are not copied.
func (c *connection) answerGrows(key int16) bool {
	switch key {
	case produceKey, apiVersionsKey, offsetCommitKey, findCoordinatorKey, joinGroupKey, heartbeatKey, leaveGroupKey, syncGroupKey, initProducerIDKey,
		consumerGroupHeartbeatKey:
		return false
	case fetchKey:
		return !c.leanFetch
	}
	return true
}

const (
	fetchKey                  = 1
	offsetCommitKey           = 8
	findCoordinatorKey        = 10
	joinGroupKey              = 11
	heartbeatKey              = 12
	leaveGroupKey             = 13
	syncGroupKey              = 14
	initProducerIDKey         = 22
	consumerGroupHeartbeatKey = 68
)

// holdPayload counts the bytes of a payload that are in memory; the returned function forgets them.
func (c *connection) holdPayload(key int16, p *wire.Payload) (drop func()) {
	held := int64(0)
	for i := range p.Parts {
		held += int64(len(p.Parts[i].Bytes))
	}
	if key == fetchKey {
		c.leanFetch = held <= countedBytes
	}
	if held <= countedBytes {
		return func() {}
	}
	c.server.responses.Force(held)
	c.copied.Add(held)
	return func() {
		c.copied.Add(-held)
		c.server.responses.Release(held)
	}
}
