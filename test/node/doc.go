// Package node runs the real chronik binary for tests: a single node (node.go) or a whole cluster (cluster.go) on free
// loopback ports. It waits until they serve, kills, freezes and stops them, and starts them again on the same data and
// ports. Start reading at node.go, then cluster.go.
package node
