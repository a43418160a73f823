package stream

import (
	"time"
)

// pace slows catching up while hot traffic flows on this node: to Limits.CatchUpRate, or to twice the hot traffic's own
// rate, so that it ends. Without hot traffic it goes as fast as it can. Each side of each catch-up connection has one.
type pace struct {
	s   *Streams
	at  time.Time // up to when traffic is accounted for
	hot int64     // the counter of hot traffic then
}

func (s *Streams) newPace() pace { return pace{s: s, at: s.clock.Now(), hot: s.hot.Load()} }

// wait waits for as long as n bytes may take; false if the connection ended first.
func (p *pace) wait(n int64, ended <-chan struct{}) bool {
	if n == 0 {
		return true
	}
	now, hot := p.s.clock.Now(), p.s.hot.Load()
	left := p.left(n, now.Sub(p.at), hot-p.hot)
	p.at, p.hot = now.Add(left), hot
	if left <= 0 {
		p.at = now
		return true
	}
	t := p.s.clock.NewTimer(left)
	defer t.Stop()
	select {
	case <-t.C():
		return true
	case <-ended:
		return false
	}
}

// left is how long n bytes have still to wait, after so much time in which so many bytes of hot traffic passed.
func (p *pace) left(n int64, passed time.Duration, hot int64) time.Duration {
	if hot == 0 {
		return 0
	}
	rate := float64(p.s.o.Limits.CatchUpRate)
	if passed > 0 {
		rate = max(rate, 2*float64(hot)/passed.Seconds())
	}
	return min(time.Duration(float64(n)/rate*float64(time.Second))-passed, time.Second)
}
