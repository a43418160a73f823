package server

import "golang.org/x/sys/unix"

// writeMore writes to a socket and says that more follows at once, so that the kernel sends no packet that is not full.
func writeMore(fd int, p []byte) (int, error) {
	return unix.SendmsgN(fd, p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_MORE)
}
