// Package metadata is the cluster's metadata as everyone sees it: the records of the metadata WAL
// (metadatapb/metadata.proto), the immutable [Image] that they fold into, the typed events of the [Bus], and the
// [Store] that handlers call.
//
// Who writes the records, and how a quorum commits them, is the business of package controller. What holds here:
//
//   - An Image is never changed once published; versions share structure (tree.go, vector.go), so that a change costs
//     a path, whatever the size of the cluster.
//   - Folding cannot fail and depends on nothing but the image and the record: images are equal, byte for byte in their
//     snapshot form, at equal offset.
//   - A subscriber is a cursor, not a mailbox: it reads batches by offset, in order, and misses none unknowingly.
//
// Start reading at store.go, then image.go, apply.go and bus.go.
package metadata

//go:generate ../../scripts/proto.sh
