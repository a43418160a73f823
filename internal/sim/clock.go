package sim

import (
	"sync"
	"time"

	"chronik/internal/clock"
)

// nodeClock is a node's time: the bubble's, ahead by what it has jumped. Its timers wait while the node is paused.
type nodeClock struct {
	gate *gate
	mu   struct {
		sync.Mutex
		ahead time.Duration
	}
}

var _ clock.Clock = (*nodeClock)(nil)

func (c *nodeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.mu.ahead)
}

// jump sets the clock forward, as it is after a machine was suspended.
func (c *nodeClock) jump(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ahead += d
}

func (c *nodeClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	return c.timer(d, 0, nil, f)
}

func (c *nodeClock) NewTimer(d time.Duration) clock.Timer {
	return c.timer(d, 0, make(chan time.Time, 1), nil)
}

func (c *nodeClock) NewTicker(d time.Duration) clock.Ticker {
	return ticker{c.timer(d, d, make(chan time.Time, 1), nil)}
}

func (c *nodeClock) timer(d, again time.Duration, channel chan time.Time, f func()) *nodeTimer {
	t := &nodeTimer{clock: c, again: again, channel: channel, run: f}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.armLocked(d)
	return t
}

// nodeTimer is a timer or, with again, a ticker.
type nodeTimer struct {
	clock   *nodeClock
	again   time.Duration
	channel chan time.Time
	run     func()

	mu struct {
		sync.Mutex
		timer  *time.Timer
		round  int // a timer that was stopped or reset while it waited at the gate does nothing
		active bool
	}
}

func (t *nodeTimer) armLocked(d time.Duration) {
	t.mu.round++
	round := t.mu.round
	t.mu.active = true
	t.mu.timer = time.AfterFunc(d, func() { t.fire(round) })
}

func (t *nodeTimer) fire(round int) {
	t.clock.gate.wait()
	now := t.clock.Now()
	t.mu.Lock()
	if round != t.mu.round {
		t.mu.Unlock()
		return
	}
	t.mu.active = false
	if t.channel != nil {
		select {
		case t.channel <- now:
		default:
		}
	}
	if t.again > 0 {
		t.armLocked(t.again)
	}
	t.mu.Unlock()
	if t.run != nil {
		t.run()
	}
}

func (t *nodeTimer) C() <-chan time.Time { return t.channel }

func (t *nodeTimer) Stop() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stopLocked()
}

func (t *nodeTimer) stopLocked() bool {
	was := t.mu.active
	t.mu.active = false
	t.mu.round++
	t.mu.timer.Stop()
	if t.channel != nil {
		select {
		case <-t.channel:
		default:
		}
	}
	return was
}

func (t *nodeTimer) Reset(d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.stopLocked()
	t.armLocked(d)
	return was
}

type ticker struct{ *nodeTimer }

func (t ticker) Stop() { t.nodeTimer.Stop() }
