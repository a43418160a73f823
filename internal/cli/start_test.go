package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// As a child of its own tests, the binary is chronik.
func TestMain(m *testing.M) {
	if os.Getenv("CHRONIK_TEST_MAIN") == "1" {
		os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// process is a chronik process.
type process struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr bytes.Buffer
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(exe, append([]string{"start", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"}, args...)...)}
	p.cmd.Env = append(os.Environ(), "CHRONIK_TEST_MAIN=1")
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	_, _ = io.Copy(io.Discard, p.stdout)
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(30 * time.Second):
		t.Fatalf("it goes on:\n%s", &p.stderr)
		return -1
	}
}

var firstLine = regexp.MustCompile(`^chronik \S+ serves Kafka on (127\.0\.0\.1:\d+) \(HTTP (127\.0\.0\.1:\d+), data (.*)\)\n$`)

func TestStartAndStop(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for range 2 {
		p := startProcess(t, "--data", dir)
		line, err := p.stdout.ReadString('\n')
		m := firstLine.FindStringSubmatch(line)
		if err != nil || m == nil || m[3] != dir {
			t.Fatalf("first line %q, %v\n%s", line, err, &p.stderr)
		}
		if hint, err := p.stdout.ReadString('\n'); err != nil || !strings.Contains(hint, "chronik produce greetings -b "+m[1]) {
			t.Errorf("second line %q, %v", hint, err)
		}
		conn, err := net.Dial("tcp", m[1])
		if err != nil {
			t.Fatal(err)
		}
		pid, err := os.ReadFile(filepath.Join(dir, "chronik.pid"))
		if err != nil || strings.TrimSpace(string(pid)) == "" {
			t.Errorf("process file: %q, %v", pid, err)
		}

		other := startProcess(t, "--data", dir)
		if code := other.wait(t); code != exitFailure || !strings.Contains(other.stderr.String(), "process "+strings.TrimSpace(string(pid))) {
			t.Errorf("a second node on the same directory: exit code %d, %s", code, &other.stderr)
		}

		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if code := p.wait(t); code != exitOK || p.stderr.Len() != 0 {
			t.Errorf("exit code %d, standard error %q", code, &p.stderr)
		}
		_ = conn.Close()
		if _, err := os.Stat(filepath.Join(dir, "chronik.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("process file is left: %v", err)
		}
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	p := startProcess(t, "--data", t.TempDir(), "--kafka", l.Addr().String())
	code := p.wait(t)
	if code != exitFailure || !strings.Contains(p.stderr.String(), l.Addr().String()) || !strings.Contains(p.stderr.String(), "--kafka") {
		t.Errorf("exit code %d, %s", code, &p.stderr)
	}
}

// waiting starts a node and a consumer whose fetch waits, after some time, for data that never comes.
func waiting(t *testing.T, settle time.Duration) *process {
	t.Helper()
	p := startProcess(t, "--data", t.TempDir())
	line, err := p.stdout.ReadString('\n')
	m := firstLine.FindStringSubmatch(line)
	if err != nil || m == nil {
		t.Fatalf("first line %q, %v\n%s", line, err, &p.stderr)
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(m[1]), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("quiet"), kgo.FetchMaxWait(50*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: "quiet"}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for c.PollFetches(t.Context()).Err0() == nil && t.Context().Err() == nil {
		}
	}()
	time.Sleep(settle)
	return p
}

func TestStopDoesNotWaitForFetches(t *testing.T) {
	p := waiting(t, 200*time.Millisecond) // if it does not wait yet, the test is easier
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != exitOK { // within 30 s, of a fetch of 50 s
		t.Errorf("exit code %d\n%s", code, &p.stderr)
	}
}

// On a busy machine signals arrive later than they were sent, and a fetch waits later: another attempt has more time.
var patience = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second}

// As timeout(1) does: to the process, and to its group.
func TestASignalSentTwiceIsOne(t *testing.T) {
	var p *process
	for _, settle := range patience {
		p = waiting(t, settle)
		for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} { // a pending signal is not queued twice
			if err := p.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		if p.wait(t) == exitOK {
			return
		}
	}
	t.Errorf("the last exit code was %d\n%s", p.cmd.ProcessState.ExitCode(), &p.stderr)
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	var p *process
	for _, settle := range patience {
		p = waiting(t, settle)
		ended := make(chan struct{})
		var sender sync.WaitGroup
		sender.Go(func() { // until it has had two that are no echo
			for {
				_ = p.cmd.Process.Signal(syscall.SIGINT)
				select {
				case <-ended:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
		code := p.wait(t)
		close(ended)
		sender.Wait()
		if code == exitCut && strings.Contains(p.stderr.String(), "second signal") {
			return
		}
	}
	t.Errorf("the last exit code was %d\n%s", p.cmd.ProcessState.ExitCode(), &p.stderr)
}
