// Package assign holds the server-side assignors of KIP-848 consumer groups: pure functions from members, their
// subscriptions and racks, and the current target assignment to the next one. They behave as Kafka 4.x's `uniform` and `range`.
//
// Owner of state: none; inputs are not changed, and outputs may share slices with them.
//
// Invariants: every partition of a topic that somebody subscribes to has exactly one owner, who subscribes to it; equal
// inputs give equal outputs. [Uniform] puts balance above local racks, and local racks above moving little; see its files.
//
// Start reading at assign.go, then homogeneous.go.
package assign
