// Package admin has the same conversations about topics, configuration and the cluster (keys 3, 18, 19, 20, 32, 33, 37, 44,
// 60 and 75, at every version, good and bad input) with Apache Kafka and with chronik, and compares the answers field by
// field. It needs the jars that scripts/clients.sh fetches and runs with CHRONIK_ORACLE=1 (make oracle). Start reading at
// pair_test.go.
package admin
