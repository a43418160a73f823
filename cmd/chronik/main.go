// Command chronik is a Kafka-compatible, replicated, durable event log in one binary: the node itself and the commands
// to work with it. See `chronik help`.
package main

import (
	"os"

	"chronik/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
