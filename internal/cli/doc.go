// Package cli is the command line: `chronik start` runs a node, the other commands are clients of one (or of any other
// Kafka-compatible broker).
//
// One file per command; root.go puts them together and says what the exit codes mean. How a node's configuration is
// put together from flags, environment and file is in configuration.go. Start reading at root.go.
package cli
