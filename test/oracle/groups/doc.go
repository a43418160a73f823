// Package groups is the conversation about consumer groups (keys 8 to 16, 42 and 47, at every version, good and bad input;
// members that wait for one another), and its comparison with Apache Kafka (make oracle). Start reading at groups.go.
package groups
