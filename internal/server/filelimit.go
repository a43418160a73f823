package server

import (
	"log/slog"
	"syscall"
)

// spareFiles are for everything that is not a client's socket: segments, indexes, the WAL, peers.
const spareFiles = 16 << 10

// raiseFileLimit raises the limit of open files (ulimit -n) to what the connections need; without the right to, as far
// as it goes, and says what is missing.
func raiseFileLimit(connections int, logger *slog.Logger) {
	need := uint64(connections) + spareFiles
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		logger.Warn("cannot read the limit of open files", "error", err)
		return
	}
	if limit.Cur >= need {
		return
	}
	want := syscall.Rlimit{Cur: need, Max: max(need, limit.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want) == nil {
		return
	}
	want = syscall.Rlimit{Cur: min(need, limit.Max), Max: limit.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &want); err != nil {
		logger.Warn("cannot raise the limit of open files", "limit", limit.Cur, "error", err)
	} else if want.Cur < uint64(connections) {
		logger.Warn("the limit of open files is below that of connections; raise it (ulimit -n, LimitNOFILE=)", "limit", want.Cur, "connections", connections)
	}
}
