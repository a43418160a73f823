package sim

import (
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// commit commits where the member is.
func (p *membership) commit() {
	offsets := map[int32]int64{}
	for _, q := range p.owned {
		if at := p.reader.next[partition{topic, q}]; at > p.committed[q] {
			offsets[q] = at
		}
	}
	if len(offsets) == 0 {
		return
	}
	acked, _ := p.send(p.id, p.epoch, offsets)
	for _, q := range acked {
		p.committed[q] = offsets[q]
	}
	p.publish(true)
}

// replay sends a commit of somebody that the member was and is no more, which must be refused (15).
func (p *membership) replay() {
	if len(p.stale) == 0 {
		return
	}
	old := p.stale[p.rng.IntN(len(p.stale))]
	q := p.rng.Int32N(int32(p.plan.partitions))
	if !p.protocol.disowns(q) || old.id == p.id && old.epoch >= p.epoch { // the group was empty in between, and has begun anew
		return
	}
	acked, code := p.send(old.id, old.epoch, map[int32]int64{q: 0})
	if len(acked) > 0 {
		p.fail("invariant 15: a commit of member %s in generation %d was acknowledged to %s, who was told of generation %d (code %d)", old.id, old.epoch, p, p.epoch, code)
	}
}

// send sends one OffsetCommit, and returns the partitions for which it was acknowledged, and the last error code.
func (p *membership) send(id string, epoch int32, offsets map[int32]int64) (acked []int32, code int16) {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 9, p.group.name, id, epoch
	if p.instance != "" && !p.consumer {
		req.InstanceID = &p.instance
	}
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	attempts := map[int32]*attempt{}
	for q := range int32(p.plan.partitions) {
		at, ok := offsets[q]
		if !ok {
			continue
		}
		attempts[q] = p.group.committing(id, epoch, q, at)
		metadata := strconv.Itoa(attempts[q].number)
		row := kmsg.NewOffsetCommitRequestTopicPartition()
		row.Partition, row.Offset, row.Metadata = q, at, &metadata
		t.Partitions = append(t.Partitions, row)
	}
	req.Topics = append(req.Topics, t)
	began := time.Now()
	resp, err := p.ask(req, callLimit)
	if err != nil {
		return nil, -1
	}
	for _, t := range resp.(*kmsg.OffsetCommitResponse).Topics {
		for _, row := range t.Partitions {
			p.group.answered(attempts[row.Partition], row.ErrorCode, began)
			if row.ErrorCode == 0 {
				acked = append(acked, row.Partition)
				p.group.isMember(p, began)
			} else {
				code = row.ErrorCode
			}
		}
	}
	if code != 0 {
		p.judge(code)
	}
	return acked, code
}

// ask sends a request to the coordinator, which it looks for if it must.
func (p *membership) ask(req kmsg.Request, limit time.Duration) (kmsg.Response, error) {
	if !p.sure {
		id, err := p.caller.coordinator(p.node, p.group.name)
		if err != nil {
			p.node = 1 + p.rng.IntN(len(p.nodes)) // another may know
			return nil, err
		}
		p.node, p.sure = id, true
	}
	resp, err := p.caller.call(p.node, req, limit)
	if err != nil {
		p.trace.note("%s: %T to n%d: %v", p, req, p.node, err)
		p.sure = false
	}
	return resp, err
}

// judge remembers that a coordinator is none.
func (p *membership) judge(code int16) {
	switch code {
	case 14, 15, 16: // COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR
		p.sure = false
	}
}

// positions fetches where the group is, in some partitions; an error code tells why it cannot.
func (p *membership) positions(partitions []int32) (map[int32]int64, int16) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 9
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = p.group.name
	if p.consumer {
		g.MemberID, g.MemberEpoch = &p.id, p.epoch
	}
	t := kmsg.NewOffsetFetchRequestGroupTopic()
	t.Topic, t.Partitions = topic, partitions
	g.Topics = append(g.Topics, t)
	req.Groups = append(req.Groups, g)
	began := time.Now()
	resp, err := p.ask(req, callLimit)
	if err != nil {
		return nil, -1
	}
	found := resp.(*kmsg.OffsetFetchResponse).Groups[0]
	if found.ErrorCode != 0 {
		p.judge(found.ErrorCode)
		return nil, found.ErrorCode
	}
	at := map[int32]int64{}
	for _, t := range found.Topics {
		for _, row := range t.Partitions {
			if row.ErrorCode != 0 {
				p.judge(row.ErrorCode)
				return nil, row.ErrorCode
			}
			metadata := ""
			if row.Metadata != nil {
				metadata = *row.Metadata
			}
			p.group.fetched(p.String(), row.Partition, row.Offset, metadata, began)
			at[row.Partition] = max(row.Offset, 0)
		}
	}
	return at, 0
}
