// Package wal is a write-ahead log with group commit: records of many writers go to the disk together, with one
// fdatasync for the whole group. It knows nothing of partitions or of Raft; the store keeps one instance and the
// controller another, each in a directory of its own.
//
// # How a record becomes durable
//
// [Log.Submit] copies the record into the pending group under a short mutex and returns its [LSN]. One goroutine, the
// writer, takes the pending group, writes it and syncs it; what is submitted meanwhile gathers in the next group, so
// that batching adapts to load without a timer, and a lone writer commits at once. Group g+1 is written only after
// the sync of g returned: therefore a whole group behind a broken one proves corruption.
//
// Bulk does not go through the log twice: once the share of one [Stream] in a group reaches Options.ReferenceBytes, its
// records carry only their head; the body lies in a file that the stream's owner wrote already, and that file is synced
// in parallel with the log's own. What a stream submitted behind a reference is durable only after the reference.
//
// # Invariants
//
//   - LSNs are given in submission order without a gap, for the life of the directory.
//   - A group is in one file; it is replayed whole or not at all.
//   - Files are known by the number in their header and are never renamed while they hold records that are needed.
//   - An error of a write or a sync is fatal: nothing is durable any more, Options.Fatal is called once. Only a lack of
//     space is waited out, because the same bytes can be written again to the same place.
//
// State: everything guarded by Log.mu in log.go; the files belong to the writer goroutine, but for the spare ones
// (files.go). The format is in docs/format/wal.md. Start reading at log.go, then writer.go; recovery is in scan.go.
package wal
