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

// registerBroker answers with the broker's epoch. What an earlier process of the broker led gets a new leader epoch in the
// same records. A registration is live at once; a broker that must first catch up is fenced by a command of its own.
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
	}
	reason := fmt.Sprintf("broker %d registered", c.ID)
	d := decision{
		records: []*pb.Record{{
			Reason: reason,
			Kind:   &pb.Record_BrokerRegistered{BrokerRegistered: metadata.BrokerMessage(b)},
		}},
		answer: answer,
	}
	// A broker that was unregistered meanwhile may have any disk.
	wiped := old == nil || old.Directory != c.Directory
	live := func(id kafka.BrokerID) bool { return s.live(id) || id == c.ID }
	leads := false
	for topic := range s.image.Topics() {
		for p := range topic.Partitions.All() {
			if !slices.Contains(p.Replicas, c.ID) {
				continue
			}
			leads = leads || p.Leader == c.ID
			ch := change(topic, p, reason+" again")
			s.returned(ch, c, wiped)
			ch.elect(live)
			if r := ch.record(s.image); r != nil {
				d.records = append(d.records, r)
			}
		}
	}
	if leads {
		d.records = slices.Insert(d.records, 1, &pb.Record{
			Reason: reason + " again",
			Kind:   &pb.Record_LeaderEpochsRaised{LeaderEpochsRaised: &pb.LeaderEpochsRaised{Broker: int32(c.ID)}},
		})
	}
	return d, nil
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
		ch.leave(c.ID)
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
	case !validText(c.Rack):
		return kafka.ErrInvalidRequest.With("the rack %q of broker %d is not UTF-8", c.Rack, c.ID)
	}
	for _, e := range c.Endpoints {
		if !validText(e.Listener, e.Host) || e.Port < 0 || e.Port > 65535 {
			return kafka.ErrInvalidRequest.With("broker %d: its endpoint %q %q:%d is invalid", c.ID, e.Listener, e.Host, e.Port)
		}
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
			records = s.withdraw(records, ch, c.id)
		}
	}
	return decision{records: records}, nil
}

// fenceBroker moves its leaders and takes it out of the in-sync sets, together; or lets it lead again what has no leader.
func (s state) fenceBroker(c fenceBroker) (decision, error) {
	b := s.image.Broker(c.id)
	if b == nil {
		return decision{}, kafka.ErrBrokerIDNotRegistered.With("Broker ID %d is not currently registered", c.id)
	}
	if b.Fenced == c.fenced {
		return decision{}, nil
	}
	var d decision
	reason := because(c.reason, fmt.Sprintf("broker %d fenced", c.id))
	if c.fenced {
		for topic := range s.image.Topics() {
			for p := range topic.Partitions.All() {
				if slices.Contains(p.ISR, c.id) {
					d.records = s.withdraw(d.records, change(topic, p, reason), c.id)
				}
			}
		}
	} else {
		reason = because(c.reason, fmt.Sprintf("broker %d unfenced", c.id))
		d.records = s.leadWithout(c.id, reason)
	}
	d.records = append(d.records, &pb.Record{
		Reason: reason,
		Kind:   &pb.Record_BrokerFencing{BrokerFencing: &pb.BrokerFencing{Id: int32(c.id), Fenced: c.fenced}},
	})
	return d, nil
}

// withdraw completes the change of a partition that a broker must no longer lead nor be in sync with.
func (s state) withdraw(records []*pb.Record, ch *partitionChange, id kafka.BrokerID) []*pb.Record {
	ch.leave(id)
	ch.elect(func(other kafka.BrokerID) bool { return other != id && s.live(other) })
	if r := ch.record(s.image); r != nil {
		records = append(records, r)
	}
	return records
}

// leadWithout elects the broker where there is no leader and it may lead.
func (s state) leadWithout(id kafka.BrokerID, reason string) []*pb.Record {
	live := func(other kafka.BrokerID) bool { return other == id || s.live(other) }
	var records []*pb.Record
	for topic := range s.image.Topics() {
		for p := range topic.Partitions.All() {
			if p.Leader != kafka.NoLeader || !slices.Contains(p.Replicas, id) {
				continue
			}
			ch := change(topic, p, reason)
			ch.elect(live)
			if r := ch.record(s.image); r != nil {
				records = append(records, r)
			}
		}
	}
	return records
}
