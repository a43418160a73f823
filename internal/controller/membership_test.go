package controller

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	raftpb "go.etcd.io/raft/v3/raftpb"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// TestPlanMembership: image and membership in, the next change out. A disk is written as broker and letter: 2b is the second
// disk of broker 2; "-" after it is a fence.
func TestPlanMembership(t *testing.T) {
	for _, c := range []struct {
		name                                  string
		formed, brokers, voters, learners, ok string // ok: caught up
		want                                  string
	}{
		{"as it should be", "1a 2a 3a", "1a 2a 3a", "1a 2a 3a", "", "1a 2a 3a", ""},
		{"fenced voters stay", "1a 2a 3a", "1a 2a- 3a-", "1a 2a 3a", "", "1a", ""},
		{"a new broker learns", "1a 2a 3a", "1a 2a 3a 4a-", "1a 2a 3a", "", "1a 2a 3a", "+learner 4a"},
		{"a fourth stays a learner", "1a 2a 3a", "1a 2a 3a 4a", "1a 2a 3a", "4a", "1a 2a 3a 4a", ""},
		{"a removed learner goes", "1a 2a 3a", "1a 2a 3a", "1a 2a 3a", "4a", "1a 2a 3a 4a", "-4a"},
		{"a wiped learner's old disk goes first", "1a", "1a 4b-", "1a", "4a", "1a", "-4a"},
		{"a wiped voter learns", "1a 2a 3a", "1a 2b- 3a", "1a 2a 3a", "", "1a 3a", "+learner 2b"},
		{"and waits while it is behind", "1a 2a 3a", "1a 2b 3a", "1a 2a 3a", "2b", "1a 3a", "waits"},
		{"and while it is fenced", "1a 2a 3a", "1a 2b- 3a", "1a 2a 3a", "2b", "1a 3a 2b", "waits"},
		{"and takes its place", "1a 2a 3a", "1a 2b 3a", "1a 2a 3a", "2b", "1a 3a 2b", "+2b -2a: 1a 2b 3a"},
		{"another takes it where it is fenced", "1a 2a 3a", "1a 2b- 3a 4a", "1a 2a 3a", "2b 4a", "1a 3a 4a", "+4a -2a: 1a 3a 4a"},
		{"its own is preferred", "1a 2a 3a", "0a 1a 2b 3a 4a", "1a 2a 3a", "0a 2b 4a", "0a 1a 3a 4a 2b", "+2b -2a: 1a 2b 3a"},
		{"a removed voter is replaced", "1a 2a 3a", "1a 3a 4a", "1a 2a 3a", "4a", "1a 3a 4a", "+4a -2a: 1a 3a 4a"},
		{"or given up", "1a 2a 3a", "1a 3a", "1a 2a 3a", "", "1a 3a", "-2a: 1a 3a"},
		{"of two disks that are gone the broker that is back takes its own's place", "1a 2a 3a 4a 5a", "1b- 2a 3a 4b 5a", "1a 2a 3a 4a 5a", "1b 4b",
			"2a 3a 4b 5a", "+4b -4a: 1a 2a 3a 4b 5a"},
		{"a disk that is gone whose broker votes with another", "2a 3a 4a 5a", "1b 2a 3a 4b 5a", "2a 3a 4a 4b 5a", "1b", "1b 2a 3a 4b 5a", "+1b -4a: 1b 2a 3a 4b 5a"},
		{"or which nobody can take the place of", "2a 3a 4a", "2a 3a 4b", "2a 3a 4a 4b", "", "2a 3a 4b", "-4a: 2a 3a 4b"},
		{"a voter that nobody knows", "1a 2a 3a", "1a 2a 3a", "1a 2a 3a 9c", "", "1a 2a 3a", "-9c: 1a 2a 3a"},
		{"two become three again", "1a 2a 3a", "1a 3a 5a", "1a 3a", "5a", "1a 3a 5a", "+5a: 1a 3a 5a"},
		{"one stays one with two brokers", "1a", "1a 2a", "1a", "2a", "1a 2a", ""},
		{"one stays one while the third is fenced", "1a", "1a 2a 3a-", "1a", "2a 3a", "1a 2a 3a", ""},
		{"one stays one while the third is behind", "1a", "1a 2a 3a", "1a", "2a 3a", "1a 2a", "waits"},
		{"one grows to three at once", "1a", "1a 2a 3a 4a", "1a", "2a 3a 4a", "1a 2a 3a 4a", "+2a +3a: 1a 2a 3a"},
		{"the last voter is not removed", "1a", "2a", "1a", "", "1a", "+learner 2a"},
		{"not even by itself", "1a", "", "1a", "", "1a", ""},
	} {
		img := imageOfDisks(c.formed, c.brokers)
		cs := &raftpb.ConfState{Voters: raftIDs(c.voters), Learners: raftIDs(c.learners)}
		caughtUp := map[uint64]bool{}
		for _, id := range raftIDs(c.ok) {
			caughtUp[id] = true
		}
		plan := planMembership(img, cs, caughtUp)
		if got := planText(plan); got != c.want {
			t.Errorf("%s: %q instead of %q", c.name, got, c.want)
		}
		if len(plan.changes) > 0 && plan.reason == "" {
			t.Errorf("%s: no reason", c.name)
		}
	}
}

