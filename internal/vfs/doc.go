// Package vfs is the only way to files. [OS] is the machine's file system, [Mem] one in memory that can crash (it
// knows a kill, which the page cache survives, apart from a power loss, which drops any subset of what was not synced),
// and [Fault] wraps either to inject EIO, ENOSPC, slow and torn writes.
//
// A call may sleep for as long as the disk likes, so no mutex is held over it. Start reading at vfs.go.
package vfs
