// Package oracle holds no code, only tests that have the same conversation with chronik and with another broker and
// compare the answers field by field: franz-go's kfake always, Apache Kafka itself with CHRONIK_ORACLE=1 (`make oracle`).
//
// What differs for a good reason is listed in docs/compatibility.md. Start reading at pair_test.go.
package oracle
