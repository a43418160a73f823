package clients

import (
	"bufio"
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/test/node"
)

// What a plain consumer reads goes from the segment files to the socket without a copy: strace counts the bytes.
func TestSendfile(t *testing.T) {
	strace := installed(t, "strace")
	n := node.New(t, t.TempDir())
	n.Start()
	const size, count = 16 << 10, 6800 // 111 MB
	produceRandom(t, n.Kafka, "big", size, count)

	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "-qq", "-e", "trace=sendfile,write,writev,sendto,sendmsg", "-s", "0", "-o", trace, "-p", strconv.Itoa(n.Pid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	attached(t, n.Pid(), &errs)
	if got := len(readAll(t, n.Kafka, "big", count)); got != count {
		t.Errorf("read %d records of %d", got, count)
	}
	_ = cmd.Process.Signal(syscall.SIGINT) // it detaches
	_ = cmd.Wait()

	sent := bytesSent(t, trace)
	total := int64(0)
	for _, bytes := range sent {
		total += bytes
	}
	if total < size*count {
		t.Fatalf("strace saw %d bytes leave, of at least %d: %v", total, size*count, sent)
	}
	if share := float64(sent["sendfile"]) / float64(total); share < 0.95 {
		t.Errorf("sendfile carried %.1f%% of %d bytes, want 95%%: %v", 100*share, total, sent)
	} else {
		t.Logf("sendfile carried %.2f%% of %d bytes", 100*share, total)
	}
}

func produceRandom(t *testing.T, addr, topic string, size, count int) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	value := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(value)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for range count {
		c.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := c.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// attached waits until a tracer holds every thread of the process.
func attached(t *testing.T, pid int, errs *bytes.Buffer) {
	t.Helper()
	for range 1200 {
		threads, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "status"))
		traced := 0
		for _, status := range threads {
			raw, _ := os.ReadFile(status)
			if m := tracer.FindSubmatch(raw); m != nil && string(m[1]) != "0" {
				traced++
			}
		}
		if traced > 0 && traced == len(threads) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("strace does not attach: %s", errs)
}

var (
	tracer = regexp.MustCompile(`(?m)^TracerPid:\s+(\d+)`)
	call   = regexp.MustCompile(`(sendfile|writev|write|sendto|sendmsg)(?:\(| resumed).*= (\d+)$`)
)

// bytesSent adds up what each call wrote.
func bytesSent(t *testing.T, trace string) map[string]int64 {
	t.Helper()
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	sent := map[string]int64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if m := call.FindStringSubmatch(lines.Text()); m != nil {
			n, _ := strconv.ParseInt(m[2], 10, 64)
			sent[m[1]] += n
		}
	}
	return sent
}
