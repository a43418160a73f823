package clients

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// kcat runs Debian's kcat with stdin and returns what it printed.
func kcat(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("kcat", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	done := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer done.Stop()
	if err := cmd.Run(); err != nil {
		t.Fatalf("kcat %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%d:the value of line %d %s\n", i, i, strings.Repeat("x", i%90))
	}
	return b.String()
}

func TestKcat(t *testing.T) {
	t.Parallel()
	installed(t, "kcat")
	addr, prefix := broker(t), prefix(t, "kcat")
	want := lines(300)
	for _, codec := range codecs {
		topic := prefix + "-" + codec
		for _, acks := range []string{"0", "1", "all"} {
			t.Run("produce "+codec+" acks="+acks, func(t *testing.T) {
				kcat(t, want, "-P", "-b", addr, "-t", topic, "-p", "0", "-K:", "-z", codec, "-X", "acks="+acks, "-X", "linger.ms=50", "-H", "acks="+acks)
			})
		}
		t.Run("consume "+codec, func(t *testing.T) {
			got := kcat(t, "", "-C", "-b", addr, "-t", topic, "-p", "0", "-o", "beginning", "-c", "900", "-K:")
			if got != want+want+want {
				t.Errorf("consumed %d bytes, want %d, or another order", len(got), 3*len(want))
			}
		})
	}
	if t.Failed() {
		return
	}
	// Debian's librdkafka compresses with zstd only where the broker's features say so; what it stored is checked alike.
	storedCodecs(t, addr, prefix, 900, codecs...)
	t.Run("idempotent producer", func(t *testing.T) {
		kcat(t, want, "-P", "-b", addr, "-t", prefix+"-idempotent", "-p", "0", "-K:", "-X", "enable.idempotence=true")
		if got := kcat(t, "", "-C", "-b", addr, "-t", prefix+"-idempotent", "-e", "-K:"); got != want {
			t.Errorf("consumed %d bytes, want %d", len(got), len(want))
		}
	})
	t.Run("consume in a group and resume", func(t *testing.T) {
		group, topic := prefix+"-group", prefix+"-none"
		got := kcat(t, "", "-b", addr, "-G", group, "-X", "auto.offset.reset=earliest", "-c", "900", "-K:", topic)
		if got != want+want+want {
			t.Errorf("consumed %d bytes, want %d", len(got), 3*len(want))
		}
		kcat(t, "after\n", "-P", "-b", addr, "-t", topic, "-p", "0")
		if got := kcat(t, "", "-b", addr, "-G", group, "-X", "auto.offset.reset=earliest", "-c", "1", topic); got != "after\n" {
			t.Errorf("resumed with %q", got)
		}
	})
	t.Run("seek by offset and timestamp", func(t *testing.T) {
		topic := prefix + "-idempotent"
		if got := kcat(t, "", "-C", "-b", addr, "-t", topic, "-p", "0", "-o", "42", "-c", "1", "-f", "%o %k"); got != "42 42" {
			t.Errorf("offset 42: %q", got)
		}
		if got := kcat(t, "", "-C", "-b", addr, "-t", topic, "-p", "0", "-o", "-3", "-e", "-f", "%o "); got != "297 298 299 " {
			t.Errorf("last three: %q", got)
		}
		if got := kcat(t, "", "-Q", "-b", addr, "-t", topic+":0:1"); !strings.Contains(got, "offset 0") {
			t.Errorf("first offset since timestamp 1: %q", got)
		}
	})
	t.Run("metadata", func(t *testing.T) {
		if got := kcat(t, "", "-L", "-b", addr, "-J"); !strings.Contains(got, prefix+"-none") || !strings.Contains(got, addr) {
			t.Errorf("metadata names neither the topic nor %s: %s", addr, got)
		}
	})
	t.Run("error on an oversized record", func(t *testing.T) {
		cmd := exec.Command("kcat", "-P", "-b", addr, "-t", prefix+"-none", "-p", "0", "-X", "message.max.bytes=20000000")
		cmd.Stdin = strings.NewReader(strings.Repeat("x", 2<<20))
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "too large") {
			t.Errorf("%v: %s", err, out)
		}
	})
}
