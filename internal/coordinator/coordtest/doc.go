// Package coordtest has what tests of state machines on a coordinator need: a log in memory. Start reading at log.go.
package coordtest
