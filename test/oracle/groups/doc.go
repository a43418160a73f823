// Package groups is the conversation about groups, and its comparison with Apache Kafka (make oracle): classic consumer groups
// (groups.go: keys 8 to 16, 42 and 47, at every version, good and bad input; members that wait for one another), and those of
// KIP-848 (next.go: keys 68 and 69, and what the others say of such a group; next_migration.go: groups that change their protocol;
// next_limits.go: what a configuration forbids). Start reading at groups.go.
package groups
