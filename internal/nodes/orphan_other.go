//go:build !linux

package nodes

import "syscall"

// Orphaned changes nothing: such a signal is Linux's.
func Orphaned(attr *syscall.SysProcAttr, _ syscall.Signal) *syscall.SysProcAttr { return attr }
