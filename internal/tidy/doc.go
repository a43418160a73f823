// Package tidy holds no code, only tests of the tree itself: the layering (a package imports only from lower layers),
// imports that are reserved for a few packages, the sizes of files and functions, a doc.go in each package, gofmt, and
// names that say nothing. The table of layers in layers_test.go is the one in docs/ARCHITECTURE.md.
package tidy
