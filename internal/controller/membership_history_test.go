package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// TestMembershipHistories removes brokers, dead and alive, heard and unheard, wipes their disks, adds brokers, and kills, pauses,
// stops and cuts them off, in random order and several at a time, while topics are made. When it is over all nodes are live
// members of one cluster again, with three voters or more, and have what was acknowledged.
func TestMembershipHistories(t *testing.T) {
	for seed := range histories(t, 12) {
		bubble(t, func(t *testing.T) {
			h := &membershipHistory{t: t, rng: rand.New(rand.NewPCG(seed, 9)), removed: map[kafka.BrokerID]bool{}}
			size := []int{1, 3, 3, 5}[seed%4]
			h.l = newLives(t, 5000+seed, size, time.Second)
			h.run()
		})
	}
}

type membershipHistory struct {
	t   *testing.T
	l   *lives
	rng *rand.Rand
	log []string

	mu      sync.Mutex // which process a machine has
	acked   []string
	resumes []func()
	removed map[kafka.BrokerID]bool // since it was last seen as a member
}

func (h *membershipHistory) note(format string, args ...any) {
	h.log = append(h.log, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

func (h *membershipHistory) run() {
	l := h.l
	defer l.close()
	defer func() {
		if h.t.Failed() {
			h.t.Logf("seed %d:", l.seed)
			for _, line := range h.log {
				h.t.Log(line)
			}
		}
	}()
	l.net.delay = time.Duration(1+h.rng.Int64N(30)) * time.Millisecond
	l.net.loss = h.rng.Float64() * 0.02
	l.snapshot = 4 << 10
	l.sync = time.Duration(h.rng.Int64N(20)) * time.Millisecond
	l.net.silent = h.rng.IntN(4) == 0
	l.startAll()
	l.formed()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for client := range 3 {
		own := rand.New(rand.NewPCG(h.rng.Uint64(), 10))
		work.Go(func() { h.client(ctx, client, own) })
	}
	if len(l.machines) >= 3 {
		l.topic(replicatedTopic, 6, 3)
		defer l.readmit(replicatedTopic)()
	}
	for range 15 + h.rng.IntN(15) {
		time.Sleep(time.Duration(h.rng.Int64N(int64(2 * time.Second))))
		h.nemesis()
		h.revive()
	}
	h.heal()
	time.Sleep(time.Second)
	cancel()
	work.Wait()
	h.end()
}

// end wants everything whole.
func (h *membershipHistory) end() {
	l := h.l
	l.net.set(func() { l.net.loss = 0 })
	h.converges()
	h.votes()
	h.led()
	l.converged()
	img := l.image()
	for _, name := range h.acked {
		if img.Topic(name) == nil {
			h.t.Errorf("seed %d: topic %s was acknowledged and is gone", l.seed, name)
		}
	}
	if len(h.acked) == 0 {
		h.t.Errorf("seed %d: nothing was acknowledged", l.seed)
	}
	// Raft's own idea of the members is the image's, and nobody is left in between.
	l.eventually("Raft's members those of the image", time.Minute, func() bool {
		ok := false
		m := l.leader()
		m.inLoop(func(o *loop) {
			var want []uint64
			for b := range o.image.Brokers() {
				want = append(want, RaftID(b.Directory))
			}
			got := slices.Concat(o.confState.GetVoters(), o.confState.GetLearners())
			slices.Sort(want)
			slices.Sort(got)
			ok = slices.Equal(want, got) && len(o.confState.GetVotersOutgoing()) == 0
		})
		return ok
	})
}

const replicatedTopic = "replicated"

// led waits until all replicas of the topic are in sync again. A partition whose last replica in sync was removed has none any more:
// that needs a person.
func (h *membershipHistory) led() {
	l := h.l
	if l.image().Topic(replicatedTopic) == nil {
		return
	}
	l.eventually("all replicas in sync and led", time.Minute, func() bool {
		for p := range l.image().Topic(replicatedTopic).Partitions.All() {
			if len(p.ISR) == 0 && p.Leader == kafka.NoLeader {
				continue
			}
			if p.Leader == kafka.NoLeader || len(p.ISR) < len(p.Replicas) || len(p.ELR) > 0 {
				return false
			}
		}
		return true
	})
}

// votes waits until there are as many voters as there ought to be, all of them members.
func (h *membershipHistory) votes() {
	l := h.l
	want := 3
	if len(l.machines) < 3 {
		want = 1
	}
	l.eventually("enough voters, all of them members", time.Minute, func() bool {
		img := l.leader().controller().Image()
		for _, v := range img.Voters() {
			if b := img.Broker(v.ID); b == nil || b.Directory != v.Directory {
				return false
			}
		}
		return len(img.Voters()) >= want
	})
}

// converges waits until all are live, and starts those again that ended themselves, as a supervisor does.
func (h *membershipHistory) converges() {
	l := h.l
	l.eventually("all nodes in the cluster", 2*time.Minute, func() bool {
		h.revive()
		for _, m := range l.machines {
			if !m.registered() {
				return false
			}
			b := m.controller().Image().Broker(m.id)
			if b == nil || b.Fenced || b.Directory != m.p.directory || !l.agent(m).Held() {
				return false
			}
		}
		return true
	})
	l.oneCluster()
}

// revive starts processes again that have ended by themselves.
func (h *membershipHistory) revive() {
	l := h.l
	for _, m := range l.machines {
		if m.p == nil {
			continue
		}
		m.p.mu.Lock()
		failed, fatal := m.p.err, m.p.fatal
		m.p.mu.Unlock()
		l.mu.Lock()
		ended := l.fatal[m.id]
		delete(l.fatal, m.id)
		l.mu.Unlock()
		if fatal != nil {
			h.t.Errorf("seed %d: node %d: %v", l.seed, m.id, fatal)
		}
		if failed == nil && ended == nil && fatal == nil {
			continue
		}
		h.note("node %d ended: %v %v", m.id, failed, ended)
		// A name is taken for some time by the process of before; otherwise nobody may end by what was done to it.
		if err := errors.Join(failed, ended); err != nil && !errors.Is(err, kafka.ErrDuplicateBrokerRegistration) {
			h.t.Errorf("seed %d: node %d ended: %v", l.seed, m.id, err)
		}
		h.kill(m, nil)
		h.start(m)
	}
}

func (h *membershipHistory) set(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
}

func (h *membershipHistory) start(m *machine) { h.set(func() { m.start() }) }

func (h *membershipHistory) kill(m *machine, power *rand.Rand) {
	h.resume() // a loop that is stopped would not end
	var p *process
	h.set(func() { p, m.p = m.p, nil })
	m.crash(p, power)
}

// voters are those of the newest image.
func (h *membershipHistory) voters() []metadata.Voter {
	if img := h.l.image(); img != nil {
		return img.Voters()
	}
	return nil
}

// down are the machines that count nothing for a quorum.
func (h *membershipHistory) down(of []metadata.Voter) int {
	n := 0
	for _, v := range of {
		m := h.l.machines[v.ID-1]
		if m.p == nil || m.p.directory != v.Directory && m.p.directory != [16]byte{} {
			n++
		}
	}
	return n
}

// nemesis does one thing. No quorum is killed but all at once, which come back; disks are lost one at a time, of a whole cluster.
func (h *membershipHistory) nemesis() {
	l, rng := h.l, h.rng
	m := l.machines[rng.IntN(len(l.machines))]
	voters := h.voters()
	spare := h.down(voters) < (len(voters)-1)/2
	switch what := rng.IntN(16); {
	case what == 0:
		h.note("the net is whole, the paused go on")
		h.calm()
	case what == 1 && len(l.machines) < 6:
		id := kafka.BrokerID(len(l.machines) + 1)
		h.note("node %d joins", id)
		h.set(func() {
			l.add(id, nil, l.machines[rng.IntN(len(l.machines))].address).start()
		})
	case m.p == nil:
		h.note("start %d", m.id)
		h.start(m)
	case what == 2:
		h.note("the power goes for all")
		for _, m := range l.machines {
			if m.p != nil {
				h.kill(m, rng)
			}
		}
		for _, i := range rng.Perm(len(l.machines)) {
			time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
			h.start(l.machines[i])
		}
	case what <= 5:
		h.unregister(m)
	case what == 6:
		h.note("cut %d", m.id)
		l.net.set(func() { l.net.cut[m.id] = true })
	case what == 7:
		h.note("disturb")
		l.net.set(func() { l.disturb(rng) })
	case what == 8 && m.controller() != nil:
		h.note("pause %d", m.id)
		h.resumes = append(h.resumes, m.pause())
		if rng.IntN(2) == 0 {
			time.Sleep(time.Duration(rng.Int64N(int64(4 * time.Second))))
			h.calm()
		}
	case what == 9 && m.controller() != nil:
		h.note("hand over at %d", m.id)
		c := m.controller()
		c.inbox.post(func() { c.loop.giveUpLeadership("the test") })
	case what == 10 && len(voters) >= 3:
		h.wipe(m)
	case what == 11:
		h.unheard(m)
	case !spare:
	case what == 12:
		h.note("stop %d", m.id)
		h.resume()
		var p *process
		h.set(func() { p, m.p = m.p, nil })
		p.end()
		p.mu.Lock()
		node := p.node
		p.mu.Unlock()
		if node != nil {
			node.die()
		}
	default:
		var power *rand.Rand
		if what%2 == 0 {
			power = rng
		}
		h.note("kill %d, power %v", m.id, power != nil)
		h.kill(m, power)
	}
}

func (h *membershipHistory) resume() {
	for _, f := range h.resumes {
		f()
	}
	h.resumes = nil
}

func (h *membershipHistory) calm() {
	h.l.net.set(func() { clear(h.l.net.cut); clear(h.l.net.oneWay) })
	h.resume()
}

// unregister has some node remove a broker.
func (h *membershipHistory) unregister(m *machine) {
	at := h.l.machines[h.rng.IntN(len(h.l.machines))]
	c := at.controller()
	if c == nil {
		return
	}
	voters := h.voters()
	if len(voters) > 1 && h.down(voters) > 0 { // one that is gone as a voter, and one that is off, may be all there is
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+h.rng.Int64N(int64(2*time.Second))))
	defer cancel()
	err := c.UnregisterBroker(ctx, m.id)
	h.note("unregister %d at %d: %v", m.id, at.id, err)
}

// unheard cuts a broker off while it is removed.
func (h *membershipHistory) unheard(m *machine) {
	h.note("cut %d, and then unregister it", m.id)
	h.l.net.set(func() { h.l.net.cut[m.id] = true })
	time.Sleep(time.Duration(h.rng.Int64N(int64(3 * time.Second))))
	h.unregister(m)
	time.Sleep(time.Duration(h.rng.Int64N(int64(3 * time.Second))))
	if h.rng.IntN(2) == 0 {
		h.calm()
	}
}

// wipe takes the disk of a node of a whole cluster, or of two where five vote.
func (h *membershipHistory) wipe(m *machine) {
	h.heal()
	h.converges()
	h.votes()
	gone := []*machine{m}
	if other := h.l.machines[h.rng.IntN(len(h.l.machines))]; len(h.voters()) >= 5 && other != m {
		gone = append(gone, other)
	}
	var old [][16]byte
	for _, m := range gone {
		h.note("wipe %d", m.id)
		old = append(old, m.p.directory)
		h.kill(m, nil)
		m.wipe()
		if len(h.l.machines) > len(m.voters) { // a member that was listed knows the others; one that joined knows one
			m.join = h.l.machines[int(m.id)%len(h.l.machines)].address
		}
	}
	if h.rng.IntN(2) == 0 { // gone for good, as far as anybody knows
		h.unregister(m)
	}
	for _, m := range gone {
		time.Sleep(time.Duration(h.rng.Int64N(int64(3 * time.Second))))
		h.start(m)
	}
	h.converges()
	h.l.eventually("the old disks out of the voters", time.Minute, func() bool {
		return !slices.ContainsFunc(h.l.leader().controller().Image().Voters(), func(v metadata.Voter) bool { return slices.Contains(old, v.Directory) })
	})
}

func (h *membershipHistory) heal() {
	h.note("heal")
	h.calm()
	for _, m := range h.l.machines {
		if m.p == nil {
			h.start(m)
		}
	}
}

// client makes topics at random nodes.
func (h *membershipHistory) client(ctx context.Context, number int, rng *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
		var c *Controller
		h.set(func() { c = h.l.machines[rng.IntN(len(h.l.machines))].controller() })
		if c == nil {
			continue
		}
		name := fmt.Sprintf("t-%d-%d", number, i)
		within, cancel := context.WithTimeout(ctx, time.Duration(1+rng.Int64N(int64(3*time.Second))))
		r := c.CreateTopics(within, []metadata.CreateTopic{{Name: name, Partitions: 1, ReplicationFactor: 1}}, false)[0]
		cancel()
		if r.Err == nil {
			h.set(func() { h.acked = append(h.acked, name) })
		}
	}
}
