// Package oracle holds no code, only tests that send the same requests to chronik and to another broker and compare the
// answers field by field: franz-go's kfake always, Apache Kafka itself with CHRONIK_ORACLE=1 (`make oracle`).
//
// A script (scripts_*_test.go) is a list of requests, sent at each version of its API that both brokers serve, to names
// of its own. What differs for good reason stands in known_test.go with the reason, and in docs/compatibility.md; a
// difference that is listed and does not occur any more fails as well. Start reading at script_test.go.
package oracle
