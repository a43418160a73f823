package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/sim/simnet"
)

// groupKind is a protocol of consumer groups.
type groupKind int8

const (
	classicGroup groupKind = iota
	consumerGroup
)

// What members ask for; the nodes' configuration allows it.
const (
	memberSession   = 3 * time.Second
	memberRebalance = 4 * time.Second
	memberHeartbeat = 400 * time.Millisecond
)

// member is a client machine whose processes, one after the other, are a member of a group.
type member struct {
	*groups
	group    *groupHistory
	number   int
	instance string // group.instance.id; "" for a dynamic member
	rng      *rand.Rand
	lives    int
	mu       struct {
		sync.Mutex
		current *membership // the last process that was started
		state   memberState // what it believes
	}
}

// memberState is what a member believes, for others to look at.
type memberState struct {
	name      string
	joined    bool
	epoch     int32
	owned     []int32
	committed []int64 // by the member itself or by those before it, as far as it knows
}

func (m *member) state() memberState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.state
}

// membership is one process of a member.
type membership struct {
	*member
	name    string
	process *simnet.Process
	caller  *caller
	rng     *rand.Rand
	node    int // the coordinator, as far as it knows
	sure    bool

	protocol  protocol
	id        string
	epoch     int32 // generation or member epoch
	owned     []int32
	committed map[int32]int64
	reader    *reader // of what it owns
	fenced    bool    // another process has its group.instance.id
	last      identity
	stale     []identity

	usurped   string // of groupHistory.mu
	usurpedAt time.Time
}

// identity is that of a member in a generation, or in a member epoch. One of those before the last it was told of is stale:
// nothing may be committed under it any more.
type identity struct {
	id    string
	epoch int32
}

// become takes over what the coordinator says.
func (p *membership) become(epoch int32) {
	if now := (identity{p.id, epoch}); now != p.last {
		if p.last.epoch > 0 {
			p.stale = append(p.stale, p.last)
		}
		p.last = now
	}
	p.epoch = epoch
}

// protocol is what differs between the classic groups and those of KIP-848.
type protocol interface {
	// join tries to become a member, which needs some tries.
	join() bool
	// heartbeat keeps the membership; it joins, gives up and takes partitions as the coordinator says.
	heartbeat()
	leave()
	interval() time.Duration
	// disowns tells whether commits of a partition under an earlier generation or epoch must be refused.
	disowns(partition int32) bool
}

func (p *membership) String() string { return fmt.Sprintf("%s (%s)", p.name, p.id) }

// live is a machine's life: processes that work, pause, crash, leave, or are replaced while they run.
func (m *member) live() {
	m.sleep(between(m.rng, 0, 2*time.Second))
	for m.ctx.Err() == nil {
		p := m.boot()
		for p.work(between(m.rng, 500*time.Millisecond, 6*time.Second)) {
			if m.isCalm() {
				continue
			}
			if m.rng.IntN(2) > 0 {
				away := between(m.rng, memberSession/2, 3*memberSession)
				m.trace.note("%s pauses for %v", p, away)
				m.sleep(away)
				continue
			}
			break
		}
		m.end(p)
	}
}

// end is how a process ends.
func (m *member) end(p *membership) {
	switch {
	case m.ctx.Err() != nil || p.fenced:
		p.exit("ends", false)
	case m.instance != "" && m.rng.IntN(2) == 0:
		m.trace.note("%s goes on while another is started in its place", p)
		m.running.Go(func() {
			for p.work(time.Second) && !m.isCalm() {
			}
			p.exit("was replaced", false)
		})
	case m.rng.IntN(2) == 0:
		p.exit("leaves", true)
	default:
		p.exit("crashes", false)
		m.sleep(between(m.rng, 0, 2*memberSession))
	}
	m.sleep(between(m.rng, 0, time.Second))
}

func (m *member) isCalm() bool {
	select {
	case <-m.calm:
		return true
	default:
		return false
	}
}

func (m *member) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-m.ctx.Done():
	}
}

func (m *member) boot() *membership {
	m.lives++
	name := fmt.Sprintf("m%d.%d", m.number, m.lives)
	p := &membership{member: m, name: name, process: m.net.Host(memberIP(m.number)).Boot(), node: 1,
		rng: rand.New(rand.NewPCG(m.rng.Uint64(), 1)), committed: map[int32]int64{}}
	p.caller = newCaller(m.cluster, p.process, name)
	if m.group.consumer {
		p.protocol = newConsumerMember(p)
	} else {
		p.protocol = &classicMember{membership: p}
	}
	m.mu.Lock()
	m.mu.current, m.mu.state = p, memberState{name: name}
	m.mu.Unlock()
	m.trace.note("%s of group %s begins, instance %q", name, m.group.name, m.instance)
	return p
}

