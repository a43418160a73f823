// Package stream carries partitions' logs from their leaders to their followers: the frames, the connections, the windows
// and the acknowledgements. What a replica may append, cut or acknowledge is decided by package replica.
//
// # The path of a batch
//
// The leader appends to its page cache and calls [Streams.Changed], before its own disk has answered. The sender of each
// follower's connection reads what is new from the page cache, coalesced, and writes it; it never waits for acks, only
// for a window per partition and one per connection. The follower's reader checks and appends what has come; then, before it
// waits for more, it makes the group commit itself and writes one Ack frame with the new ends of all its partitions, and
// nobody is woken. Where much has come (commitBytes), or somebody else's group commit is under way, the WAL's writer does
// it while the reader goes on, and the link's writer acknowledges once [Streams.Durable] has heard. The leader's reader hands them to the partition's session, which moves the high watermark.
//
// Two connections per pair of nodes, dialled by the follower, carry all partitions: hot, and catch-up for those that are
// far behind. A partition moves between them by following anew on the other one, from its log's end: so there is no gap and
// no duplicate.
//
// # Invariants
//
//   - A Follow begins a session, numbered by the follower on its connection. Frames and acks of another session than the
//     partition's last one change nothing.
//   - A leader sends in the epoch of the Follow that it answers; a follower appends only in the epoch that it follows in.
//   - An Ack names nothing that is not on the follower's disk.
//   - Nobody waits for a slow follower: what it has not taken stays in the leader's log files, not in memory.
//   - No mutex of this package is held over I/O, nor over a call into another package.
//
// Owners of state: a link (one per leader and kind) owns the follower's side of a connection, an outbound the leader's. Start
// reading at streams.go, then outbound.go and sender.go for the leader, link.go and receiver.go for the follower. The frames
// are in frames.go and docs/format/stream.md.
package stream
