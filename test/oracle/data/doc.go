// Package data is the conversation about records (keys 0, 1, 2, 21, 22 and 23, at every version, good and bad input; fetch
// sessions), and its comparison with Apache Kafka (make oracle). Start reading at data.go.
package data
