// Package group holds consumer groups: the classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup; KIP-62, 345,
// 394, 429, 814), the consumer protocol (ConsumerGroupHeartbeat; KIP-848, 1082, 1251), the way from one to the other while a group
// is in use, and committed offsets, as a state machine over package coordinator, with Kafka's own record formats in
// __consumer_offsets (docs/format/consumer-offsets.md).
//
// Owner of state: one [Machine] per partition of __consumer_offsets holds the groups whose IDs hash there; it belongs to
// its shard's loop. [Service] is what handlers call: it finds the partition of a group, makes the topic when it is first
// needed, and follows the metadata to learn which partitions this node leads.
//
// Invariants: a classic member owns an assignment only in the generation that the leader made it for; a partition of a consumer
// group goes to its next owner only when the one before has confirmed that it gave it up, or is out; what a client is told is
// committed; members are kept in an order (classic ones that in which they joined, others that of their IDs), so that equal inputs
// make equal groups. An operation is refused before it has changed anything, or not at all: there is no undo.
//
// Differences from Kafka that a client can tell apart: none known in answers; a second JoinGroup or SyncGroup of the same
// member answers the first one with REBALANCE_IN_PROGRESS instead of leaving it without an answer; a static consumer that joins
// again with its own member ID is not UNRELEASED_INSTANCE_ID; a regular expression is resolved with the heartbeat that brings it,
// and after topics have changed with the next one, instead of up to ten seconds later.
//
// What the protocol leaves to its clients: a consumer that says in a heartbeat that it has not got a partition must not take it
// later because of an answer from before.
//
// Start reading at machine.go. The classic protocol: join.go, rebalance.go. The consumer protocol: consumer_heartbeat.go (what a
// member says), consumer_target.go (epochs and the target assignment), reconcile.go (one member's way there), consumer_leave.go
// (members that go), consumer_classic.go (classic members in a consumer group) and migrate.go (from one kind to the other).
package group