func (p *membership) exit(how string, leave bool) {
	if leave && p.id != "" {
		p.commit()
		p.disown(p.owned)
		p.protocol.leave()
	}
	p.trace.note("%s %s", p, how)
	p.stop()
	p.caller.close()
	p.process.Kill()
	p.publish(false)
}

// work polls, commits and sends heartbeats for a while; false if the process has nothing to do any more.
func (p *membership) work(d time.Duration) bool {
	end := time.Now().Add(d)
	heartbeat, commit := time.Now(), time.Now().Add(between(p.rng, 100*time.Millisecond, time.Second))
	for time.Now().Before(end) && p.ctx.Err() == nil && !p.fenced {
		if p.id == "" || p.epoch <= 0 {
			if !p.protocol.join() {
				p.sleep(between(p.rng, 50*time.Millisecond, 300*time.Millisecond))
			}
			heartbeat = time.Now().Add(p.protocol.interval())
			continue
		}
		if !time.Now().Before(heartbeat) {
			p.protocol.heartbeat()
			heartbeat = time.Now().Add(p.protocol.interval())
		}
		if !time.Now().Before(commit) {
			p.commit()
			if p.rng.IntN(4) == 0 {
				p.replay()
			}
			commit = time.Now().Add(between(p.rng, 100*time.Millisecond, time.Second))
		}
		p.poll()
	}
	return p.ctx.Err() == nil && !p.fenced
}

// poll processes what has come.
func (p *membership) poll() {
	if p.reader == nil {
		p.sleep(100 * time.Millisecond)
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, 100*time.Millisecond)
	defer cancel()
	p.reader.take(p.reader.client.PollFetches(ctx))
	p.sleep(20 * time.Millisecond)
}

// own takes over what the group consumes from there on: partitions that the member owns now, with the offsets to begin
// at for those that are new.
func (p *membership) own(owned []int32, begin map[int32]int64) {
	next := map[int32]int64{}
	for _, q := range owned {
		at, ok := begin[q]
		if ok {
			p.committed[q] = at
		} else {
			at = p.reader.next[partition{topic, q}]
		}
		next[q] = at
	}
	p.stop()
	p.owned = slices.Clone(owned)
	if len(owned) > 0 {
		p.read(next)
	}
	p.publish(true)
}

// disown lets go of partitions.
func (p *membership) disown(partitions []int32) {
	for _, q := range partitions {
		p.group.released(p, q)
		delete(p.committed, q)
	}
}

// lose is what a member does that is told that it is none.
func (p *membership) lose(why error) {
	p.trace.note("%s: %v", p, why)
	p.disown(p.owned)
	p.group.noLonger(p)
	p.epoch = 0
	p.own(nil, nil)
	p.publish(false)
}

func (p *membership) read(next map[int32]int64) {
	starts := map[int32]kgo.Offset{}
	r := &reader{workload: p.workload, name: p.String(), next: map[partition]int64{}}
	for q, at := range next {
		starts[q] = kgo.NewOffset().At(at)
		r.next[partition{topic, q}] = at
	}
	r.seen = func(q partition, record *kgo.Record) { p.group.processed(q.number, record.Offset) }
	client, err := p.clientOn(p.process, p.name,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(500*time.Millisecond), kgo.KeepRetryableFetchErrors())
	if err != nil {
		p.fail("%s: %v", p, err)
		return
	}
	r.client = client
	p.reader = r
}

func (p *membership) stop() {
	if p.reader != nil {
		p.reader.client.Close()
		p.reader = nil
	}
}

// publish tells those who wait for the groups to settle.
func (p *membership) publish(joined bool) {
	s := memberState{name: p.name, joined: joined, epoch: p.epoch}
	if joined {
		s.owned = slices.Clone(p.owned)
		for _, q := range p.owned {
			s.committed = append(s.committed, p.committed[q])
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.current == p { // and not one that was replaced and goes on
		p.mu.state = s
	}
}

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
	if !p.protocol.disowns(q) {
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
	if p.instance != "" && !p.group.consumer {
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
	if p.group.consumer {
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
