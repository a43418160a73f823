// Package regex matches the regular expressions that KIP-848 members subscribe with (RE2, as Kafka 4.x's coordinator)
// against the names of topics.
//
// Owner of state: [Cache], which belongs to one machine's loop, like the machine itself; nothing here is locked.
//
// Invariants: a pattern matches whole names; internal topics never match; the answer for equal names is equal, and ascending.
//
// Start reading at regex.go.
package regex
