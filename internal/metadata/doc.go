// Package metadata is the cluster's metadata as everyone sees it: the records of the metadata WAL (metadata.proto),
// the immutable [Image] that they fold into, the typed events of the [Bus], and the [Store] that handlers call.
//
// Who writes the records, and how a quorum commits them, is the business of package controller. An Image is never
// changed once published; versions share structure. Start reading at store.go, then image.go.
package metadata
