package controller

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/peer"
)

const challengeBytes = 16

// form is what the lowest voter does when all others have answered that they are empty: it has each of them write the
// beginning of the cluster, and writes its own when all have.
func (b *bootstrap) form(ctx context.Context) {
	voters := []metadata.Voter{b.self}
	for i, t := range b.targets {
		if t.id != kafka.NoLeader {
			voters = append(voters, metadata.Voter{ID: t.id, Directory: b.round.answers[i].from.Directory, Address: t.address})
		}
	}
	formation := &pb.ClusterFormed{ClusterId: NewClusterID(), Voters: metadata.VoterMessages(voters)}
	b.o.Logger.Info("all voters are there and empty; forming the cluster", "cluster", formation.GetClusterId(), "voters", b.list)
	open, refused := 0, false
	b.forming = true
	for i, t := range b.targets {
		if t.id == kafka.NoLeader {
			continue
		}
		open++
		body, err := proto.Marshal(&pb.Form{Challenge: b.round.answers[i].answer.GetChallenge(), Formation: formation})
		if err != nil {
			b.err = err
			return
		}
		b.calls.Go(func() {
			within, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			_, _, err := b.o.Links.o.Peers.CallAddress(within, t.address, peer.Form, body)
			b.inbox.post(func() {
				if err != nil {
					refused = true
					b.o.Logger.Warn("a voter did not confirm the new cluster; its forming begins again", "voter", t.String(), "error", err)
				}
				if open--; open > 0 {
					return
				}
				b.forming = false
				if refused {
					b.again(ctx) // whoever has written it is found as a member then
					return
				}
				b.write(formation, Start{formed: true})
			})
		})
	}
}

// welcome is this node's answer to a Hello.
func (b *bootstrap) welcome(ctx context.Context, from peer.Identity, m *pb.Hello) *pb.HelloAnswer {
	switch {
	case b.formation != nil:
		return &pb.HelloAnswer{State: pb.HelloAnswer_MEMBER, ClusterId: b.formation.GetClusterId(), Formation: b.formation,
			Members: b.formation.GetVoters(), Current: b.formation.GetVoters()}
	case b.mustJoin || b.round.number == 0:
		return &pb.HelloAnswer{State: pb.HelloAnswer_STARTING}
	}
	answer := &pb.HelloAnswer{State: pb.HelloAnswer_EMPTY, Voters: b.list}
	known := b.asked[from.Broker] == from.Incarnation
	b.asked[from.Broker] = from.Incarnation
	if b.voter && !b.lowest && from.Broker == b.o.Voters[0].ID {
		switch {
		case m.GetVoters() != b.list:
			answer.Reason = fmt.Sprintf("its cluster.voters is %q", b.list)
		case from.Directory != b.lowestAt:
			// Two processes may claim the lowest ID, a wiped one and the one of before: the address decides.
			answer.Reason = "it has not reached this node at its address itself yet"
			known = false
		default:
			b.challenge, b.bound = make([]byte, challengeBytes), from.Directory
			_, _ = rand.Read(b.challenge) // never fails
			answer.Challenge = b.challenge
		}
	}
	if !known {
		b.soon(ctx)
	}
	return answer
}

// accept writes the cluster that the lowest voter forms, if this node's word still stands.
func (b *bootstrap) accept(from peer.Identity, m *pb.Form) error {
	formation := m.GetFormation()
	voters, err := metadata.VotersOf(formation.GetVoters())
	switch {
	case err != nil:
		return err
	case b.formation != nil || b.mustJoin:
		return errors.New("this node is not empty any more")
	case len(b.challenge) == 0 || !bytes.Equal(m.GetChallenge(), b.challenge) || from.Directory != b.bound:
		return errors.New("this node was asked again since; what it said then does not stand any more")
	case !b.listed(voters):
		return errors.New("the cluster does not list this node with its data directory")
	case formation.GetClusterId() == "" || len(voters) != len(b.o.Voters):
		return fmt.Errorf("a cluster %q of %d voters does not fit the configuration", formation.GetClusterId(), len(voters))
	}
	for i, v := range b.o.Voters {
		if voters[i].ID != v.ID || voters[i].Address != v.Address || i == 0 && voters[i].Directory != b.bound {
			return fmt.Errorf("voter %d at %s is not the configured broker %d at %s", voters[i].ID, voters[i].Address, v.ID, v.Address)
		}
	}
	b.challenge = nil
	b.o.Logger.Info("the cluster is formed", "cluster", formation.GetClusterId(), "by", from.String(), "voters", b.list)
	b.write(formation, Start{})
	return b.err
}

func (l *Links) onHello(ctx context.Context, from peer.Identity, body []byte) ([]byte, error) {
	m := &pb.Hello{}
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("a Hello: %w", err)
	}
	l.mu.Lock()
	c, b := l.mu.controller, l.mu.bootstrap
	l.mu.Unlock()
	answer := &pb.HelloAnswer{State: pb.HelloAnswer_STARTING}
	switch {
	case c != nil && c.Image().ClusterID() != "":
		answer = memberAnswer(c.Image())
	case c == nil && b != nil:
		answer = inside(ctx, b, func() *pb.HelloAnswer { return b.welcome(b.calling, from, m) }, answer)
	}
	return proto.Marshal(answer)
}

// memberAnswer is a Hello's answer by a node that belongs to a cluster.
func memberAnswer(img *metadata.Image) *pb.HelloAnswer {
	var members []metadata.Voter
	for b := range img.Brokers() {
		if b.ClusterAddress != "" {
			members = append(members, metadata.Voter{ID: b.ID, Directory: b.Directory, Address: b.ClusterAddress})
		}
	}
	return &pb.HelloAnswer{
		State:     pb.HelloAnswer_MEMBER,
		ClusterId: img.ClusterID(),
		Formation: &pb.ClusterFormed{ClusterId: img.ClusterID(), Voters: metadata.VoterMessages(img.Formation())},
		Members:   metadata.VoterMessages(members),
		Current:   metadata.VoterMessages(img.Voters()),
	}
}

func (l *Links) onForm(ctx context.Context, from peer.Identity, body []byte) ([]byte, error) {
	m := &pb.Form{}
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("a Form: %w", err)
	}
	l.mu.Lock()
	b := l.mu.bootstrap
	l.mu.Unlock()
	err := errors.New("this node is starting, or belongs to a cluster already")
	if b != nil {
		err = inside(ctx, b, func() error { return b.accept(from, m) }, err)
	}
	return nil, err
}
