package controller

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/peer"
)

// failure is what a process ended with.
func (p *process) failure() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		return ""
	}
	return p.err.Error()
}

// TestWipedVoterNeverForms: a node whose disk is gone waits, by name, for the others, however many of them are empty: one
// may have data. When they come, it joins and takes its old place under its new Raft ID.
func TestWipedVoterNeverForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 11, 3)
		defer f.close()
		f.startAll()
		f.formed()
		cluster := f.machines[0].controller().Image().ClusterID()
		old := f.machines[0].p.directory
		for _, m := range f.machines {
			if err := m.stop(); err != nil {
				t.Fatal(err)
			}
		}
		one, two, three := f.machines[0], f.machines[1], f.machines[2]
		one.wipe()
		p := one.start()
		time.Sleep(time.Minute)
		if one.controller() != nil {
			t.Fatal("an empty node forms a cluster though the others do not answer")
		}
		p.cancel()
		p.ended.Wait()
		if text := p.failure(); !strings.Contains(text, "broker 2 at node2:9291") || !strings.Contains(text, "broker 3 at node3:9291") {
			t.Fatalf("it does not say whom it waits for: %s", text)
		}
		one.kill(nil)

		// Another empty one does not help.
		data := two.fs
		two.wipe()
		one.start()
		two.start()
		time.Sleep(time.Minute)
		if one.controller() != nil || two.controller() != nil {
			t.Fatal("two empty nodes of three form a cluster")
		}
		two.kill(nil)
		two.fs, two.disks = data, 0 // the disk was found again
		two.start()
		three.start()
		f.formed()
		if id := one.controller().Image().ClusterID(); id != cluster {
			t.Fatalf("cluster %s instead of %s", id, cluster)
		}
		f.replaced(one, old)
		if err := one.create("again", time.Second); err != nil {
			t.Fatal(err)
		}
		f.converged()
	})
}

// TestDelayedForm: what a process of the lowest voter said that is dead counts nothing once it arrives: two nodes would write
// two beginnings. Its disk may be gone or not.
func TestDelayedForm(t *testing.T) {
	for _, wiped := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) { delayedForm(t, wiped) })
	}
}

func delayedForm(t *testing.T, wiped bool) {
	f := newFleet(t, 12, 3)
	defer f.close()
	var held []func() error
	f.net.hold = func(from, to kafka.BrokerID, m peer.Method, again func() error) bool {
		if m == peer.Form && len(held) < 2 {
			held = append(held, again)
			return true
		}
		return false
	}
	one := f.machines[0]
	f.startAll()
	f.eventually("two Forms under way", 10*time.Second, func() bool {
		f.net.mu.Lock()
		defer f.net.mu.Unlock()
		return len(held) == 2
	})
	one.kill(nil)
	if wiped {
		one.wipe()
	}
	// The Hello of the new process is answered, its Form is under way: now the old one arrives.
	arrived := 0
	f.net.set(func() {
		f.net.hold = func(from, to kafka.BrokerID, m peer.Method, again func() error) bool {
			if m == peer.Form && to == 3 && arrived == 0 {
				arrived++
				for _, old := range held {
					if err := old(); err == nil {
						t.Error("a Form of a process that is dead is accepted")
					}
				}
			}
			return false
		}
	})
	one.start()
	f.formed()
	if arrived == 0 {
		t.Fatal("the test delivered nothing")
	}
	for _, m := range f.machines {
		if err := m.create("topic-"+m.address[:5], time.Second); err != nil {
			t.Fatal(err)
		}
	}
	f.converged()
}

// TestListsDiffer: nodes that were given different lists do not form a cluster, and say why.
func TestListsDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 13, 3)
		defer f.close()
		other := append([]VoterAddress(nil), f.voters...)
		other[1].Address = "elsewhere:9291"
		f.machines[2].voters = other
		f.startAll()
		time.Sleep(30 * time.Second)
		for _, m := range f.machines {
			if m.controller() != nil {
				t.Fatalf("node %d is in a cluster", m.id)
			}
		}
		p := f.machines[0].p
		p.cancel()
		p.ended.Wait()
		if text := p.failure(); !strings.Contains(text, "broker 3 at node3:9291 has another cluster.voters") {
			t.Fatalf("the reason is %q", text)
		}
	})
}

// TestTwoClaimTheLowestID: a second process with the lowest ID, at another address than the listed one, gets no word of
// the others.
func TestTwoClaimTheLowestID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 14, 3)
		defer f.close()
		f.machines[1].start()
		f.machines[2].start()
		time.Sleep(time.Second)
		impostor := f.net.join(peer.Identity{Broker: 1, Directory: [16]byte{66}, Incarnation: [16]byte{66}, Address: "impostor:9291"})
		impostor.listen()
		defer impostor.die()
		hello, err := proto.Marshal(&pb.Hello{Voters: voterList(f.voters)})
		if err != nil {
			t.Fatal(err)
		}
		for round := range 10 {
			if round == 5 {
				f.net.set(func() { // the real one is there, and keeps from forming
					f.net.hold = func(_, _ kafka.BrokerID, m peer.Method, _ func() error) bool { return m == peer.Form }
				})
				f.machines[0].start()
				time.Sleep(2 * time.Second)
			}
			for _, address := range []string{"node2:9291", "node3:9291"} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				_, data, err := impostor.CallAddress(ctx, address, peer.Hello, hello)
				cancel()
				answer := &pb.HelloAnswer{}
				if err == nil {
					err = proto.Unmarshal(data, answer)
				}
				if err != nil {
					t.Fatal(err)
				}
				if len(answer.GetChallenge()) > 0 || answer.GetState() == pb.HelloAnswer_EMPTY && answer.GetReason() == "" {
					t.Fatalf("%s gives its word to a process that is not at the lowest voter's address: %v", address, answer)
				}
			}
		}
		f.net.set(func() { f.net.hold = nil })
		f.formed()
	})
}

