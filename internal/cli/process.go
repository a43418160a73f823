package cli

import (
	"os"
	"runtime/debug"
)

// collectEvery is the garbage collector's GOGC: how much is allocated between two collections, in percent of what is
// alive. Most of what a busy node holds are buffers of its own that are used again, so that collections are rare either
// way, and little is alive on an idle one.
const collectEvery = 200

// tuneRuntime sets the garbage collector, unless the environment does.
func tuneRuntime() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectEvery)
	}
}
