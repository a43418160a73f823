// Package clients holds no code, only tests that run real Kafka clients against the real binary. Each program in
// python/, java/, js/ and go/ does what a user of that client does and prints a line a step; the test turns the lines into
// subtests and then looks itself whether what the client asked for is what the broker stored.
//
// CHRONIK_TEST_BROKER=host:port runs them against any other Kafka-compatible broker.
package clients
