package lifecycle

import (
	"context"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// TestUnregisteredWhileItStops: a broker that is removed while it shuts down is done, and does not register again.
func TestUnregisteredWhileItStops(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1, 2)
		a := agent(t, f, nil)
		defer a.Close()
		if err := a.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.epoch = 9 })
		time.AfterFunc(time.Second, func() { f.set(func() { f.err = kafka.ErrBrokerIDNotRegistered.With("gone") }) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := a.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if a.BrokerEpoch() == 9 || a.Held() {
			t.Errorf("it has registered again, epoch %d, or holds its lease: %v", a.BrokerEpoch(), a.Held())
		}
	})
}

// TestNotAloneAmongVoters: where the other brokers were removed but still vote, they may come back without this node.
func TestNotAloneAmongVoters(t *testing.T) {
	during(t, func(t *testing.T) {
		f := newFake(1)
		f.fenced = true
		voters := []metadata.Voter{{ID: 1, Directory: [16]byte{1}}, {ID: 2, Directory: [16]byte{2}}, {ID: 3, Directory: [16]byte{3}}}
		f.img, _ = f.img.Apply(6, &pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_VotersChanged{VotersChanged: &pb.VotersChanged{
			Voters: metadata.VoterMessages(voters)}}}}})
		a := agent(t, f, nil)
		defer a.Close()
		time.Sleep(3 * time.Second)
		if a.Held() {
			t.Error("two others can elect a leader without it, and it holds a lease for ever")
		}
	})
}
