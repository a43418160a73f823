// Package pair has one conversation with two servers, request by request, each at the version that the conversation names, and
// compares the answers field by field: Apache Kafka and chronik, or franz-go's kfake and chronik.
//
// What is each server's own (addresses, texts, random IDs) is replaced or dropped; what else differs fails, unless a table
// says it with its reason, and a row of the table that no longer occurs fails too. Start reading at side.go.
package pair
