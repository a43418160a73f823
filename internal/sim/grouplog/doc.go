// Package grouplog judges __consumer_offsets record by record, for the simulation and for tests of real processes: the log of
// a group's coordinator is the one place that says who owned what, and in which order.
//
// Judged are invariants 15 and 16 of the design as far as the log alone can tell: generations and member epochs never go back,
// a partition has one owner in a generation, and under KIP-848 nobody is given a partition that another has or has yet to
// release. Who committed an offset, the caller knows by its metadata: [Log.Record] returns the commit with the group as it
// was then. Groups commit offsets of one topic each; of others ([Log.Topic]) only the owners count. A group may migrate from one kind
// to the other while it has members: its generations and epochs go on, and an owner is one across both.
//
// It is written from Kafka's schemas, not from the code that it checks. Owner of state: the caller's goroutine.
package grouplog
