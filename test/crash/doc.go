// Package crash holds no code, only tests that kill the real binary with SIGKILL, or cut the power under it, at random
// moments while a recording producer and kcat send real text with acks=all, and then demand every acknowledged record
// back: once, in order, byte for byte; and every acknowledged offset of a group. `go test -long` sends 1 GB.
package crash
