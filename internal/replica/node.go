package replica

import (
	"log/slog"
	"time"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/record"
)

// node is what the partitions of a node share: what the manager was given, and what they ask of the manager.
type node struct {
	broker      kafka.BrokerID
	codecs      *record.Codecs
	clock       clock.Clock
	log         *slog.Logger
	streams     Streams                  // never nil
	lease       func() bool              // nil: always held
	brokerEpoch func() kafka.BrokerEpoch // nil: as the image has it
	metadata    metadata.Store
	lagMax      time.Duration
	onDamage    func() // nil: nobody has to know
	background  *background
}

const defaultLagMax = 10 * time.Second

// leased tells whether this node may answer as a leader for what no quorum confirms.
func (n *node) leased() bool { return n.lease == nil || n.lease() }

// damageChanged tells that another set of replicas is damaged.
func (n *node) damageChanged() {
	if n.onDamage != nil {
		n.onDamage()
	}
}

// registered is a broker of the cluster; nil if it is none.
func (n *node) registered(id kafka.BrokerID) *metadata.Broker { return n.metadata.Image().Broker(id) }

// noStreams are those of a node without peers.
type noStreams struct{}

func (noStreams) Follow(*Partition, kafka.BrokerID, kafka.LeaderEpoch) {}
func (noStreams) Stop(*Partition)                                      {}
func (noStreams) Lead(*Partition, kafka.LeaderEpoch)                   {}
func (noStreams) Appended(*Partition, int)                             {}
func (noStreams) Changed(*Partition)                                   {}
func (noStreams) Watermark(*Partition)                                 {}
func (noStreams) Durable(*Partition)                                   {}
