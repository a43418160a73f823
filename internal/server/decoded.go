package server

import "chronik/internal/wire"

// decodedMemory is the memory of decoded requests, which they hold until they are answered; some wait for long. A quarter
// of it is kept for small requests of connections that have no other under way, so that others, however large and however
// many of one connection, do not stop them.
type decodedMemory struct {
	large *wire.Budget // of everybody
	small *wire.Budget
}

// smallDecoded is the most that a small request takes, in bytes.
const smallDecoded = 16 << 10

func newDecodedMemory(limit int64) decodedMemory {
	return decodedMemory{large: wire.NewBudget(largeDecoded(limit)), small: wire.NewBudget(limit - largeDecoded(limit))}
}

// largeDecoded is the most that one request can have of a limit, in bytes.
func largeDecoded(limit int64) int64 { return limit - limit/4 }

func (d *decodedMemory) used() int64 { return d.large.Used() + d.small.Used() }

// acquire takes n bytes and tells which budget to give them back to. alone is whether the connection has no other request
// under way.
func (d *decodedMemory) acquire(n int64, alone bool, done <-chan struct{}) (*wire.Budget, error) {
	from := d.large
	if from.TryAcquire(n) {
		return from, nil
	}
	if alone && n <= smallDecoded {
		from = d.small
	}
	return from, from.Acquire(n, done)
}
