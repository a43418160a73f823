//go:build race

package sim

// raceEnabled: the race detector shuffles and slows; a few seeds are enough to find races.
const raceEnabled = true
