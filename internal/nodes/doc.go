// Package nodes runs several chronik nodes as processes of this machine: it gives them a directory, ports and a node.toml
// each, starts the same binary for each, and ends them. `chronik dev`, the benchmarks and the tests of whole clusters
// stand on it.
//
// It owns the processes that it started and nothing else: a [Process] is ended by who started it, and each ends when its
// parent does. What a node is told stands in its node.toml, so that `chronik start --config DIR/node-1/node.toml` runs
// the same node by hand. Start reading at layout.go, then process.go.
package nodes
