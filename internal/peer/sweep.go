package peer

import "time"

// sweep is one goroutine for all connections: it pings, and ends connections that are silent or stalled. Deadlines on
// every read and write would cost each of them a timer.
func (n *Node) sweep() {
	defer n.goroutines.Done()
	limits := n.opts.Limits
	interval := max(min(limits.Ping, limits.Silence)/4, time.Millisecond)
	ticker := n.opts.Clock.NewTicker(interval)
	defer ticker.Stop()
	last, patientUntil := n.sinceBase(), time.Duration(0)
	for {
		select {
		case <-ticker.C():
		case <-n.ctx.Done():
			return
		}
		now := n.sinceBase()
		if now-last > 2*interval+limits.Ping {
			patientUntil = now + limits.Silence // this process stood still: what peers sent meanwhile waits to be read
		}
		last = now
		n.mu.Lock()
		links := n.linksLocked()
		controls := make([]*control, len(links))
		for i, l := range links {
			controls[i] = n.mu.controls[l.seq]
		}
		n.mu.Unlock()
		for i, l := range links {
			n.sweepOne(l, controls[i], now, now >= patientUntil)
		}
	}
}

// sweepOne looks at one connection; c is nil for a data connection.
func (n *Node) sweepOne(l *link, c *control, now time.Duration, judge bool) {
	limits := n.opts.Limits
	if c != nil && c.dialled && now-l.sweep.pingedAt >= limits.Ping {
		l.sweep.pingedAt = now
		c.send(framePing, false)
	}
	// A data connection may have nothing to say; what any connection with that broker hears counts for it.
	heard := &l.heardHere
	if c == nil {
		heard = l.heardThere
	}
	if judge && now-time.Duration(heard.Load()) > limits.Silence {
		l.close(errSilent)
		return
	}
	writes := l.writes.Load()
	if writes%2 == 0 || writes != l.sweep.writes || l.sweep.writesAt == 0 || !judge {
		l.sweep.writes, l.sweep.writesAt = writes, now
		return
	}
	if now-l.sweep.writesAt > limits.WriteStall {
		l.close(errStalled)
	}
}
