package nodes

import "syscall"

// Orphaned has the kernel send a signal to the process when the thread that starts it is gone. Threads of this process end with it
// and not before: none is locked to a goroutine that ends.
func Orphaned(attr *syscall.SysProcAttr, signal syscall.Signal) *syscall.SysProcAttr {
	attr.Pdeathsig = signal
	return attr
}
