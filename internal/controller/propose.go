package controller

import (
	"context"

	"go.etcd.io/raft/v3"
	raftpb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// entryBytesMax is the size of records at which an entry takes no more commands.
const entryBytesMax = 1 << 20

// call is one command on its way through the loop.
type call struct {
	ctx          context.Context
	command      any
	validateOnly bool
	local        bool         // came from another node: it is not forwarded once more
	done         chan result  // holds one
	notify       func(result) // instead of done, in the loop: the call is the loop's own
}

// result is the answer to a call.
type result struct {
	value any
	err   error
	// offset is the metadata offset that the answer rests on: once it is applied, the asker sees what the answer tells.
	offset metadata.Offset
	// forward is the Raft ID of the node that leads, for the caller to forward to; 0 if this is the answer.
	forward uint64
	// relay asks the caller to forward to any member: this node is not part of the quorum yet and knows no leader.
	relay bool
}

func (c *call) answer(r result) {
	if c.notify != nil {
		c.notify(r)
		return
	}
	c.done <- r
}

// commands is the loop's part for deciding.
type commands struct {
	queue     []*call
	proposals []*proposal
	// speculative is the image after the last proposal; nil if it is to be begun anew with the applied one.
	speculative *metadata.Image
	decided     bool // something was proposed and applied
}

// proposal is an entry on its way to a quorum, with the answers that rest on it.
type proposal struct {
	index, term uint64
	calls       []*call
	results     []result
	// What the entry makes of the image that it was decided on: the fold need not be done twice.
	base, image *metadata.Image
	events      []metadata.Event
}

var (
	errClosing = kafka.ErrRequestTimedOut.With("this node is shutting down; the outcome is not known")
	errLost    = kafka.ErrRequestTimedOut.With("the controller lost its leadership before the change was committed; " +
		"the outcome is not known")
)

func errFailed(err error) error {
	return kafka.ErrKafkaStorageError.With("the metadata WAL of this node failed: %v", err)
}

// refuse answers everybody.
func (c *commands) refuse(err error) {
	for _, p := range c.proposals {
		p.lose(err)
	}
	for _, call := range c.queue {
		call.answer(result{err: err})
	}
	*c = commands{}
}

func (p *proposal) lose(err error) {
	for _, call := range p.calls {
		call.answer(result{err: err})
	}
}

// loseProposals is what losing the leadership does: the proposals may be committed yet, or not.
func (l *loop) loseProposals() {
	for _, p := range l.commands.proposals {
		p.lose(errLost)
	}
	l.commands.proposals, l.commands.speculative = nil, nil
}

// folded is the batch of an entry that this node proposed and that came to be on the very image that it was decided on;
// false if the entry has to be folded.
func (l *loop) folded(e *raftpb.Entry) (metadata.Batch, bool) {
	if len(l.commands.proposals) == 0 {
		return metadata.Batch{}, false
	}
	p := l.commands.proposals[0]
	if p.index != e.GetIndex() || p.term != e.GetTerm() || p.base != l.image {
		return metadata.Batch{}, false
	}
	l.commands.decided = true
	return metadata.Batch{Image: p.image, Events: p.events}, true
}

// applied answers the calls whose entry, or a later one, is applied.
func (l *loop) applied(index, term uint64) {
	c := &l.commands
	for len(c.proposals) > 0 && c.proposals[0].index <= index {
		p := c.proposals[0]
		c.proposals[0] = nil
		c.proposals = c.proposals[1:]
		if p.index != index || p.term != term {
			p.lose(errLost)
			c.speculative = nil
			continue
		}
		for i, call := range p.calls {
			call.answer(p.results[i])
		}
	}
	if len(c.proposals) == 0 {
		c.speculative = nil // it is the applied image, or the same with what Raft put in between
	}
}

// decide decides what waits and proposes one entry. While an append is on its way to the disk, commands gather: the
// next append would only wait for it. It returns true if it proposed.
func (l *loop) decide() bool {
	c := &l.commands
	if len(c.queue) == 0 || l.err != nil {
		return false
	}
	if l.leading == 0 {
		l.passOn()
		return false
	}
	if l.imageTerm != l.leading || l.appending > 0 || !l.mayGrant() {
		return false
	}
	if c.speculative == nil {
		if len(c.proposals) > 0 {
			return false // of which the speculative image is not known any more
		}
		c.speculative = l.image
	}
	b := batch{
		loop:  l,
		entry: &pb.Entry{Term: l.leading, TimeMs: l.o.Clock.Now().UnixMilli()},
		next:  &proposal{index: l.lastIndex + 1, term: l.leading, base: c.speculative, image: c.speculative},
	}
	taken := 0
	for ; taken < len(c.queue) && !b.full(c.queue[taken]); taken++ {
		b.add(c.queue[taken])
		c.queue[taken] = nil
	}
	if c.queue = c.queue[taken:]; len(c.queue) == 0 {
		c.queue = nil
	}
	return l.propose(&b)
}

// passOn hands the calls back to their callers where another node leads, and keeps them where none is known to.
func (l *loop) passOn() {
	if l.known == l.id || l.known == raft.None && !l.outside() && !l.forgotten() {
		return
	}
	var rest []*call
	for _, call := range l.commands.queue {
		switch {
		case call.ctx.Err() != nil: // nobody waits
		case l.known == raft.None && !l.outside() && !tells(call.command):
			rest = append(rest, call)
		case call.local || l.o.Transport == nil:
			call.answer(result{err: kafka.ErrNotController.With("another node is the controller")})
		case l.known == raft.None:
			call.answer(result{relay: true})
		default:
			call.answer(result{forward: l.known})
		}
	}
	l.commands.queue = rest
}

// tells is whether the answer to a command shows its sender that it is no member any more, or makes it one again.
func tells(command any) bool {
	switch command.(type) {
	case metadata.RegisterBroker, metadata.Heartbeat:
		return true
	}
	return false
}

// forgotten tells whether this node has heard of no leader for so long that it may be no member any more, without knowing: it
// was removed while it was away, or before it had the entry that removed it. Its heartbeats ask others then, and registering brings
// it back.
func (l *loop) forgotten() bool {
	return l.o.Transport != nil && l.o.Clock.Now().Sub(l.leaderSeen) > 3*electionTicks*l.o.tick
}

func (l *loop) propose(b *batch) bool {
	c := &l.commands
	if len(b.entry.GetRecords()) == 0 {
		// Nothing to write; but the answers may rest on proposals that are under way.
		if n := len(c.proposals); n > 0 {
			last := c.proposals[n-1]
			last.calls = append(last.calls, b.next.calls...)
			last.results = append(last.results, b.next.results...)
			return false
		}
		l.confirm(b.next)
		return false
	}
	data, err := metadata.EncodeEntry(b.entry)
	if err != nil { // decide lets no text in that cannot be encoded
		l.o.Logger.Error("a metadata change cannot be encoded", "error", err)
		b.next.lose(kafka.ErrUnknownServerError.With("the change cannot be encoded: %v", err))
		c.speculative = nil
		return false
	}
	if err := l.node.Propose(data); err != nil {
		// A leader that is being replaced drops proposals. What was not proposed did not happen; yet the caller cannot
		// know at which point it was lost.
		b.next.lose(errLost)
		c.speculative = nil
		return false
	}
	c.proposals = append(c.proposals, b.next)
	c.speculative = b.next.image
	return true
}

// batch is one entry in the making.
type batch struct {
	loop  *loop
	entry *pb.Entry
	next  *proposal
	bytes int
	// registered are the brokers with a registration in this entry: a broker's epoch is the entry's offset, so that two
	// registrations of one broker need two entries.
	registered map[kafka.BrokerID]bool
}

func (b *batch) full(c *call) bool {
	if r, ok := c.command.(metadata.RegisterBroker); ok && b.registered[r.ID] {
		return true
	}
	return b.bytes >= entryBytesMax
}

// add decides a call and takes its records into the entry.
func (b *batch) add(c *call) {
	if c.ctx.Err() != nil {
		return // nobody waits; what was not decided does not happen
	}
	d, err := b.loop.decideOn(b.next.image, c.command)
	r := result{err: err, offset: b.next.image.Offset()}
	if err == nil {
		image := b.next.image
		var events []metadata.Event
		if len(d.records) > 0 {
			image, events = image.Apply(metadata.Offset(b.next.index),
				&pb.Entry{Term: b.entry.GetTerm(), TimeMs: b.entry.GetTimeMs(), Records: d.records})
		}
		if d.answer != nil {
			r.value = d.answer(image)
		}
		if !c.validateOnly {
			b.take(d.records)
			b.next.image = image
			r.offset = image.Offset()
			b.next.events = append(b.next.events, events...)
		}
	}
	b.next.calls = append(b.next.calls, c)
	b.next.results = append(b.next.results, r)
}

// take adds the records to the entry.
func (b *batch) take(records []*pb.Record) {
	b.entry.Records = append(b.entry.Records, records...)
	for _, r := range records {
		b.bytes += proto.Size(r)
		if reg := r.GetBrokerRegistered(); reg != nil {
			if b.registered == nil {
				b.registered = map[kafka.BrokerID]bool{}
			}
			b.registered[kafka.BrokerID(reg.GetId())] = true
		}
	}
}
