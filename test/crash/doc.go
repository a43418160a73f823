// Package crash holds no code, only the test that kills the real binary with SIGKILL at random moments while a recording
// producer and kcat send real text with acks=all, and then demands every acknowledged record back: once, in order,
// byte for byte. `go test -long` sends 1 GB; power cuts are the business of test/powercut.
package crash