func diskOf(text string) (broker kafka.BrokerID, directory [16]byte) {
	directory[0], directory[1] = text[0], text[1]
	return kafka.BrokerID(text[0] - '0'), directory
}

func raftIDs(disks string) []uint64 {
	var list []uint64
	for _, d := range strings.Fields(disks) {
		_, directory := diskOf(d)
		list = append(list, RaftID(directory))
	}
	return list
}

// imageOfDisks is the image of a cluster of these founders, with these registrations.
func imageOfDisks(formed, brokers string) *metadata.Image {
	var voters []metadata.Voter
	for _, d := range strings.Fields(formed) {
		id, directory := diskOf(d)
		voters = append(voters, metadata.Voter{ID: id, Directory: directory, Address: "node" + d})
	}
	img := form("test", voters).image
	e := &pb.Entry{}
	registered := map[kafka.BrokerID]bool{}
	for _, d := range strings.Fields(brokers) {
		id, directory := diskOf(d)
		registered[id] = true
		e.Records = append(e.Records, &pb.Record{Kind: &pb.Record_BrokerRegistered{BrokerRegistered: metadata.BrokerMessage(&metadata.Broker{
			ID: id, Directory: directory, Incarnation: [16]byte{1}, ClusterAddress: "node" + d, Fenced: strings.HasSuffix(d, "-")})}})
	}
	for _, v := range voters {
		if !registered[v.ID] {
			e.Records = append(e.Records, &pb.Record{Kind: &pb.Record_BrokerRemoved{BrokerRemoved: &pb.BrokerRemoved{Id: int32(v.ID)}}})
		}
	}
	img, _ = img.Apply(2, e)
	return img
}

func planText(p membershipPlan) string {
	name := map[uint64]string{}
	for broker := '0'; broker <= '9'; broker++ {
		for disk := 'a'; disk <= 'c'; disk++ {
			text := string(broker) + string(disk)
			_, directory := diskOf(text)
			name[RaftID(directory)] = text
		}
	}
	var words []string
	for _, c := range p.changes {
		sign := map[raftpb.ConfChangeType]string{raftpb.ConfChangeAddNode: "+", raftpb.ConfChangeRemoveNode: "-", raftpb.ConfChangeAddLearnerNode: "+learner "}
		words = append(words, sign[c.GetType()]+name[c.GetNodeId()])
	}
	text := strings.Join(words, " ")
	if p.voters != nil {
		var list []string
		for _, v := range p.voters {
			list = append(list, name[RaftID(v.Directory)])
		}
		text += fmt.Sprint(": ", strings.Join(list, " "))
	}
	if text == "" && p.waits {
		return "waits"
	}
	return text
}

