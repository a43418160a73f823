// Package admin is the conversation about topics, configuration and the cluster (keys 3, 18, 19, 20, 32, 33, 37, 44, 60 and
// 75, at every version, good and bad input), and its comparison with Apache Kafka (make oracle). Start reading at admin.go.
package admin
