// Package replica holds the partitions that this node has a replica of: who leads them, which replicas are in sync, and
// up to which offset everything is committed.
//
// [Manager] follows the metadata events with a cursor of its own and makes the partitions of the store agree with the
// image. [Partition] is one of them as the API and the coordinators know it: append, wait until the append is durable or
// committed, read what is committed, watch for more. [Streams] (package stream) carries records between replicas: a leader
// answers Follow and reads for its followers (partition_sessions.go), a follower appends, cuts and begins anew as its leader
// says (follower.go).
//
// Owners of state: the store owns what is on disk and the order of appends; a Partition owns leadership, sessions, the
// in-sync set, the high watermark and who waits for them, all in one mu that is never held over I/O. What a leader has its
// follower do to the log is ordered against changes of leadership by a slot of one (Partition.ordered). The arithmetic is
// pure and stands alone: watermark.go, isr.go, compareLogs and cutFor.
//
// Invariants:
//
//   - The high watermark of a leader is the minimum durable end offset over the maximal in-sync set (committed and
//     proposed), of which the local disk is one; it stalls while the committed set is below min.insync.replicas (KIP-966).
//     That of a follower is its leader's, as far as its own disk has it. It never goes back while the process lives, but for
//     a replica that drops its log outside the in-sync set, or after an unclean election.
//   - A leader appends only after its epoch's start is durable; once a partition follows, or leads in another epoch, the
//     disk takes no append of an older one, from whomever.
//   - An acknowledgement counts in the session of its Follow, and a session in one leader epoch.
//   - One change of the in-sync set is outstanding; its members count until the image shows a newer partition epoch, or the
//     first attempt was refused for good. After a lost answer the leader asks for the set that there is, on the same base,
//     so that the image will tell.
//   - A log is cut where the epochs of the two logs part (KIP-101, KIP-279), never by the watermark; what is committed is
//     not cut, and a member of the in-sync set does not drop its log.
//   - A waiter is answered for the leader epoch that its records were appended in and for no other.
//
// Start reading at partition.go, then watermark.go, isr.go, partition_sessions.go, follower.go and manager.go.
package replica