// TestPlansLeadToThreeVoters: whatever the registrations are, following the plans comes to an end, with every registered
// broker a member, no foreign disk among the members while others could stand in, and never less than one voter.
func TestPlansLeadToThreeVoters(t *testing.T) {
	for seed := range 2000 {
		disks := func(n int, letters string) string {
			var list []string
			for b := range n {
				bits := seed >> b & 3
				d := string(rune('1'+b)) + string(letters[bits%len(letters)])
				list = append(list, d)
			}
			return strings.Join(list, " ")
		}
		formed := disks([]int{1, 2, 3, 5}[seed%4], "a")
		brokers := disks(1+seed%5, "ab")
		img := imageOfDisks(formed, brokers)
		cs := &raftpb.ConfState{Voters: raftIDs(formed)}
		rng := rand.New(rand.NewPCG(uint64(seed), 11))
		steps, calm := 0, rng.IntN(20) // until then brokers come and go
		for ; steps < 50; steps++ {
			all := map[uint64]bool{}
			for _, id := range slices.Concat(cs.Voters, cs.Learners) {
				all[id] = steps >= calm || rng.IntN(3) > 0
			}
			var states []*pb.Record
			for b := range img.Brokers() {
				fenced := steps < calm && rng.IntN(2) == 0
				states = append(states, &pb.Record{Kind: &pb.Record_BrokerFencing{BrokerFencing: &pb.BrokerFencing{Id: int32(b.ID), Fenced: fenced}}})
			}
			img, _ = img.Apply(img.Offset()+1, &pb.Entry{Records: states})
			plan := planMembership(img, cs, all)
			if len(plan.changes) == 0 && steps >= calm {
				break
			}
			for _, c := range plan.changes {
				id := c.GetNodeId()
				without := func(list []uint64) []uint64 {
					return slices.DeleteFunc(slices.Clone(list), func(o uint64) bool { return o == id })
				}
				cs = &raftpb.ConfState{Voters: without(cs.Voters), Learners: without(cs.Learners)}
				switch c.GetType() {
				case raftpb.ConfChangeAddNode:
					cs.Voters = append(cs.Voters, id)
				case raftpb.ConfChangeAddLearnerNode:
					cs.Learners = append(cs.Learners, id)
				}
			}
			if len(cs.Voters) == 0 {
				t.Fatalf("seed %d: no voter is left", seed)
			}
			if plan.voters != nil {
				img, _ = img.Apply(img.Offset()+1, &pb.Entry{Records: []*pb.Record{{
					Kind: &pb.Record_VotersChanged{VotersChanged: &pb.VotersChanged{Voters: metadata.VoterMessages(plan.voters)}}}}})
				if len(plan.voters) != len(cs.Voters) {
					t.Fatalf("seed %d: the record names %v, Raft has %x", seed, plan.voters, cs.Voters)
				}
			}
		}
		if steps == 50 {
			t.Fatalf("seed %d: the plans come to no end", seed)
		}
		wanted := raftIDs(brokers)
		for _, id := range wanted {
			if !slices.Contains(slices.Concat(cs.Voters, cs.Learners), id) {
				t.Fatalf("seed %d: %q formed, %q registered: a broker is no member", seed, formed, brokers)
			}
		}
		foreign := 0
		for _, id := range cs.Voters {
			if !slices.Contains(wanted, id) {
				foreign++
			}
		}
		if foreign > 0 && len(cs.Learners) > 0 || len(wanted) >= 3 && len(cs.Voters) < 3 {
			t.Fatalf("seed %d: %q formed, %q registered: %d voters, %d of them gone, %d learners", seed, formed, brokers, len(cs.Voters), foreign, len(cs.Learners))
		}
	}
}
