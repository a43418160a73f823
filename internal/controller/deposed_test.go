package controller

import (
	"fmt"
	"sync"
	"testing"
	"time"

	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/kafka"
)

// inLoop runs f in the loop of a machine's controller.
func (m *machine) inLoop(f func(l *loop)) {
	done := make(chan struct{})
	c := m.controller()
	c.inbox.post(func() { f(c.loop); close(done) })
	<-done
}

// depose has the machine, which leads, hear of a later term.
func (l *loop) depose(t *testing.T) {
	term := l.node.BasicStatus().GetTerm() + 1
	from := uint64(0)
	for _, id := range l.confState.GetVoters() {
		if id != l.id {
			from = id
		}
	}
	m := &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: &from, To: &l.id, Term: &term}
	if err := l.node.Step(m); err != nil {
		t.Error(err)
	}
}

// TestDeposedForgetsWhatItWouldHaveDone: a leader that is deposed with a verdict undecided does not carry it out when it leads again.
func TestDeposedForgetsWhatItWouldHaveDone(t *testing.T) {
	alive(t, 81, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
		old := l.leader()
		victim := l.machines[int(old.id)%3]
		before := l.image().Broker(victim.id).StateOffset
		old.inLoop(func(o *loop) {
			b := o.image.Broker(victim.id)
			o.command(o.liveness.fence(nil, o.image, b, "the test"))
			o.depose(t)
		})
		l.eventually("led", time.Minute, func() bool { return l.leader() != nil })
		l.leads(old)
		time.Sleep(3 * time.Second)
		if b := l.image().Broker(victim.id); b.StateOffset != before {
			t.Errorf("broker %d was fenced by who had been deposed since: %s", b.ID, b.Reason)
		}
		old.inLoop(func(o *loop) {
			for id, p := range o.liveness.pulses {
				if p.changing != 0 || p.fencing {
					t.Errorf("%d changes of broker %d are under way, fencing %v", p.changing, id, p.fencing)
				}
			}
		})
	})
}

// TestLostMembershipChange: a change of the membership that was lost with the leadership keeps nobody from the next one, also
// where the log was cut below it and nothing else is written.
func TestLostMembershipChange(t *testing.T) {
	alive(t, 82, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
		old := l.leader()
		l.converged()
		other := l.machines[int(old.id)%3]
		// It proposes a lot that nobody gets, the last of it a change of the membership.
		l.net.set(func() { l.net.cut[old.id] = true })
		for i := range 50 {
			go func() { _ = old.create("lost-"+string(rune('a'+i%26))+string(rune('a'+i/26)), 500*time.Millisecond) }()
			time.Sleep(10 * time.Millisecond)
		}
		old.inLoop(func(o *loop) {
			o.proposeMembership(membershipPlan{reason: "the test", changes: []*raftpb.ConfChangeSingle{
				{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(77))}}})
		})
		l.eventually("another leads", time.Minute, func() bool {
			c := other.controller().Controller()
			return c != old.id && c != kafka.NoLeader
		})
		l.net.set(func() { clear(l.net.cut) })
		l.formed()
		l.leads(old)
		l.converged()
		other.kill(nil)
		if err := old.controller().UnregisterBroker(t.Context(), other.id); err != nil {
			t.Fatal(err)
		}
		l.eventually("no voter", 10*time.Second, func() bool { return len(l.image().Voters()) == 2 })
	})
}

// TestJointConfigurationIsLeft: a joint configuration that Raft does not leave, because the leadership was being handed over in
// that moment, is left once it was not.
func TestJointConfigurationIsLeft(t *testing.T) {
	alive(t, 83, 3, 2*time.Second, nil, func(t *testing.T, l *lives) {
		old := l.leader()
		l.converged()
		l.net.set(func() { l.net.drop = raftpb.MsgTimeoutNow })
		old.inLoop(func(o *loop) {
			o.proposeMembership(membershipPlan{reason: "the test", changes: []*raftpb.ConfChangeSingle{
				{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(77))},
				{Type: raftpb.ConfChangeAddLearnerNode.Enum(), NodeId: new(uint64(78))}}})
			o.giveUpLeadership("the test")
		})
		time.Sleep(10 * time.Second)
		old.inLoop(func(o *loop) {
			if cs := o.confState; o.leading == 0 || len(cs.GetVotersOutgoing()) > 0 || len(cs.GetLearners()) > 0 {
				t.Errorf("it leads in term %d, with %v", o.leading, cs)
			}
		})
	})
}

// TestMembershipChangeIsTriedAgain: a change of the membership that could not be proposed in the moment in which it was due, because
// what is under way was in doubt, is proposed later.
func TestMembershipChangeIsTriedAgain(t *testing.T) {
	alive(t, 84, 3, 2*time.Second, func(l *lives) { l.net.delay = 10 * time.Millisecond }, func(t *testing.T, l *lives) {
		leader := l.leader()
		other := l.machines[int(leader.id)%3]
		other.kill(nil)
		c := leader.controller()
		stop := make(chan struct{})
		var work sync.WaitGroup
		for client := range 5 {
			work.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
						_ = leader.create(fmt.Sprintf("t-%d-%d", client, i), time.Second)
					}
				}
			})
		}
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(100 * time.Microsecond):
					c.inbox.post(func() { c.loop.commands.speculative = nil }) // as after a proposal that Raft dropped
				}
			}
		})
		if err := c.UnregisterBroker(t.Context(), other.id); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond)
		close(stop)
		work.Wait()
		l.eventually("no voter", 10*time.Second, func() bool { return len(l.image().Voters()) == 2 })
	})
}
