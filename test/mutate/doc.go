// Package mutate breaks the rules of the design once each, on purpose, in a copy of the tree, and demands that a test that
// looks at histories and disks notices. Each mutation is a patch in mutations/, whose head says which rule it breaks, what
// is run, and what the checker must say. `make mutate` runs them all; a plain `go test` only checks that they still apply.
package mutate
