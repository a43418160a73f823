//go:build !linux

package wire

import "syscall"

// readNow reads what there is; EAGAIN if there is nothing.
func readNow(fd uintptr, p []byte) (int, error) { return syscall.Read(int(fd), p) }

// WriteNow writes what there is room for to a socket that does not block; EAGAIN if there is none.
func WriteNow(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) }
