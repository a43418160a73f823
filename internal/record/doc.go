// Package record knows Kafka's record batch, version 2 (magic 2, KIP-98): how to look at one in the buffer that it
// arrived in, how to tell whether it is sound, and how to patch what a leader assigns.
//
// It does no I/O and keeps no state but pools of decoders, which live in a [Codecs] value that the caller owns.
// A batch is a sub-slice of somebody's buffer; nothing here keeps it.
//
// Invariants: base offset and leader epoch lie outside a batch's CRC and are patched in place; everything else that is
// patched renews the CRC. No decoder writes more than its caller allowed, whatever the input claims.
//
// Start reading at batch.go (the view), then validate.go.
package record
