package clock

import "time"

// Clock tells the time and wakes whoever waits for it.
type Clock interface {
	// Now carries a monotonic reading, as time.Now does: differences never go backwards.
	Now() time.Time
	// AfterFunc runs f in a goroutine of its own once d has passed.
	AfterFunc(d time.Duration, f func()) Timer
	// NewTimer sends the time on C once d has passed.
	NewTimer(d time.Duration) Timer
	NewTicker(d time.Duration) Ticker
}

// Timer is a time.Timer. C is nil for a timer made by AfterFunc.
type Timer interface {
	C() <-chan time.Time
	Stop() bool
	Reset(d time.Duration) bool
}

// Ticker is a time.Ticker.
type Ticker interface {
	C() <-chan time.Time
	Stop()
}

// System is the machine's own clock.
type System struct{}

func (System) Now() time.Time { return time.Now() }

func (System) AfterFunc(d time.Duration, f func()) Timer { return timer{time.AfterFunc(d, f)} }

func (System) NewTimer(d time.Duration) Timer { return timer{time.NewTimer(d)} }

func (System) NewTicker(d time.Duration) Ticker { return ticker{time.NewTicker(d)} }

type timer struct{ *time.Timer }

func (t timer) C() <-chan time.Time { return t.Timer.C }

type ticker struct{ *time.Ticker }

func (t ticker) C() <-chan time.Time { return t.Ticker.C }
