// Package metadatapb is the generated code of metadata.proto: the records of the metadata WAL and the items of a
// snapshot. Read metadata.proto; package metadata gives the records their meaning.
package metadatapb
