// Package simnet is a network in memory for simulations: hosts, processes on them, listeners and connections with the
// failures of real ones. It keeps to the time package, so that in a bubble of testing/synctest it runs on fake time.
//
// A connection is two pipes. A write becomes segments that are due at a time of their own; a read returns what is due
// and not held up by a cut. How long a segment takes is drawn from the seed, the link and the segment's number, never
// in the order in which goroutines happen to run.
//
// What fails: a process that is killed (its kernel lives: connections end with EOF or reset, redials are refused), a
// host that loses power (nothing is heard any more, old connections are reset when it is back), cuts in one direction
// or both (nothing is lost, all waits), hosts that refuse to be dialled although they live, resets, slow links.
//
// Owner of state: everything is under [Network]'s one mutex. Start reading at network.go, then pipe.go.
package simnet
