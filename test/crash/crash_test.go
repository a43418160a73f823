package crash

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/ext4"
	"chronik/test/node"
)

var (
	long     = flag.Bool("long", false, "send 1 GB, and kill more often")
	size     = flag.Int64("bytes", 48<<20, "text to send")
	unfrozen = flag.Bool("unfrozen", false, "let the process run on while its power is cut; docs/decisions/2026-11-22-power-cut-test.md")
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the moments to kill at")
)

const partitions = 4

func TestKill(t *testing.T) {
	n := node.New(t, t.TempDir())
	survive(t, n, func(*recorder) {
		n.Kill()
		n.Start()
	})
}

// TestPowerCut is TestKill on an ext4 whose power is cut; test/powercut looks closer at less data.
func TestPowerCut(t *testing.T) {
	disk := ext4.New(t)
	n := node.New(t, filepath.Join(disk.Mount, "data"))
	survive(t, n, func(rec *recorder) {
		if *unfrozen {
			// An fdatasync that the cut overtakes may end without an error and without its bytes: what is acknowledged from now
			// on proves nothing, what was acknowledged before must stay.
			rec.doubtful.Store(true)
			rec.doubts.Add(1)
		} else {
			n.Freeze() // nothing is acknowledged once the power is gone
		}
		disk.Cut()
		n.Kill()
		disk.Remount()
		rec.doubtful.Store(false)
		n.Start()
	})
}

// minKills is how often the node is interrupted at least, however fast the machine is.
const minKills = 5

// survive interrupts the node at random moments of the producers' progress, so that a fast machine and a slow one see as
// many: the producers go on until the text is sent and the node was interrupted often enough.
func survive(t *testing.T, n *node.Node, interrupt func(*recorder)) {
	limit, kills := *size, 10
	if *long {
		limit, kills = 1<<30, 40
	}
	t.Logf("to repeat the moments of the kills: go test ./test/crash -seed %d", *seed)
	rng := rand.New(rand.NewPCG(*seed, 1))
	n.Start()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Minute)
	defer cancel()
	admin := newClient(t, n.Kafka)
	if _, err := kadm.NewClient(admin).CreateTopics(ctx, partitions, 1, nil, "text", "kcat"); err != nil {
		t.Fatal(err)
	}

	producing := make(chan struct{})
	rec := &recorder{}
	go func() {
		defer close(producing)
		rec.err = rec.produce(ctx, n.Kafka, limit, minKills)
	}()
	kcatDone := make(chan *strings.Builder, 1)
	stopKcat := make(chan struct{})
	go func() { kcatDone <- kcatLines(t, n.Kafka, stopKcat, rec) }()

	for at := int64(0); ; {
		// Mostly after some progress, sometimes right after the start; and not always in the instant of an ack.
		progress, pause := int64(0), time.Duration(rng.IntN(300))*time.Millisecond
		if rng.IntN(5) > 0 {
			progress, pause = 1+rng.Int64N(2*limit/int64(kills)), time.Duration(rng.IntN(20))*time.Millisecond
		}
		if !rec.await(producing, at+progress) {
			break
		}
		select {
		case <-producing:
		case <-time.After(pause):
			interrupt(rec)
			rec.kills.Add(1)
		}
		at = rec.acks.Load()
	}
	select {
	case <-producing:
	default:
		t.Fatalf("nothing was acknowledged for three minutes, after %d kills", rec.kills.Load())
	}
	if rec.err != nil {
		t.Fatal(rec.err)
	}
	close(stopKcat)
	sent := <-kcatDone
	// One more, with everything acknowledged and nothing in flight.
	interrupt(rec)
	rec.kills.Add(1)
	t.Logf("%d lines, %d MB, %d kills", rec.lines, rec.bytes>>20, rec.kills.Load())
	if n := rec.kills.Load(); n <= minKills {
		t.Errorf("only %d kills: the test is too short to mean anything", n)
	}
	rec.verify(t, ctx, n.Kafka)
	verifyKcat(t, n.Kafka, sent.String())
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(n.Bin, "log", "verify", n.Dir).CombinedOutput()
	if err != nil {
		t.Errorf("log verify: %v\n%s", err, out)
	}
}

func newClient(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// kcatLines runs one kcat after another (Debian's gives up on a broker that died) and returns the lines that those which
// ended well had sent: they were acknowledged.
func kcatLines(t *testing.T, addr string, stop <-chan struct{}, rec *recorder) *strings.Builder {
	acked := &strings.Builder{}
	if _, err := exec.LookPath("kcat"); err != nil {
		if os.Getenv("CHRONIK_REQUIRE_CLIENTS") == "1" {
			t.Error("kcat is not installed; run scripts/clients.sh")
		}
		t.Log("WITHOUT kcat, which is not installed")
		return acked
	}
	last := 20 // runs in peace, if none ended well before
	for i := 0; ; i++ {
		select {
		case <-stop:
			if acked.Len() > 0 {
				return acked
			}
			if last--; last < 0 {
				t.Error("kcat never ended well")
				return acked
			}
		default:
		}
		var lines bytes.Buffer
		for j := range 200 {
			fmt.Fprintf(&lines, "run %d line %d\n", i, j)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", addr, "-t", "kcat", "-p", "0", "-X", "acks=all", "-X", "enable.idempotence=true")
		cmd.Stdin = bytes.NewReader(lines.Bytes())
		doubts := rec.doubts.Load()
		if err := cmd.Run(); err == nil && rec.doubts.Load() == doubts && !rec.doubtful.Load() {
			acked.Write(lines.Bytes())
		}
		cancel()
	}
}

// verifyKcat looks for what kcat had acknowledged, with another kcat.
func verifyKcat(t *testing.T, addr, acked string) {
	if acked == "" {
		return
	}
	out, err := exec.Command("kcat", "-C", "-b", addr, "-t", "kcat", "-p", "0", "-o", "beginning", "-e", "-q").Output()
	if err != nil {
		t.Fatalf("kcat: %v", err)
	}
	count := map[string]int{}
	for line := range strings.Lines(string(out)) {
		count[line]++
	}
	lost, twice, total := 0, 0, 0
	for line := range strings.Lines(acked) {
		total++
		switch n := count[line]; {
		case n == 0:
			lost++
		case n > 1:
			twice++
		}
	}
	t.Logf("kcat: %d acknowledged lines", total)
	if lost > 0 || twice > 0 {
		t.Errorf("of %d lines that kcat had acknowledged, %d are lost and %d stored twice", total, lost, twice)
	}
}
