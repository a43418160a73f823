package broker

import (
	"context"
	"fmt"
	"time"

	"chronik/internal/controller"
	"chronik/internal/kafka"
	"chronik/internal/lifecycle"
	"chronik/internal/metadata"
	"chronik/internal/peer"
	"chronik/internal/stream"
)

// joinCluster finds the cluster that this node belongs to: it forms one with the others, or joins the one that there is. A
// node without a cluster port is alone.
func (b *Broker) joinCluster(ctx context.Context) error {
	if err := b.openPeers(ctx); err != nil || b.peers == nil {
		return err
	}
	b.links = controller.NewLinks(controller.LinksOptions{Peers: b.peers, Logger: b.log.With("component", "controller")})
	b.streams = stream.New(stream.Options{
		Peers: b.peers, BrokerEpoch: b.brokerEpoch, Clock: b.deps.Clock, Logger: b.log.With("component", "stream"),
	})
	b.peers.Watch(func(peer.Event) { b.watchQuorum() })
	b.peers.Start()
	var voters []controller.VoterAddress
	for _, v := range b.cfg.ClusterVoters {
		voters = append(voters, controller.VoterAddress{ID: kafka.BrokerID(v.ID), Address: v.Addr})
	}
	start, err := controller.Bootstrap(ctx, controller.BootstrapOptions{
		Links: b.links, FS: b.deps.FS, Dir: b.metadataDir(), ClusterID: b.store.Identity().ClusterID, Voters: voters, Join: b.cfg.ClusterJoin,
		WALFileBytes: b.cfg.MetadataWALFileBytes, SetClusterID: b.store.SetClusterID, Clock: b.deps.Clock, Logger: b.log.With("component", "controller"),
	})
	if err != nil {
		return fmt.Errorf("form or join the cluster: %w", err)
	}
	b.begin = start
	return nil
}

// register announces this process, which gives a new leader epoch to all that an earlier one led.
func (b *Broker) register(ctx context.Context) error {
	cmd := metadata.RegisterBroker{
		ID: kafka.BrokerID(b.cfg.NodeID), Incarnation: b.incarnation, Directory: b.store.Identity().Directory, Rack: b.cfg.Rack,
		Endpoints: b.endpoints(), Unclean: b.store.Unclean(),
	}
	if b.peers == nil {
		if _, err := b.controller.RegisterBroker(ctx, cmd); err != nil {
			return fmt.Errorf("register broker %d: %w", cmd.ID, err)
		}
		return nil
	}
	cmd.ClusterAddress = b.peers.Self().Address
	b.agent = lifecycle.New(lifecycle.Options{
		Controller: b.controller, Registration: cmd, Lease: b.cfg.BrokerLease, Interval: b.cfg.HeartbeatInterval,
		SyncAge: b.syncAge, Damaged: b.damaged, Clock: b.deps.Clock, Logger: b.log.With("component", "lifecycle"), Fatal: b.fatal,
	})
	if err := b.agent.Register(ctx); err != nil {
		return fmt.Errorf("register broker %d: %w", cmd.ID, err)
	}
	b.agent.Start()
	return nil
}

// ready has the controller take away the fence of this broker: it serves.
func (b *Broker) ready(ctx context.Context) error {
	if b.agent == nil {
		return nil
	}
	if err := b.agent.Ready(ctx); err != nil {
		return fmt.Errorf("broker %d serves, but no controller has taken note of it: %w", b.cfg.NodeID, err)
	}
	return nil
}

// syncAge is that of the slower of the two write-ahead logs.
func (b *Broker) syncAge() time.Duration { return max(b.store.SyncAge(), b.controller.SyncAge()) }

// damaged are the replicas of this node that are known to be damaged.
func (b *Broker) damaged() []kafka.TopicPartition {
	if replicas := b.opened.Load(); replicas != nil {
		return replicas.Damaged()
	}
	return nil
}

// damageChanged tells the controller at once.
func (b *Broker) damageChanged() {
	if b.agent != nil {
		b.agent.Changed()
	}
}

// leaseHeld tells whether this node may answer as the leader of what its image says; alone it always may.
func (b *Broker) leaseHeld() bool { return b.agent == nil || b.agent.Held() }

// lostSightFor is for how long a broker that is not connected counts as just lost: the controller decides long before.
const lostSightFor = 3 * time.Second

// lostSight tells whether the connection to a broker ended a moment ago: a better guess than the image at who still leads.
func (b *Broker) lostSight(id kafka.BrokerID) bool {
	if b.peers == nil {
		return false
	}
	s, ok := b.peers.Status(id)
	return ok && !s.Connected && !s.LastHeard.IsZero() && b.deps.Clock.Now().Sub(s.LastHeard) < lostSightFor
}

// brokerEpoch is that of this process's registration.
func (b *Broker) brokerEpoch() kafka.BrokerEpoch {
	if b.agent != nil {
		return b.agent.BrokerEpoch()
	}
	if own := b.controller.Image().Broker(kafka.BrokerID(b.cfg.NodeID)); own != nil {
		return own.Epoch
	}
	return -1
}
