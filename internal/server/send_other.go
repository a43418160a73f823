//go:build !linux

package server

import "syscall"

// writeMore writes to a socket; what follows goes in packets of its own.
func writeMore(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }
