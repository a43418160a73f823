// Package coordinator runs replicated state machines, each on the log of one partition: groups on __consumer_offsets,
// later transactions and share groups on theirs.
//
// An operation looks at the state, changes it at once and returns records and answers. The records are appended to the
// partition; the answers leave once all that the operation saw is committed, those of reads too, so that nobody is told
// what a failover could take back. A failed append unloads the state and loads it again from the log: there is no undo. Only where
// too few replicas are in sync, so that nothing was appended, does the batch wait and is tried again.
//
// Owner of state: each led partition has one shard, and each shard one loop goroutine that owns the machine, its timers
// and its answers, without locks; shard.mu guards only the queue that others submit to. Operations that arrive while as many
// appends are in flight as may be (four) share the next batch. All queues are bounded, and no operation waits for anything.
//
// A machine never reads a clock, starts a goroutine or does I/O: it gets a [Tx], which makes it testable line by line.
// Start reading at machine.go, then shard.go.
package coordinator
