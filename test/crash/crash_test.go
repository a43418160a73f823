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
	long = flag.Bool("long", false, "send 1 GB, and kill more often")
	size = flag.Int64("bytes", 48<<20, "text to send")
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the moments to kill at")
)

const partitions = 4

func TestKill(t *testing.T) {
	n := node.New(t, t.TempDir())
	survive(t, n, func() {
		n.Kill()
		n.Start()
	})
}

// TestPowerCut is TestKill on an ext4 whose power is cut; test/powercut looks closer at less data.
func TestPowerCut(t *testing.T) {
	disk := ext4.New(t)
	n := node.New(t, filepath.Join(disk.Mount, "data"))
	survive(t, n, func() {
		n.Freeze() // nothing is acknowledged once the power is gone
		disk.Cut()
		n.Kill()
		disk.Remount()
		n.Start()
	})
}

// survive interrupts the node at random moments while the producers are at work.
func survive(t *testing.T, n *node.Node, interrupt func()) {
	if *long {
		*size = 1 << 30
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
		rec.err = rec.produce(ctx, n.Kafka, *size)
	}()
	kcatDone := make(chan *strings.Builder, 1)
	stopKcat := make(chan struct{})
	go func() { kcatDone <- kcatLines(t, n.Kafka, stopKcat) }()

	kills := 0
	for running := true; running; {
		select {
		case <-producing:
			running = false
		case <-time.After(time.Duration(200+rng.IntN(2500)) * time.Millisecond):
			interrupt()
			kills++
		}
	}
	close(stopKcat)
	sent := <-kcatDone
	if rec.err != nil {
		t.Fatal(rec.err)
	}
	// One more, with everything acknowledged and nothing in flight.
	interrupt()
	kills++
	t.Logf("%d lines, %d MB, %d kills", rec.lines, rec.bytes>>20, kills)
	if kills < 3 {
		t.Errorf("only %d kills: the test is too short to mean anything", kills)
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
func kcatLines(t *testing.T, addr string, stop <-chan struct{}) *strings.Builder {
	acked := &strings.Builder{}
	if _, err := exec.LookPath("kcat"); err != nil {
		if os.Getenv("CHRONIK_REQUIRE_CLIENTS") == "1" {
			t.Error("kcat is not installed; run scripts/clients.sh")
		}
		t.Log("WITHOUT kcat, which is not installed")
		return acked
	}
	for i := 0; ; i++ {
		select {
		case <-stop:
			return acked
		default:
		}
		var lines bytes.Buffer
		for j := range 200 {
			fmt.Fprintf(&lines, "run %d line %d\n", i, j)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		cmd := exec.CommandContext(ctx, "kcat", "-P", "-b", addr, "-t", "kcat", "-p", "0", "-X", "acks=all", "-X", "enable.idempotence=true")
		cmd.Stdin = bytes.NewReader(lines.Bytes())
		if err := cmd.Run(); err == nil {
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
