// Package clock is the time that a node sees. Everything that decides by time (retention, sessions, leases, append
// time) takes a [Clock], so that a simulation can pause it, make it jump and give every node its own.
package clock
