package simnet

import (
	"hash/crc32"
	"io"
	"sync"
	"syscall"
	"time"
)

// segmentSize is how much of a write travels together.
const segmentSize = 16 << 10

// segment is under way, or has arrived and is not read.
type segment struct {
	data    []byte
	at      time.Time // due
	number  uint64
	counted bool // in the digest
}

// pipe is one direction of a connection. All of it is under Network.mu.
type pipe struct {
	net      *Network
	from, to *Host
	back     *pipe // the other direction
	id       uint64
	label    uint64 // of the link and the connection's number on it: part of every draw
	messages uint64

	segments []segment
	queued   int // bytes in segments
	unacked  int // bytes that were read, which the sender cannot know because of a cut
	lastAt   time.Time

	ended   bool // the sender has closed: EOF, or reset, once that is due
	endAt   time.Time
	reset   bool
	deaf    bool // the receiver's socket is gone: a write is answered by a reset
	lost    bool // a host of it lost power: nothing arrives any more
	gone    bool // no longer among Network.pipes
	timer   *time.Timer
	timerAt time.Time

	readable, writable sync.Cond
}

func (n *Network) newPipe(from, to *Host, label uint64) *pipe {
	n.last++
	p := &pipe{net: n, from: from, to: to, id: n.last, label: label}
	p.readable.L, p.writable.L = &n.mu, &n.mu
	n.pipes[p.id] = p
	return p
}

// delay draws how long the next message takes.
func (n *Network) delay(l link, label, message uint64) time.Duration {
	h := hash(n.opts.Seed, label, message)
	d := n.opts.DelayMin
	if spread := n.opts.DelayMax - n.opts.DelayMin; spread > 0 {
		d += time.Duration(h % uint64(spread))
	}
	if n.opts.SlowOneIn > 0 && hash(h, 1)%n.opts.SlowOneIn == 0 && n.opts.SlowMax > 0 {
		d += time.Duration(hash(h, 2) % uint64(n.opts.SlowMax))
	}
	return d + n.slow[l]
}

// due is when something that is sent now arrives: never before what was sent earlier.
func (p *pipe) due() time.Time {
	p.messages++
	at := time.Now().Add(p.net.delay(link{p.from.ip, p.to.ip}, p.label, p.messages))
	if at.Before(p.lastAt) {
		at = p.lastAt
	}
	p.lastAt = at
	return at
}

// room is how many bytes the sender may send now.
func (p *pipe) room() int { return p.net.opts.Window - p.queued - p.unacked }

func (p *pipe) pushLocked(data []byte) {
	at := p.due()
	if p.deaf && (!p.lost || p.to.on) { // the receiver's kernel knows of no such connection
		p.segments, p.queued = nil, 0
		p.back.lost = false
		p.back.resetLocked(false)
		return
	}
	p.segments = append(p.segments, segment{data: append([]byte(nil), data...), at: at, number: p.messages})
	p.queued += len(data)
	p.readable.Broadcast()
}

func (p *pipe) cut() bool     { return p.net.cuts[link{p.from.ip, p.to.ip}] }
func (p *pipe) backCut() bool { return p.net.cuts[link{p.to.ip, p.from.ip}] }

// readLocked returns what is due: bytes, or the end. ok is false if there is nothing yet; then a timer is set for when
// there is.
func (p *pipe) readLocked(b []byte) (count int, err error, ok bool) {
	if p.cut() || p.lost {
		return 0, nil, false
	}
	now := time.Now()
	for count < len(b) && len(p.segments) > 0 && !p.segments[0].at.After(now) {
		s := &p.segments[0]
		n := copy(b[count:], s.data)
		if !s.counted {
			s.counted = true
			p.net.digest += hash(p.label, s.number, uint64(crc32.ChecksumIEEE(s.data)), uint64(s.at.UnixNano()))
		}
		p.net.carried += int64(n)
		count += n
		if s.data = s.data[n:]; len(s.data) == 0 {
			p.segments = p.segments[1:]
		}
	}
	if count > 0 {
		p.queued -= count
		if p.backCut() {
			p.unacked += count
		}
		p.writable.Broadcast()
		return count, nil, true
	}
	if len(p.segments) > 0 {
		p.armLocked(p.segments[0].at)
		return 0, nil, false
	}
	if !p.ended {
		return 0, nil, false
	}
	if p.endAt.After(now) {
		p.armLocked(p.endAt)
		return 0, nil, false
	}
	if p.reset {
		return 0, syscall.ECONNRESET, true
	}
	return 0, io.EOF, true
}

// armLocked wakes the reader at a time.
func (p *pipe) armLocked(at time.Time) {
	if p.timer != nil && p.timerAt.Equal(at) {
		return
	}
	p.stopTimerLocked()
	p.timerAt = at
	p.timer = time.AfterFunc(time.Until(at), func() {
		p.net.mu.Lock()
		defer p.net.mu.Unlock()
		if p.timerAt.Equal(at) {
			p.timer = nil
		}
		p.readable.Broadcast()
		p.back.writable.Broadcast()
	})
}

func (p *pipe) stopTimerLocked() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// postponeLocked makes nothing arrive before a time.
func (p *pipe) postponeLocked(at time.Time) {
	for i := range p.segments {
		if p.segments[i].at.Before(at) {
			p.segments[i].at = at
		}
	}
	if p.ended && p.endAt.Before(at) {
		p.endAt = at
	}
	if p.lastAt.Before(at) {
		p.lastAt = at
	}
	p.readable.Broadcast()
}

// endLocked is an orderly end: EOF behind what is under way.
func (p *pipe) endLocked() {
	if !p.ended {
		p.ended, p.endAt = true, p.due()
		p.readable.Broadcast()
	}
}

// resetLocked tells the receiver that the connection is reset. What has not arrived by now is lost with drop, else it
// arrives before.
func (p *pipe) resetLocked(drop bool) {
	if p.reset || p.lost {
		return
	}
	now := time.Now()
	for i, s := range p.segments {
		if drop && s.at.After(now) {
			p.segments = p.segments[:i]
			break
		}
	}
	p.queued = 0
	for _, s := range p.segments {
		p.queued += len(s.data)
	}
	p.ended, p.reset, p.endAt = true, true, p.due()
	p.back.writable.Broadcast() // whose sender is this one's receiver: it fails when it is told
	p.readable.Broadcast()
	p.armLocked(p.endAt)
}

// toldReset tells whether the receiver of this direction knows that the connection was reset.
func (p *pipe) toldReset() bool {
	return p.reset && !p.lost && !p.cut() && !p.endAt.After(time.Now())
}

// dropLocked forgets a pipe that nobody reads any more.
func (p *pipe) dropLocked() {
	p.deaf = true
	p.segments, p.queued = nil, 0
	p.stopTimerLocked()
	p.writable.Broadcast()
}

func (p *pipe) forgetLocked() {
	if !p.gone {
		p.gone = true
		p.stopTimerLocked()
		delete(p.net.pipes, p.id)
	}
}
