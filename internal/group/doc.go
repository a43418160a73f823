// Package group holds consumer groups: the classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup; KIP-62, 345,
// 394, 429, 814) and committed offsets, as a state machine over package coordinator, with Kafka's own record formats in
// __consumer_offsets (docs/format/consumer-offsets.md).
//
// Owner of state: one [Machine] per partition of __consumer_offsets holds the groups whose IDs hash there; it belongs to
// its shard's loop. [Service] is what handlers call: it finds the partition of a group, makes the topic when it is first
// needed, and follows the metadata to learn which partitions this node leads.
//
// Invariants: a member owns an assignment only in the generation that the leader made it for; what a client is told is
// committed; members are kept in the order in which they joined, so that equal inputs make equal groups.
//
// Differences from Kafka that a client can tell apart: none known in answers; a second JoinGroup or SyncGroup of the same
// member answers the first one with REBALANCE_IN_PROGRESS instead of leaving it without an answer.
//
// Start reading at machine.go, then join.go and rebalance.go.
package group
