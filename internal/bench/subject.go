package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"chronik/internal/nodes"
)

// subject is the broker under test: a child process on free ports and a fresh data directory.
type subject struct {
	binary     string
	dir        string
	addr, http string
	cmd        *exec.Cmd
	topics     map[string]string // address -> the topic that filled made there
}

func startSubject(ctx context.Context, binary, dir string) (*subject, error) {
	dir, err := os.MkdirTemp(dir, "chronik-bench-")
	if err != nil {
		return nil, fmt.Errorf("bench suite: %w", err)
	}
	s := &subject{binary: binary, dir: dir, topics: map[string]string{}}
	if s.addr, err = freeAddr(); err == nil {
		s.http, err = freeAddr()
	}
	if err == nil {
		s.cmd, err = s.start(ctx, filepath.Join(dir, "data"), s.addr, s.http)
	}
	if err != nil {
		_ = os.RemoveAll(dir) // the first error says more
		return nil, err
	}
	return s, nil
}

func freeAddr() (string, error) {
	addrs, err := nodes.FreeAddresses(1)
	if err != nil {
		return "", fmt.Errorf("bench suite: %w", err)
	}
	return addrs[0], nil
}

// start runs a node and returns once it says that it serves.
func (s *subject) start(_ context.Context, data, kafka, http string) (*exec.Cmd, error) {
	cmd := exec.Command(s.binary, "start", "--data", data, "--kafka", kafka, "--http", http)
	cmd.SysProcAttr = nodes.Orphaned(&syscall.SysProcAttr{}, syscall.SIGKILL)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("bench suite: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench suite: start a node: %w", err)
	}
	in := bufio.NewReader(out)
	line, err := in.ReadString('\n')
	if err != nil || !strings.Contains(line, "serves") {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("bench suite: the node said %q: %w", line, errors.Join(err, cmd.Wait()))
	}
	go func() { _, _ = io.Copy(io.Discard, in) }() // until the node ends
	return cmd, nil
}

func (s *subject) pid() int { return s.cmd.Process.Pid }

func (s *subject) stop() {
	end(s.cmd)
	_ = os.RemoveAll(s.dir)
}

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may be gone
	_ = cmd.Wait()
}

func startDiscard(_ context.Context, binary string) (addr string, stop func(), err error) {
	if addr, err = freeAddr(); err != nil {
		return "", nil, err
	}
	cmd := exec.Command(binary, "bench", "discard", "--kafka", addr)
	cmd.SysProcAttr = nodes.Orphaned(&syscall.SysProcAttr{}, syscall.SIGKILL)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("bench suite: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("bench suite: %w", err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return "", nil, fmt.Errorf("bench suite: the discarding broker did not start: %w", err)
	}
	return addr, func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }, nil
}

// filled makes, once for each broker, a topic with 1 GiB of records.
func (s *subject) filled(ctx context.Context, addr string, load Options) (string, error) {
	if topic := s.topics[addr]; topic != "" {
		return topic, nil
	}
	load.Bootstrap, load.Topic, load.KeepTopic, load.Records = []string{addr}, fmt.Sprintf("bench-filled-%d", time.Now().UnixNano()), true, 0
	if err := load.Check(); err != nil {
		return "", err
	}
	t, err := prepare(ctx, &load)
	if err != nil {
		return "", err
	}
	if err := errors.Join(fill(ctx, &load, t), t.close(ctx)); err != nil {
		return "", err
	}
	s.topics[addr] = load.Topic
	return load.Topic, nil
}

// metric sums a counter of /metrics over its labels.
func (s *subject) metric(ctx context.Context, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("bench suite: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("bench suite: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	sum, found := 0.0, false
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("bench suite: metric %s: %w", name, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("bench suite: the node has no metric %s", name)
	}
	return sum, nil
}

// perSync reports records for each fdatasync of the WAL as its rate of records.
func (s *subject) perSync(o Options) func(context.Context) (*Report, error) {
	return func(ctx context.Context) (*Report, error) {
		before, err := s.metric(ctx, walSyncs)
		if err != nil {
			return nil, err
		}
		r, err := Produce(ctx, o)
		if err != nil {
			return nil, err
		}
		after, err := s.metric(ctx, walSyncs)
		if err != nil {
			return nil, err
		}
		// Over the whole run, warm-up included, at the measured rate.
		r.RecordsPerSecond *= (o.Warmup + o.Duration).Seconds() / (after - before)
		return r, nil
	}
}

// walSyncs counts the groups of the data WAL, an fdatasync each.
const walSyncs = "chronik_wal_commits_total"
