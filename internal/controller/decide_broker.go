package controller

import (
	"fmt"
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// syncKey is the topic configuration whose value "interval" means that an acknowledged record may not be on the disk.
const syncKey = "sync"

// registerBroker answers with the broker's epoch. Where no other broker is registered it is live at once, and what an earlier
// process of it led gets a new leader epoch in the same records. In a cluster it is fenced until it is ready (its first such
// heartbeat): what it led moves to others, and it leaves the in-sync sets, but as the last member.
func (s state) registerBroker(c metadata.RegisterBroker) (decision, error) {
	if err := s.checkRegistration(c); err != nil {
		return decision{}, err
	}
	answer := func(img *metadata.Image) any {
		if b := img.Broker(c.ID); b != nil {
			return b.Epoch
		}
		return kafka.BrokerEpoch(-1)
	}
	old := s.image.Broker(c.ID)
	if old != nil && old.Incarnation == c.Incarnation {
		return decision{answer: answer}, nil // the success of an earlier try
	}
	b := &metadata.Broker{
		ID:          c.ID,
		Incarnation: c.Incarnation,
		Directory:   c.Directory,
		Rack:        c.Rack,
		Endpoints:   c.Endpoints,
		Fenced:      !s.alone(c.ID),

		ClusterAddress: c.ClusterAddress,
	}
	reason := fmt.Sprintf("broker %d registered", c.ID)
	registered := &pb.Record{
		Reason: reason,
		Kind:   &pb.Record_BrokerRegistered{BrokerRegistered: metadata.BrokerMessage(b)},
	}
	// A broker that was unregistered meanwhile may have any disk.
	wiped := old == nil || old.Directory != c.Directory
	s.image, _ = s.image.Apply(s.image.Offset()+1, &pb.Entry{Records: []*pb.Record{registered}})
	var moved []*pb.Record
	leads := false
	for topic := range s.image.Topics() {
		for p := range topic.Partitions.All() {
			if !slices.Contains(p.Replicas, c.ID) {
				continue
			}
			leads = leads || p.Leader == c.ID
			ch := change(topic, p, reason+" again")
			s.returned(ch, c, wiped)
			if b.Fenced && slices.Contains(ch.next.ISR, c.ID) {
				ch.leave(c.ID)
			}
			if p.Leader == c.ID || p.Leader == kafka.NoLeader {
				ch.elect(s)
			}
			if r := ch.record(s.image); r != nil {
				moved = append(moved, r)
			}
		}
	}
	d := decision{records: []*pb.Record{registered}, answer: answer}
	if leads && !b.Fenced {
		d.records = append(d.records, &pb.Record{
			Reason: reason + " again",
			Kind:   &pb.Record_LeaderEpochsRaised{LeaderEpochsRaised: &pb.LeaderEpochsRaised{Broker: int32(c.ID)}},
		})
	}
	d.records = append(d.records, moved...)
	return d, nil
}

// alone tells whether no broker but this one is registered: nobody else can lead, and nobody waits for it.
func (s state) alone(id kafka.BrokerID) bool {
	for b := range s.image.Brokers() {
		if b.ID != id {
			return false
		}
	}
	return true
}

// returned takes from a broker that registers again the places that its disk no longer justifies.
func (s state) returned(ch *partitionChange, c metadata.RegisterBroker, wiped bool) {
	switch {
	case wiped:
		ch.reason = fmt.Sprintf("broker %d registered with another data directory", c.ID)
		ch.next.ISR = without(ch.next.ISR, c.ID)
		ch.lost = []kafka.BrokerID{c.ID}
	case c.Unclean && s.syncsByInterval(ch.topic):
		ch.reason = fmt.Sprintf("broker %d registered after an unclean stop; the topic's sync is interval", c.ID)
		ch.lost = []kafka.BrokerID{c.ID}
		if len(without(ch.old.ELR, c.ID)) > 0 { // others have all that was committed, and are waited for
			ch.next.ISR = without(ch.next.ISR, c.ID)
		} else {
			ch.leave(c.ID)
		}
	}
}

func (s state) syncsByInterval(topic *metadata.Topic) bool {
	if value, ok := topic.Config[syncKey]; ok {
		return value == "interval"
	}
	if value, ok := s.image.Config(metadata.Resource{Type: metadata.BrokerResource})[syncKey]; ok {
		return value == "interval"
	}
	return s.defaults.SyncInterval
}

func (s state) checkRegistration(c metadata.RegisterBroker) error {
	switch {
	case c.ID < 0:
		return kafka.ErrInvalidRequest.With("broker ID %d is negative", c.ID)
	case c.Incarnation == [16]byte{} || c.Directory == [16]byte{}:
		return kafka.ErrInvalidRequest.With("the registration of broker %d lacks its incarnation or the ID of its data directory", c.ID)
	case !validText(c.Rack, c.ClusterAddress):
		return kafka.ErrInvalidRequest.With("the rack %q or the cluster address %q of broker %d is not UTF-8", c.Rack, c.ClusterAddress, c.ID)
	}
	for _, e := range c.Endpoints {
		if !validText(e.Listener, e.Host) || e.Port < 0 || e.Port > 65535 {
			return kafka.ErrInvalidRequest.With("broker %d: its endpoint %q %q:%d is invalid", c.ID, e.Listener, e.Host, e.Port)
		}
	}
	if old := s.image.Broker(c.ID); old != nil && old.Directory != c.Directory && s.leased[c.ID] {
		return kafka.ErrDuplicateBrokerRegistration.With("another process is registered as broker %d, with another data directory, and "+
			"is alive; give this one a node.id of its own, or stop the other one", c.ID)
	}
	for b := range s.image.Brokers() {
		if b.ID != c.ID && b.Directory == c.Directory {
			return kafka.ErrDuplicateBrokerRegistration.With("the data directory of broker %d is registered by broker %d; "+
				"a copied directory, or a changed node.id: unregister broker %d first if it is gone for good", c.ID, b.ID, b.ID)
		}
	}
	return nil
}

// unregisterBroker takes the broker out of every in-sync set, but as the last member, and its leaders away. With fewer brokers
// the default of min.insync.replicas may be lower: eligible leaders go where the in-sync set is large enough then.
func (s state) unregisterBroker(c unregisterBroker) (decision, error) {
	if s.image.Broker(c.id) == nil {
		return decision{}, kafka.ErrBrokerIDNotRegistered.With("Broker ID %d is not currently registered", c.id)
	}
	reason := fmt.Sprintf("broker %d unregistered", c.id)
	removed := &pb.Record{
		Reason: reason,
		Kind:   &pb.Record_BrokerRemoved{BrokerRemoved: &pb.BrokerRemoved{Id: int32(c.id)}},
	}
	s.image, _ = s.image.Apply(s.image.Offset()+1, &pb.Entry{Records: []*pb.Record{removed}})
	records := []*pb.Record{removed}
	for topic := range s.image.Topics() {
		for p := range topic.Partitions.All() {
			if len(p.ELR) == 0 && !slices.Contains(p.ISR, c.id) {
				continue
			}
			ch := change(topic, p, reason)
			ch.lost = []kafka.BrokerID{c.id}
			ch.leave(c.id)
			if p.Leader == c.id || p.Leader == kafka.NoLeader {
				ch.elect(s)
			}
			if r := ch.record(s.image); r != nil {
				records = append(records, r)
			}
		}
	}
	return decision{records: records}, nil
}

// fenceBroker moves its leaders and takes it out of the in-sync sets, together; or lets it lead again what has no leader.
func (s state) fenceBroker(c fenceBroker) (decision, error) {
	fenced := unset
	if c.fenced {
		fenced = set
	}
	d, err := s.brokerState(brokerState{id: c.id, epoch: anyEpoch, fenced: fenced, reason: c.reason})
	d.answer = nil
	return d, err
}