// TestJoining: nodes join by the address of any member. A cluster of one grows to three voters; further brokers learn.
func TestJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 15, 1)
		defer f.close()
		f.startAll()
		f.formed()
		for i := range 20 {
			if err := f.machines[0].create("before-"+string(rune('a'+i)), time.Second); err != nil {
				t.Fatal(err)
			}
		}
		two := f.add(2, nil, "node1:9291")
		two.start()
		f.formed()
		if voters := f.machines[0].controller().Image().Voters(); len(voters) != 1 {
			t.Fatalf("two voters are worse than one: %v", ids(voters))
		}
		three := f.add(3, nil, "node2:9291")
		three.start()
		f.formed()
		f.voting(1, 2, 3)
		four := f.add(4, nil, "node3:9291")
		four.start()
		f.formed()
		f.voting(1, 2, 3)
		for _, m := range f.machines {
			if err := m.create("at-"+m.address[:5], time.Second); err != nil {
				t.Fatal(err)
			}
		}
		f.converged()
		f.oneCluster()

		// The founder goes for good: another takes its place.
		f.machines[0].kill(nil)
		gone := f.machines[0]
		f.machines = f.machines[1:]
		f.leader()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := four.controller().UnregisterBroker(ctx, gone.id); err != nil {
			t.Fatal(err)
		}
		f.voting(2, 3, 4)
		for _, m := range f.machines {
			m.kill(nil)
			m.start()
		}
		f.formed()
		f.converged()
	})
}

// voting waits until these are the voters.
func (f *fleet) voting(want ...kafka.BrokerID) {
	f.t.Helper()
	f.eventually("the voters as wanted", 30*time.Second, func() bool {
		got := ids(f.leader().controller().Image().Voters())
		if len(got) != len(want) {
			return false
		}
		for i := range got {
			if got[i] != want[i] {
				return false
			}
		}
		return true
	})
}

// TestForeignCluster: a node that belongs to another cluster is told so, and neither joins nor is joined.
func TestForeignCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 16, 3)
		defer f.close()
		stranger := f.add(9, []VoterAddress{{ID: 9, Address: "node9:9291"}}, "")
		stranger.start()
		f.eventually("a cluster of the stranger", 10*time.Second, stranger.registered)
		if err := stranger.stop(); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		clear(f.clusters)
		f.mu.Unlock()
		f.machines = f.machines[:3]
		f.startAll()
		f.formed()
		stranger.voters, stranger.join = nil, "node1:9291"
		p := stranger.start()
		time.Sleep(10 * time.Second)
		if img := f.machines[0].controller().Image(); img.Broker(9) != nil {
			t.Fatal("a node of another cluster is registered")
		}
		if c := stranger.controller(); c == nil || c.Image().ClusterID() == f.machines[0].controller().Image().ClusterID() {
			t.Fatalf("the stranger changed its cluster: %v", p.failure())
		}
		f.machines = append(f.machines, stranger)
	})
}

// TestMetadataLost: a node that belongs to a cluster and has no metadata does not start: it may have voted.
func TestMetadataLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 17, 3)
		defer f.close()
		f.startAll()
		f.formed()
		m := f.machines[1]
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		if err := m.fs.RemoveAll("/data/metadata"); err != nil {
			t.Fatal(err)
		}
		p := m.start()
		p.ended.Wait()
		if text := p.failure(); !strings.Contains(text, "are gone") {
			t.Fatalf("a node without its metadata: %q", text)
		}
	})
}

// TestVotersOfRecords: what a node is told of voters is checked before it is believed.
func TestVotersOfRecords(t *testing.T) {
	good := []*pb.Voter{{Id: 1, Directory: make([]byte, 16)}, {Id: 2, Directory: make([]byte, 16)}}
	if voters, err := metadata.VotersOf(good); err != nil || len(voters) != 2 {
		t.Fatal(voters, err)
	}
	for _, bad := range [][]*pb.Voter{
		{{Id: 1, Directory: make([]byte, 15)}},
		{{Id: -1, Directory: make([]byte, 16)}},
		{good[1], good[0]},
		{good[0], good[0]},
	} {
		if _, err := metadata.VotersOf(bad); err == nil {
			t.Errorf("accepted: %v", bad)
		}
	}
}

// TestRemovedComesBack: a broker that was removed while it was off does not know it. It starts with its old disk, registers,
// and learns; its place among the voters is another's.
func TestRemovedComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 18, 3)
		defer f.close()
		f.startAll()
		f.formed()
		f.add(4, nil, "node1:9291").start()
		f.formed()
		two := f.machines[1]
		two.kill(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := f.machines[0].controller().UnregisterBroker(ctx, 2); err != nil {
			t.Fatal(err)
		}
		f.voting(1, 3, 4)
		two.start()
		f.formed()
		f.voting(1, 3, 4)
		if err := two.create("at-two", time.Second); err != nil {
			t.Fatal(err)
		}
		f.converged()
	})
}
