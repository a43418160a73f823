// Package groups has the same conversations about consumer groups (keys 8 to 16, 42 and 47, at every version, good and bad
// input) with Apache Kafka and with chronik, and compares the answers field by field. Members that wait for one another
// need more than the one request at a time of package oracle. It needs the jars that scripts/clients.sh fetches and runs
// with CHRONIK_ORACLE=1 (make oracle). Start reading at pair_test.go.
package groups
