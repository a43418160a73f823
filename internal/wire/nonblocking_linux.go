package wire

import (
	"syscall"
	"unsafe"
)

// Sockets that never block are read and written without telling the scheduler of a system call: it would take the processor
// away from a goroutine whose thread the kernel lets wait, and start another thread to wait likewise.

// readNow reads what there is; EAGAIN if there is nothing.
func readNow(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// WriteNow writes what there is room for to a socket that does not block; EAGAIN if there is none.
func WriteNow(fd uintptr, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
