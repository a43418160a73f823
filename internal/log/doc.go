// Package log keeps the files of one partition: segments in Kafka's batch format, an index beside each, the aborted
// transactions, the history of leader epochs and snapshots of producer state. It knows no WAL: what is durable, and when
// an append is acknowledged, is the business of package store.
//
// State and its owner: everything that changes is in [Log].mu, which guards fields only and is never held over I/O. Who
// changes the log (append, truncate, start an epoch, reset) is ordered by the caller, one at a time; reading runs beside
// it. Syncing, retention, snapshots and the swap of compacted segments are ordered among themselves and against truncation by a
// slot of the log's own.
//
// Invariants:
//   - the bytes of a segment are those of the batches, one after another; their offsets may leave gaps, which compaction makes;
//   - what stands at a byte below the end never changes, but by a truncation, which raises the generation, and where compacted
//     segments take the place of others, which raises swaps; an offset never changes;
//   - an index is derived from its segment and can always be built again; its checksums are how a byte that changed on the
//     disk is found, and a byte found wrong is named and never served;
//   - nothing is trusted that the checkpoint did not call synced: opening ends there, and replay goes on from there.
//
// Start reading at log.go (state), then append.go, read.go and recover.go; for compaction at clean.go, then swap.go. The formats are in docs/format.
package log
