package controller

import "time"

// balanceMax is how many partitions one step of balancing changes, Kafka's number.
const balanceMax = 1000

// LifecycleOptions are how the controller judges brokers. Zero means the default.
type LifecycleOptions struct {
	// Lease is how long a broker may be silent (broker.lease.ms), 2 s.
	Lease time.Duration
	// A broker with a sync that takes longer than SlowSync (2 s) is slow, until all have been faster for SlowRecovery (10 s).
	SlowSync, SlowRecovery time.Duration
	// Balance gives leadership back to preferred replicas (auto.leader.rebalance.enable), every BalanceInterval
	// (leader.imbalance.check.interval.seconds), 300 s, to brokers that have been live for BalanceSettle, 10 s.
	Balance                        bool
	BalanceInterval, BalanceSettle time.Duration
	// WidenInterval is how often internal topics that lack replicas get them, 5 s, on brokers that have been live for BalanceSettle.
	WidenInterval time.Duration

	electionTimeout time.Duration // the least time for which voters stay with a leader that they have heard of
}

func (o *LifecycleOptions) setDefaults(tick time.Duration) {
	def := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	def(&o.Lease, 2*time.Second)
	def(&o.SlowSync, 2*time.Second)
	def(&o.SlowRecovery, 10*time.Second)
	def(&o.BalanceInterval, 300*time.Second)
	def(&o.BalanceSettle, 10*time.Second)
	def(&o.WidenInterval, 5*time.Second)
	// The first tick comes right after the message.
	o.electionTimeout = (electionTicks - 1) * tick
}
