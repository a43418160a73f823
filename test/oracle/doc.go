// Package oracle holds no code: the packages below have the same conversation with chronik and with another broker and
// compare the answers field by field, with franz-go's kfake in every test run (fake), with Apache Kafka itself with
// CHRONIK_ORACLE=1 (`make oracle`; admin, data, groups, differences).
//
// What differs for a good reason is in package differences, from which docs/compatibility.md is made. Start reading at pair.
package oracle
