package sim

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

// TestFailoverTimes: a killed node costs producers less than a second, a silent one less than five, whichever node it is.
// Time is fake: what is measured is waits of the protocol, not the machine.
func TestFailoverTimes(t *testing.T) {
	if *seedFlag != 0 {
		t.Skip("one seed is replayed")
	}
	if !tagged {
		runTagged(t)
		return
	}
	runtime.GOMAXPROCS(1)
	for _, f := range failovers {
		for id := 1; id <= 3; id++ {
			cryptotest.SetGlobalRandom(t, uint64(id))
			var out Outage
			synctest.Test(t, func(*testing.T) { out = RunFailover(uint64(id), f.kind, id) })
			t.Logf("%s of node %d: worst %v", out.Fault, out.Node, out.Worst.Round(time.Millisecond))
			for _, failure := range out.Failures {
				t.Errorf("%s of node %d: %s", out.Fault, out.Node, failure)
			}
			if out.Worst > f.limit {
				t.Errorf("%s of node %d costs %v, at most %v are allowed", out.Fault, out.Node, out.Worst, f.limit)
			}
			if t.Failed() {
				name := filepath.Join(os.TempDir(), "chronik-failover.trace")
				_ = os.WriteFile(name, out.Trace, 0o644)
				t.Fatalf("trace: %s", name)
			}
		}
	}
}
