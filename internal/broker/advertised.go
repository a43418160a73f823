package broker

import (
	"context"
	"net"
	"strconv"
	"time"
)

// reachLimit is how long an advertised address may take to answer.
const reachLimit = 3 * time.Second

// tryAdvertised connects to the addresses that clients are told. What this node cannot reach itself, others most likely
// cannot either, and the person at the keyboard sees it only as a client that hangs.
func (b *Broker) tryAdvertised() {
	for i, l := range b.cfg.Kafka {
		host, port := b.cfg.Advertised(i)
		if host == "" {
			continue // clients are told what they dialled
		}
		if port == 0 {
			port = portOf(b.server.Addrs()[i])
		}
		addr := net.JoinHostPort(host, strconv.Itoa(int(port)))
		ctx, cancel := context.WithTimeout(b.ctx, reachLimit)
		conn, err := b.deps.Dial(ctx, "tcp", addr)
		cancel()
		if err == nil {
			_ = conn.Close()
			continue
		}
		if b.ctx.Err() != nil {
			return
		}
		b.log.Warn("clients are told an address that this node itself cannot reach; check --advertise, the name service and the "+
			"firewall, or leave --advertise away to tell clients the address that they dialled",
			"advertised", addr, "listener", l.Given, "error", err)
	}
}
