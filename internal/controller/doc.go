// Package controller writes the metadata: it decides what a command leads to, has a quorum commit it through Raft and
// folds it into this node's image. [Controller] is the metadata.Store that the rest of the broker sees.
//
// It has two halves. The pure one is decide (decide*.go, placement.go): image and command in, records out; no I/O, no
// clock, no randomness, so that data files can drive it (testdata). The driver is one goroutine, the loop, which owns
// the Raft node and everything in type loop, without locks; other goroutines post events to its inbox. The loop never
// waits for the disk: a Raft append is handed to the journal (the metadata WAL), and its completion comes back as an
// event.
//
// Beside decide stands liveness (liveness.go, liveness_beat.go): what heartbeats, silence and proofs of death say of brokers, and
// the commands that follow from it. It is as pure: time and image come as arguments; the loop (liveness_loop.go) brings them.
//
// Invariants:
//
//   - Commands are decided on the speculative image: the committed one and this leader's own proposals of its term, in
//     order. It is thrown away with the leadership, and there is none before an entry of the own term is applied.
//
//   - An entry carries the term that it was decided in; where Raft committed it in another, it is ignored.
//
//   - A command is answered when all that its answer rests on is committed and applied here; with REQUEST_TIMED_OUT,
//     "outcome unknown", when leadership is lost before.
//
//   - A command that writes nothing is answered once a quorum has confirmed that this node still led when it was decided
//     (unwritten.go).
//
//   - A heartbeat is answered with a quorum behind the answer, and a broker is fenced for its silence only once its lease is
//     over for itself; docs/decisions/2026-11-22-broker-leases.md.
//
//   - A broker's epoch is the offset of its registration; a leader epoch belongs to one process.
//
//   - No two clusters come of one list of voters, and a disk that was wiped is another member of Raft (bootstrap.go, formation.go).
//
//   - A membership change is proposed one at a time, and only by a leader that knows what is committed (membership.go).
//
// Other nodes are reached through a [Transport]; [Links] is the one over package peer: Raft messages by Raft ID, commands
// forwarded to the controller (store.go; their form in command_*.go). election.go has a controller elected as soon as the death
// of the old one is proved, transfer.go hands the leadership over.
//
// Start reading at controller.go, then loop.go and decide.go. The format is in docs/format/metadata-wal.md.
package controller
