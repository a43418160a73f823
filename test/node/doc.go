// Package node runs the real chronik binary for tests: it starts it on free loopback ports, waits until it serves, kills
// it, and starts it again on the same data and port. Start reading at node.go.
package node
