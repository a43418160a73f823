package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/kafka"
	"chronik/internal/sim/simnet"
)

// groupKind is a protocol of consumer groups.
type groupKind int8

const (
	classicGroup groupKind = iota
	consumerGroup
	migratingGroup // each process of a member speaks one or the other: the group changes with members in it
)

// topicPattern is what some members under KIP-848 subscribe to in place of the topic: topics that come and go are theirs too.
const topicPattern = topic + "|" + extraPrefix + ".*"

// place is a partition of any topic.
type place struct {
	topic     kafka.TopicID
	partition int32
}

func (p place) String() string { return fmt.Sprintf("partition %d of topic %v", p.partition, p.topic) }

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
	byRegex   bool    // it subscribes to topicPattern
	others    []place
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
	consumer  bool // the protocol is that of KIP-848
	byRegex   bool
	id        string
	epoch     int32 // generation or member epoch
	owned     []int32
	others    []place // of other topics
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
	p.consumer = m.group.kind == consumerGroup || m.group.kind == migratingGroup && m.rng.IntN(2) == 0
	if p.consumer {
		p.byRegex = m.rng.IntN(3) == 0
		p.protocol = newConsumerMember(p)
	} else {
		p.protocol = &classicMember{membership: p}
	}
	m.mu.Lock()
	m.mu.current, m.mu.state = p, memberState{name: name}
	m.mu.Unlock()
	m.trace.note("%s of group %s begins, instance %q, KIP-848: %v, by regular expression: %v", name, m.group.name, m.instance, p.consumer, p.byRegex)
	return p
}

func (p *membership) exit(how string, leave bool) {
	if leave && p.id != "" {
		p.commit()
		p.disown(p.owned)
		p.disownOthers(p.others)
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
		p.group.released(p, place{p.topicID, q})
		delete(p.committed, q)
	}
}

// disownOthers lets go of partitions of other topics.
func (p *membership) disownOthers(gone []place) {
	for _, o := range gone {
		p.group.released(p, o)
	}
	p.others = slices.DeleteFunc(slices.Clone(p.others), func(o place) bool { return slices.Contains(gone, o) })
}

// lose is what a member does that is told that it is none.
func (p *membership) lose(why error) {
	p.trace.note("%s: %v", p, why)
	p.disown(p.owned)
	p.disownOthers(p.others)
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
	s := memberState{name: p.name, joined: joined, epoch: p.epoch, byRegex: p.byRegex}
	if joined {
		s.others = slices.Clone(p.others)
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
