// Package replica holds the partitions that this node has a replica of: who leads them, which replicas are in sync, and
// up to which offset everything is committed.
//
// [Manager] follows the metadata events with a cursor of its own and makes the partitions of the store agree with the
// image. [Partition] is one of them as the API and the coordinators know it: append, wait until the append is durable or
// committed, read what is committed, watch for more.
//
// Owners of state: the store owns what is on disk and the order of appends; a Partition owns leadership, the in-sync
// set, the high watermark and who waits for them, all in one mu that is never held over I/O; the watermark arithmetic is
// pure and stands alone in watermark.go.
//
// Invariants: the high watermark is the minimum durable end offset over the maximal in-sync set, of which the local disk
// is one; it never goes back while the process lives; it stalls while the committed in-sync set is below
// min.insync.replicas (KIP-966). A leader appends only after its epoch's start is durable. A waiter is answered for the
// leader epoch that its records were appended in and for no other.
//
// Start reading at partition.go, then watermark.go and manager.go.
package replica
