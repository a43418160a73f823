// Package kafka holds the nouns that every layer shares: the numbers that are easily confused (offsets, epochs, IDs)
// as types of their own, and Kafka's protocol errors as values that carry their code.
//
// It imports nothing of chronik. Start reading at ids.go, then errors.go.
package kafka
