package broker

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/peer"
)

// openCluster opens the port for the other nodes, beside those for clients: a port in use is told before anything is
// touched.
func (b *Broker) openCluster() (err error) {
	addr := b.cfg.ClusterAddr()
	if addr == "" {
		return nil
	}
	if b.clusterListener, err = b.deps.Listen("tcp", addr); err != nil {
		return inUse(fmt.Errorf("listen for the other nodes on %s: %w", addr, err), "set cluster.listen")
	}
	return nil
}

// openPeers makes the node known to the others. It neither dials nor accepts yet: handlers come first.
func (b *Broker) openPeers(ctx context.Context) (err error) {
	if b.clusterListener == nil {
		return nil
	}
	address, err := b.clusterAddress(ctx)
	if err != nil {
		return err
	}
	identity := b.store.Identity()
	b.peers, err = peer.New(peer.Options{
		Self: peer.Identity{
			Broker: kafka.BrokerID(b.cfg.NodeID), Directory: identity.Directory, Incarnation: b.incarnation,
			ClusterID: identity.ClusterID, Address: address,
		},
		Listener: b.clusterListener, Dial: b.deps.Dial, Clock: b.deps.Clock, Logger: b.log.With("component", "peer"),
	})
	return err
}

// clusterAddress is the host and port under which the others reach this node: as configured, else the host by which it
// reaches them.
func (b *Broker) clusterAddress(ctx context.Context) (string, error) {
	host, port := b.cfg.ClusterAdvertised()
	if port == 0 {
		port = portOf(b.clusterListener.Addr())
	}
	if host == "" {
		if listening, _, err := config.SplitHostPort(b.clusterListener.Addr().String()); err == nil && !net.ParseIP(listening).IsUnspecified() {
			host = listening
		}
	}
	if host == "" && b.cfg.ClusterJoin != "" {
		conn, err := b.deps.Dial(ctx, "tcp", b.cfg.ClusterJoin)
		if err != nil {
			return "", fmt.Errorf("reach the cluster at cluster.join=%s: %w; is that member up? Give this node's own address with cluster.advertise to start without it",
				b.cfg.ClusterJoin, err)
		}
		host, _, err = config.SplitHostPort(conn.LocalAddr().String())
		_ = conn.Close()
		if err != nil {
			return "", err
		}
	}
	if host == "" {
		return "", fmt.Errorf("cluster.listen=%s is every interface: give the address under which the other nodes reach this one with cluster.advertise", b.cfg.ClusterAddr())
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port))), nil
}

// endpoints are the addresses that clients are told. Alone, a node answers with the address that a client dialled; a
// member of a cluster is also named by the others, so it must say where it is.
func (b *Broker) endpoints() []metadata.Endpoint {
	var list []metadata.Endpoint
	for i, l := range b.cfg.Kafka {
		host, port := b.cfg.Advertised(i)
		if port == 0 {
			port = portOf(b.server.Addrs()[i])
		}
		if host == "" && b.peers != nil {
			host = b.clientHost(b.server.Addrs()[i])
		}
		list = append(list, metadata.Endpoint{Listener: l.Name, Host: host, Port: port, TLS: l.TLS})
	}
	return list
}

// clientHost is the host of a listener, or where that is every interface, the one by which the other nodes reach this one.
func (b *Broker) clientHost(addr net.Addr) string {
	host, _, err := config.SplitHostPort(addr.String())
	if err == nil && host != "" && !net.ParseIP(host).IsUnspecified() {
		return host
	}
	host, _, _ = config.SplitHostPort(b.peers.Self().Address)
	return host
}
