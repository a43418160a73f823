// Command segmentio does what a segmentio/kafka-go user does, with its old connections and its newer client: segmentio BOOTSTRAP PREFIX.
package main
