// Package broker is the one constructor of a node: it opens storage, metadata, partitions, coordinators, API and
// listeners in their order, and closes them in the reverse one. The simulated cluster makes its nodes with it too, with
// another file system, clock and network.
//
// It owns the data directory's process file (chronik.pid) and the configuration in force. Start reading at broker.go.
package broker
