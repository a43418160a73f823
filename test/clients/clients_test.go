package clients

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/node"
)

// broker is the address under test: a node of this binary, or $CHRONIK_TEST_BROKER.
func broker(t *testing.T) string {
	t.Helper()
	if addr := os.Getenv("CHRONIK_TEST_BROKER"); addr != "" {
		return addr
	}
	n := node.New(t, t.TempDir())
	n.Start()
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Errorf("the node did not stop cleanly: %v", err)
		}
	})
	return n.Kafka
}

// prefix of the topics and groups of one test; unique, because another broker may keep those of an earlier run.
func prefix(t *testing.T, name string) string {
	t.Helper()
	return fmt.Sprintf("%s-%d", name, time.Now().UnixNano()%1e9)
}

// installed finds what scripts/clients.sh installs, and skips the test, or fails it where CI requires all, without it.
func installed(t *testing.T, path string) string {
	t.Helper()
	if !filepath.IsAbs(path) {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
		path = filepath.Join(node.Root(t), ".cache", "clients", path)
	}
	if matches, _ := filepath.Glob(path); len(matches) > 0 {
		return path
	}
	if os.Getenv("CHRONIK_REQUIRE_CLIENTS") == "1" {
		t.Fatalf("%s is not installed; run scripts/clients.sh", path)
	}
	t.Skipf("%s is not installed; run scripts/clients.sh", path)
	return ""
}

// suite runs a client program and makes a subtest of each line that it prints.
func suite(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	steps := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		if step, ok := strings.CutPrefix(line, "ok "); ok {
			steps++
			t.Run(step, func(*testing.T) {})
		} else if step, ok := strings.CutPrefix(line, "not ok "); ok {
			steps++
			step, why, _ := strings.Cut(step, ": ")
			t.Run(step, func(t *testing.T) { t.Error(why) })
		} else {
			t.Log(line)
		}
	}
	if err := cmd.Wait(); err != nil && !t.Failed() || steps == 0 {
		t.Errorf("%s: %v after %d steps\n%s", filepath.Base(name), err, steps, stderr.String())
	}
}

// codecOf is the codec's number in a batch's attributes.
var codecOf = map[string]uint8{"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

// storedCodecs fails the test where a record of PREFIX-CODEC is missing, or where the codec that the client asked for is
// not the one that most are stored with. Clients send a batch as it is when compression does not make it smaller, as
// with acks=0 and few records; no third codec is ever right.
func storedCodecs(t *testing.T, addr, prefix string, want int, codecs ...string) {
	t.Helper()
	for _, codec := range codecs {
		t.Run("stored codec "+codec, func(t *testing.T) {
			asked := 0
			for _, r := range readAll(t, addr, prefix+"-"+codec, want) {
				switch got := r.Attrs.CompressionType(); got {
				case codecOf[codec]:
					asked++
				case codecOf["none"]:
				default:
					t.Fatalf("partition %d offset %d is stored with codec %d, the client asked for %s", r.Partition, r.Offset, got, codec)
				}
			}
			if asked <= want/2 {
				t.Errorf("%d of %d records are stored with %s", asked, want, codec)
			}
		})
	}
}

// readAll consumes a topic from its start until want records came.
func readAll(t *testing.T, addr, topic string, want int) []*kgo.Record {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var all []*kgo.Record
	for len(all) < want {
		fetches := c.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%s: %d of %d records: %v", topic, len(all), want, err)
		}
		fetches.EachError(func(topic string, p int32, err error) { t.Fatalf("%s/%d: %v", topic, p, err) })
		all = append(all, fetches.Records()...)
	}
	return all
}
