// Package ext4 is a real file system for tests, whose power can be cut: ext4 in a loop-mounted image, which
// EXT4_IOC_SHUTDOWN ends without letting it write anything more. It needs root and loop devices, and skips the test, loudly,
// where it has none.
package ext4
