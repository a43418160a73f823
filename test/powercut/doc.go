// Package powercut cuts the power under a real node on a real file system: its data lie on ext4 in a loop-mounted image,
// which EXT4_IOC_SHUTDOWN ends without letting it write anything more. kill -9 cannot show whether fsync is called where
// it must be, because the page cache survives it; this can. It needs root and loop devices, and says so where it has none.
package powercut
