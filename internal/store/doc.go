// Package store is the storage of a node and the owner of durability: the data directory with its lock and identity, one
// write-ahead log shared by all partitions, and the partitions' logs over it.
//
// # The path of an append
//
// [Partition.Append] writes the batches to the segment file (page cache) and submits them to the WAL; it waits for
// nothing. Once the WAL's group is on the disk, Partition.OnDurable's function hears the new durable end. Readers use
// segment files only, and may read what is not durable yet: what may be shown to whom is the business of package replica.
//
// # Recovery
//
// A checkpoint names, for every partition, a state of its log that is synced, and the LSN from which the WAL is replayed.
// The WAL is the truth behind it: a log ends where the WAL says, whatever else its files hold. Changes that are not
// appends (truncate, reset, log start) are logged with the synced state of the log that they start from, durably and
// before any file changes, so that replay never has to look at what was there before.
//
// # Invariants
//
//   - What was written to a segment is marked dirty before it is submitted, so that every record below an LSN which a
//     checkpoint starts from is synced.
//   - A checkpoint never starts behind the durable end of the WAL, nor behind a change that is not applied yet.
//   - An error of a sync is fatal: Options.Fatal.
//   - Bytes that were found not to be as they were written are not served any more (scrub.go).
//
// State: the partitions are guarded by Store.mu, a partition's fields by Partition.mu, the order of its changes by two
// one-slot channels (partition.go). Start reading at store.go, append.go, then recover.go. Formats: docs/format/node.md,
// checkpoint.md, wal.md.
package store
