// Command sarama does what a sarama user does, with a broker of every version that sarama knows how to talk to: sarama BOOTSTRAP PREFIX.
package main
