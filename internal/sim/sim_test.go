package sim

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "replay this seed alone")
	timesFlag = flag.Int("times", 1, "replay it so many times, or until it fails")
	stopFlag  = flag.Bool("stop", false, "stop at the first seed that fails")
	fromFlag  = flag.Uint64("from", 1, "the first of the many seeds")
)

// runTagged runs a test in a process that is built for fake time.
func runTagged(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), build(t), "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// seeds is how many of them run: CHRONIK_SEEDS, or a few dozen.
func seeds() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("CHRONIK_SEEDS"), 10, 64); err == nil {
		return n
	}
	if testing.Short() || raceEnabled {
		return 4
	}
	return 24
}

// seedLimit is how long the process of one seed may take; it runs in a few seconds.
const seedLimit = 3 * time.Minute

// TestSeed runs one seed in this process.
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		t.Skip("no -seed is given; TestSimulation runs many")
	}
	if !tagged {
		binary := build(t)
		for range *timesFlag {
			out, ok := child(t, binary, *seedFlag)
			fmt.Print(string(out))
			if !ok {
				t.Fatalf("seed %d fails", *seedFlag)
			}
		}
		return
	}
	runtime.GOMAXPROCS(1)
	for range *timesFlag {
		if replay(t, *seedFlag); t.Failed() {
			return
		}
	}
}

// build makes the program that runs one seed.
func build(t *testing.T) string {
	if tagged {
		return os.Args[0]
	}
	binary := filepath.Join(t.TempDir(), "sim.test")
	args := []string{"test", "-c", "-tags", "synctests", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, ".")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the simulation: %v\n%s", err, out)
	}
	return binary
}

func replay(t *testing.T, seed uint64) {
	cryptotest.SetGlobalRandom(t, seed)
	began := time.Now()
	var r Report
	synctest.Test(t, func(*testing.T) { r = Run(seed) })
	fmt.Printf("seed %d: %d records acknowledged, %v of fake time in %v, converged within %v, plan %016x, digest %016x\n", seed, r.Acked,
		r.Took.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), r.Slowest.Round(time.Millisecond), r.Plan, r.Digest)
	if len(r.Failures) > 0 || os.Getenv("CHRONIK_SIM_TRACE") != "" {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("chronik-sim-%d.trace", seed))
		if err := os.WriteFile(name, r.Trace, 0o644); err != nil {
			t.Error(err)
		}
		fmt.Printf("trace: %s\n", name)
	}
	for _, f := range r.Failures {
		t.Errorf("seed %d: %s", seed, f)
	}
}

// TestSimulation runs many seeds, each in a process of its own with one processor, two at a time.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		t.Skip("one seed is replayed")
	}
	binary := build(t)
	work := make(chan uint64)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for seed := range work {
				if out, ok := child(t, binary, seed); !ok {
					t.Errorf("seed %d fails; replay it with: go test ./internal/sim -run TestSeed -seed %d\n%s", seed, seed, out)
				} else {
					t.Logf("%s", bytes.TrimSpace(out))
				}
			}
		})
	}
	for seed := *fromFlag; seed < *fromFlag+seeds(); seed++ {
		if *stopFlag && t.Failed() {
			break
		}
		work <- seed
	}
	close(work)
	workers.Wait()
}

// child runs a seed in a process of its own. One that hangs is asked for its goroutines.
func child(t *testing.T, binary string, seed uint64) (out []byte, ok bool) {
	ctx, cancel := context.WithTimeout(t.Context(), seedLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run=^TestSeed$", "-test.timeout=0", fmt.Sprintf("-seed=%d", seed))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) > 20<<10 {
		name := filepath.Join(os.TempDir(), fmt.Sprintf("chronik-sim-%d.out", seed))
		_ = os.WriteFile(name, out, 0o644)
		out = append(out[:20<<10:20<<10], "\n… all of it: "+name...)
	}
	return out, err == nil
}

var digestLine = regexp.MustCompile(`plan ([0-9a-f]{16}), digest ([0-9a-f]{16})`)

// TestDeterminism runs some seeds twice, in two processes. Both follow one plan: the same faults at the same moments of fake
// time; and no two seeds have the same. What Go leaves open (see docs/simulation.md) may still interleave differently, so how
// many runs agree in everything is told, not demanded.
func TestDeterminism(t *testing.T) {
	if *seedFlag != 0 {
		t.Skip("one seed is replayed")
	}
	binary := build(t)
	agree, count := 0, uint64(4)
	if seeds() > 100 {
		count = 20
	}
	plans := map[string]uint64{}
	for seed := uint64(1000); seed < 1000+count; seed++ {
		var runs [2][][]byte
		for i := range runs {
			out, _ := child(t, binary, seed) // whether invariants hold is TestSimulation's question
			if runs[i] = digestLine.FindSubmatch(out); runs[i] == nil {
				t.Fatalf("seed %d came to no end:\n%s", seed, out)
			}
		}
		if !bytes.Equal(runs[0][1], runs[1][1]) {
			t.Errorf("seed %d: two runs followed two plans: %s and %s", seed, runs[0][1], runs[1][1])
		}
		if other, taken := plans[string(runs[0][1])]; taken {
			t.Errorf("seeds %d and %d followed one plan", other, seed)
		}
		plans[string(runs[0][1])] = seed
		if bytes.Equal(runs[0][2], runs[1][2]) {
			agree++
		}
	}
	t.Logf("%d of %d seeds agree in everything in two runs", agree, count)
}
