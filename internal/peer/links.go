package peer

import (
	"maps"
	"net"
	"slices"
	"time"
)

// register makes a connection one of the node's, before it is used; false if the node is closing.
func (n *Node) register(l *link, c *control) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closing {
		return false
	}
	n.mu.lastLink++
	l.seq = n.mu.lastLink
	l.heardThere = n.heardLocked(l.identity().Broker)
	l.heard()
	n.mu.links[l.seq] = l
	if c != nil {
		n.mu.controls[l.seq] = c
	}
	return true
}

func (n *Node) forget(l *link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.links, l.seq)
	delete(n.mu.controls, l.seq)
}

// linksLocked are the connections, the oldest first.
func (n *Node) linksLocked() []*link {
	links := make([]*link, 0, len(n.mu.links))
	for _, seq := range slices.Sorted(maps.Keys(n.mu.links)) {
		links = append(links, n.mu.links[seq])
	}
	return links
}

// controlsLocked are the control connections, the oldest first.
func (n *Node) controlsLocked() []*control {
	controls := make([]*control, 0, len(n.mu.controls))
	for _, seq := range slices.Sorted(maps.Keys(n.mu.controls)) {
		controls = append(controls, n.mu.controls[seq])
	}
	return controls
}

// noteLeaving remembers that a process of a peer stops in good order: nobody needs to be warned of that.
func (n *Node) noteLeaving(peer Identity) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.peers[peer.Broker] != nil {
		n.mu.leaving[peer.Broker] = peer.Incarnation
	}
}

func (n *Node) hasLeft(peer Identity) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	incarnation, left := n.mu.leaving[peer.Broker]
	return left && incarnation == peer.Incarnation
}

// closing tells whether Close was called.
func (n *Node) closing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.closing
}

// hold notes a socket that is being introduced, so that Close reaches it; false if the node is closing.
func (n *Node) hold(conn net.Conn, accepted bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closing {
		return false
	}
	n.mu.sockets[conn] = accepted
	return true
}

func (n *Node) release(conn net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.sockets, conn)
}

// within closes conn unless done is called in time; done tells whether it was.
func (n *Node) within(d time.Duration, conn net.Conn) (done func() bool) {
	timer := n.opts.Clock.AfterFunc(d, func() { _ = conn.Close() })
	return timer.Stop
}

// cutOthers ends the connections with earlier processes of a broker.
func (n *Node) cutOthers(now Identity) {
	n.mu.Lock()
	links := n.linksLocked()
	n.mu.Unlock()
	for _, l := range links {
		if peer := l.identity(); peer.Broker == now.Broker && !peer.SameProcess(now) {
			l.close(errReplaced)
		}
	}
}
