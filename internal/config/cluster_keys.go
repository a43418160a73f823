package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// clusterKeys say which nodes make a cluster, and how long they wait for one another.
var clusterKeys = []Key{
	text("rack", "", func(c *Config) *string { return &c.Rack }, nil,
		"The same as broker.rack, in a word; it wins where both are given.").own(),
	text("cluster.listen", "", func(c *Config) *string { return &c.ClusterListen }, hostPortOrNone,
		"The address that the other nodes connect to, host:port. A node that names cluster.voters listens on its own address of that list unless this says otherwise; one that names cluster.join listens on port 9291 of every interface. Without any of these a node is alone.").own().valid("host:port or none"),
	text("cluster.advertise", "", func(c *Config) *string { return &c.ClusterAdvertise }, advertisedOne,
		"The address under which the other nodes reach cluster.listen, host or host:port. Without it: this node's address in cluster.voters, else the host of cluster.listen, else the address by which it reaches the others.").own().valid("host[:port]"),
	voters("cluster.voters",
		"The nodes that form the cluster and elect its controller, as ID@host:port, separated by commas; the same list on each of them, this node among them. Empty nodes form the cluster once all are there; a node that finds it formed joins it."),
	text("cluster.join", "", func(c *Config) *string { return &c.ClusterJoin }, hostPortOrEmpty,
		"The cluster address of any member, host:port, for a node that is added to a cluster. Once it belongs to it, it finds the others by itself.").own().valid("host:port"),
	duration("broker.lease.ms", Int, 2_000, 100, func(c *Config) *time.Duration { return &c.BrokerLease },
		"How long a node that is silent keeps its leaderships, in milliseconds; a crash is noticed at once by its closed connections. A controller that is not heard of for about half of it is replaced.").own(),
	duration("broker.heartbeat.interval.ms", Int, 500, 10, func(c *Config) *time.Duration { return &c.HeartbeatInterval },
		"How often a node renews its lease, in milliseconds; less than half of broker.lease.ms."),
	duration("replica.lag.time.max.ms", Long, 10_000, 100, func(c *Config) *time.Duration { return &c.ReplicaLagMax },
		"How long a replica may be behind its leader before it leaves the in-sync set, in milliseconds."),
	boolean("auto.leader.rebalance.enable", true, func(c *Config) *bool { return &c.LeaderRebalance },
		"Whether the controller gives partitions back to their preferred leader once it is in sync again."),
	number("leader.imbalance.check.interval.seconds", Long, 30, 1, math.MaxInt32, func(c *Config) *int64 { return &c.LeaderRebalanceSeconds },
		"How often the controller looks for partitions that their preferred leader does not lead, in seconds."),
}

// Voter is one of the nodes that form a cluster.
type Voter struct {
	ID   int32
	Addr string // host:port
}

// voters is the key of the nodes that form the cluster.
func voters(name, doc string) Key {
	return Key{Name: name, Type: List, Doc: doc, Valid: "ID@host:port, ...", Own: true, set: func(c *Config, value string) error {
		c.ClusterVoters = nil
		for _, e := range SplitList(value) {
			number, addr, ok := strings.Cut(e, "@")
			id, err := strconv.ParseInt(number, 10, 32)
			if !ok || err != nil || id < 0 {
				return fmt.Errorf("%q is not ID@host:port, for example 1@10.0.0.1:9291", e)
			}
			if err := reachable(addr); err != nil {
				return err
			}
			for _, v := range c.ClusterVoters {
				if v.ID == int32(id) || v.Addr == addr {
					return fmt.Errorf("%q: %s and %d@%s are the same node twice", e, e, v.ID, v.Addr)
				}
			}
			c.ClusterVoters = append(c.ClusterVoters, Voter{ID: int32(id), Addr: addr})
		}
		return nil
	}}
}

func hostPortOrEmpty(value string) error {
	if value == "" {
		return nil
	}
	return reachable(value)
}

func advertisedOne(value string) error {
	if value == "" {
		return nil
	}
	host, _, err := splitAdvertised(value)
	if err == nil && unspecified(host) {
		err = fmt.Errorf("%q: the other nodes need a host that they can connect to", value)
	}
	return err
}

// reachable checks an address that others connect to.
func reachable(addr string) error {
	host, port, err := SplitHostPort(addr)
	if err != nil {
		return err
	}
	if unspecified(host) || port == 0 {
		return fmt.Errorf("%q: the other nodes need a host and a port that they can connect to", addr)
	}
	return nil
}

func unspecified(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }

// defaultClusterPort is where a node that joins a cluster listens unless it is told otherwise.
const defaultClusterPort = 9291

// Clustered tells whether the node listens for others or looks for them.
func (c *Config) Clustered() bool { return c.ClusterAddr() != "" }

// ClusterAddr is where the node listens for others; empty if it is alone.
func (c *Config) ClusterAddr() string {
	switch own := c.ownVoter(); {
	case c.ClusterListen != "" && c.ClusterListen != "none":
		return c.ClusterListen
	case own != "":
		return own
	case c.ClusterJoin != "":
		return fmt.Sprintf(":%d", defaultClusterPort)
	}
	return ""
}

// ClusterAdvertised is the host and port that the configuration gives the other nodes for this one: host empty if it says
// nothing of use, port 0 for the listener's own.
func (c *Config) ClusterAdvertised() (host string, port int32) {
	for _, addr := range []string{c.ClusterAdvertise, c.ownVoter(), c.ClusterListen} {
		if addr == "" || addr == "none" {
			continue
		}
		if host, port, err := splitAdvertised(addr); err == nil && !unspecified(host) {
			return host, port
		}
	}
	return "", 0
}

func (c *Config) ownVoter() string {
	for _, v := range c.ClusterVoters {
		if v.ID == c.NodeID {
			return v.Addr
		}
	}
	return ""
}

// checkCluster is for what no key can tell by itself.
func (c *Config) checkCluster() error {
	switch {
	case len(c.ClusterVoters) > 0 && c.ownVoter() == "" && c.ClusterJoin == "":
		return fmt.Errorf("cluster.voters does not name this node (node.id=%d); a node that is added to a cluster later is given "+
			"cluster.join with the address of a member instead", c.NodeID)
	case (len(c.ClusterVoters) > 1 || c.ClusterJoin != "") && c.ClusterListen == "none":
		return errors.New("cluster.listen=none: a node of a cluster has to listen for the others")
	case c.HeartbeatInterval*2 > c.BrokerLease:
		return fmt.Errorf("broker.heartbeat.interval.ms=%d is more than half of broker.lease.ms=%d: one lost heartbeat would cost the node its leaderships",
			c.HeartbeatInterval.Milliseconds(), c.BrokerLease.Milliseconds())
	}
	return nil
}
