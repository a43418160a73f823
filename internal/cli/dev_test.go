package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chronik/internal/admin"
	"chronik/internal/nodes"
)

// devProcess is `chronik dev` on free ports.
type devProcess struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{}
	mu   struct {
		sync.Mutex
		lines []string
	}
}

func startDev(t *testing.T, args ...string) *devProcess {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &devProcess{t: t, done: make(chan struct{})}
	d.cmd = exec.Command(exe, append([]string{"dev", "--kafka-port", "0", "--cluster-port", "0", "--http-port", "0"}, args...)...)
	d.cmd.Env = append(os.Environ(), "CHRONIK_TEST_MAIN=1")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.cmd.Stdout
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.done)
		for in := bufio.NewScanner(out); in.Scan(); {
			d.mu.Lock()
			d.mu.lines = append(d.mu.lines, in.Text())
			d.mu.Unlock()
		}
		_ = d.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		<-d.done
		if t.Failed() {
			t.Logf("chronik dev said:\n%s", d.said())
		}
	})
	return d
}

func (d *devProcess) said() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.mu.lines, "\n")
}

// await waits until it has said something n times.
func (d *devProcess) await(text string, n int) {
	d.t.Helper()
	for range 6000 {
		if strings.Count(d.said(), text) >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	d.t.Fatalf("it did not say %q %d times", text, n)
}

// end waits for the exit code.
func (d *devProcess) end() int {
	d.t.Helper()
	select {
	case <-d.done:
		return d.cmd.ProcessState.ExitCode()
	case <-time.After(time.Minute):
		d.t.Fatal("it goes on")
		return -1
	}
}

// eventually runs a command line until its output holds what is wanted.
func eventually(t *testing.T, want string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	for range 300 {
		out.Reset()
		errs.Reset()
		if code := Main(args, strings.NewReader(""), &out, &errs); code == exitOK && strings.Contains(out.String(), want) {
			return out.String()
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("chronik %s never told %q:\n%s%s", strings.Join(args, " "), want, &out, &errs)
	return ""
}

func kafkaAddr(t *testing.T, dir string, id int) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("node-%d", id), "node.toml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), `"kafka" = "`)
	addr, _, _ := strings.Cut(rest, `"`)
	return addr
}

func pidOf(t *testing.T, dir string, id int) int {
	t.Helper()
	var pid int
	text, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("node-%d", id), "chronik.pid"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// A cluster of three, and every command that people use on it.
func TestDevCluster(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cluster")
	d := startDev(t, "--data", dir, "--set", "num.partitions=2")
	d.await("All 3 nodes serve", 1)
	addr := kafkaAddr(t, dir, 1)
	d.await("produce greetings -b "+addr, 1)
	t.Setenv(envBootstrap, addr+","+kafkaAddr(t, dir, 2))
	eventually(t, "3 of 3 brokers live", "cluster", "status", "--check")
	runSteps(t, addr, []step{
		{args: "topic create orders", want: "=created orders: 2 partitions, 3 replicas\n"},
		{stdin: "hello\n", args: "produce orders -p 0", want: "="},
		{args: "cluster status", want: "1 topic, 2 partitions: 0 under-replicated, 0 below min.insync.replicas, 0 without a leader"},
		{args: "cluster status --json", want: `"voters": [`},
		{args: "explain orders/0", want: "waits for nothing"},
		{args: "explain orders/0", want: "high watermark 1"},
		{args: "explain orders/1 --json", want: `"role": "leader"`},
		{args: "explain orders/7", code: 1, want: "topic orders has partitions 0 to 1, no 7"},
		{args: "explain nope/0", code: 1, want: "there is no topic nope"},
		{args: "consume orders -g billing --from start -n 1", want: "\n"},
		{args: "explain billing", want: "group billing: Empty (classic protocol), generation "},
		{args: "explain billing", want: "member left"},
		{args: "explain billing --json", want: `"cause": "member joined"`},
		{args: "explain none", code: 1, want: "there is no group none"},
		{args: "explain --group orders/0", code: 1, want: "there is no group orders/0"},
		{args: "explain orders", code: 2, want: "want TOPIC/PARTITION"},
		{args: "__complete explain ord", want: "orders/0\norders/1\n"},
		{args: "__complete cluster elect ord", want: "orders/0\norders/1\n"},
		{args: "cluster elect orders/0", want: "orders/0 needs no election"},
		{args: "cluster elect", code: 2, want: "name partitions"},
		{args: "cluster elect --all --unclean", code: 2, want: "does not go with --all"},
		{args: "cluster elect --unclean orders/0", want: "orders/0 needs no election"},
		{args: "cluster elect orders/9", code: 1, want: "orders/9"},
		{args: "cluster watch --after x", code: 2, want: "invalid argument"},
	})
	watched := watch(t)
	victim := pidOf(t, dir, 3)
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.await("node 3: ended (signal: killed); it starts again", 1)
	d.await("node 3: serves", 2)
	eventually(t, "3 of 3 brokers live", "cluster", "status", "--check")
	eventually(t, "", "cluster", "elect", "--all") // rather than wait for the next check
	eventually(t, "waits for nothing", "explain", "orders/0")
	watched()

	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	for id := 1; id <= 3; id++ {
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("node-%d", id), "chronik.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("node %d left its process file: %v", id, err)
		}
	}

	// The same cluster comes back at the same addresses.
	d = startDev(t, "--data", dir)
	d.await("All 3 nodes serve", 1)
	if again := kafkaAddr(t, dir, 1); again != addr {
		t.Errorf("node 1 is at %s now, it was at %s", again, addr)
	}
	runSteps(t, addr, []step{{args: "consume orders --from start -n 1", want: "=hello\n"}})
}

// watch follows the events while a node is killed and comes back, and then finds both among them, with the cause. Whichever
// node it asks, also if that is the one that is killed.
func watch(t *testing.T) (finish func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "cluster", "watch", "--type", "BrokerFenced,BrokerUnfenced,ISRUpdated", "--after", "1")
	cmd.Env = append(os.Environ(), "CHRONIK_TEST_MAIN=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(out)
	if !in.Scan() { // it is connected
		t.Fatal("no event came")
	}
	return func() {
		late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		var seen []string
		for _, want := range []string{"BrokerFenced           broker 3", "BrokerUnfenced         broker 3"} {
			for found := false; !found && in.Scan(); {
				seen = append(seen, in.Text())
				found = strings.Contains(in.Text(), want)
			}
			if len(seen) == 0 || !strings.Contains(seen[len(seen)-1], want) {
				t.Errorf("no %q among the events:\n%s", want, strings.Join(seen, "\n"))
			}
		}
		_ = cmd.Process.Signal(syscall.SIGINT)
		for in.Scan() {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("watch ended with %v", err)
		}
	}
}

func TestDevLeavesThemDown(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--data", dir, "--nodes", "1", "--no-restart")
	d.await("All 1 nodes serve", 1)
	if err := syscall.Kill(pidOf(t, dir, 1), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := d.end(); code != exitFailure || !strings.Contains(d.said(), "stays down") || !strings.Contains(d.said(), "all nodes are down") {
		t.Errorf("exit code %d", code)
	}
	// By hand it goes on.
	p := startProcess(t, "--config", filepath.Join(dir, "node-1", "node.toml"))
	if line, err := p.stdout.ReadString('\n'); err != nil || !strings.Contains(line, "serves") {
		t.Errorf("%q, %v, %s", line, err, &p.stderr)
	}
}

func TestDevEphemeral(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	d := startDev(t, "--ephemeral", "--nodes", "1")
	d.await("All 1 nodes serve", 1)
	if made, _ := filepath.Glob(filepath.Join(tmp, "chronik-dev-*", "node-1", "node.toml")); len(made) != 1 {
		t.Errorf("made %v", made)
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "chronik-dev-*")); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestDevRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"--kafka-port " + port, exitFailure, "the Kafka port of node 1 is taken"},
		{"--nodes 0", exitUsage, "0 nodes"},
		{"--set num.partition=1", exitUsage, "did you mean num.partitions?"},
		{"--set node.id=4", exitUsage, "each node gets its own node.id"},
		{"--ephemeral", exitFailure, "none of the others can be"},
	} {
		args := append([]string{"dev", "--data", t.TempDir(), "--cluster-port", "0", "--http-port", "0"}, strings.Fields(tc.args)...)
		if code, out, errs := run(args...); code != tc.code || !strings.Contains(out+errs, tc.want) {
			t.Errorf("%s: exit code %d, want %d with %q:\n%s%s", tc.args, code, tc.code, tc.want, out, errs)
		}
	}
}

func TestDevPanelFits(t *testing.T) {
	laid := []nodes.Node{{ID: 1, Kafka: "127.0.0.1:9092", HTTP: "127.0.0.1:6092"}, {ID: 2, Kafka: "127.0.0.1:9093", HTTP: "127.0.0.1:6093"}}
	s := newDevScreen(io.Discard, laid, nil)
	now := time.Unix(1000, 0)
	s.now = func() time.Time { return now }
	for _, n := range laid {
		s.mu.status[n.ID] = nodes.Status{Node: n, State: nodes.Serving, Pid: 7, Since: now.Add(-time.Minute)}
	}
	offset := admin.ClusterView{Controller: 2, Offset: 12, Topics: 3, Health: admin.Health{Partitions: 9, UnderReplicated: 4}, Brokers: []admin.BrokerView{
		{ID: 1, State: admin.StateLive, Since: now.Add(-90 * time.Second), Leads: 5, Replicas: 9, InSync: 9}, {ID: 2, State: admin.StateFenced, Since: now}}}
	s.mu.views[1] = &offset
	want := `
1 of 2 live, controller 2, 9 partitions: 0 offline, 4 under-replicated
NODE  STATE               FOR    LEADS  IN SYNC  METADATA   PROCESS  KAFKA           HTTP
1     live                1m30s  5      9 of 9   12         7        127.0.0.1:9092  127.0.0.1:6092
2     fenced, controller  0s     0      0 of 0   no answer  7        127.0.0.1:9093  127.0.0.1:6093`
	if got := strings.Join(s.panelLocked(), "\n"); got != want {
		t.Errorf("the panel is\n%s\nwant\n%s", got, want)
	}
	for _, size := range [][2]int{{200, 50}, {40, 4}, {10, 2}, {1, 1}} {
		panel := fit(s.panelLocked(), size[0], size[1])
		for _, line := range panel {
			if len(line) >= max(size[0], 1) {
				t.Errorf("%q does not fit %d columns", line, size[0])
			}
		}
		if len(panel) >= size[1] && size[1] > 0 {
			t.Errorf("%d lines do not fit %d", len(panel), size[1])
		}
	}
}

// Three nodes of its own, each interrupted once: nothing is lost.
func TestBenchFailover(t *testing.T) {
	t.Setenv("CHRONIK_TEST_MAIN", "1")
	code, out, errs := run("bench", "failover", "--count", "3", "--dir", t.TempDir())
	if code != exitOK || strings.Count(out, "every replica in sync") != 3 || !strings.Contains(out, "acknowledged records, each at its offset") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if code, _, errs := run("bench", "failover", "--kill", "true"); code != exitFailure || !strings.Contains(errs, "--kill and --restart go together") {
		t.Errorf("exit code %d, %s", code, errs)
	}
	code, out, errs = run("bench", "cold-start", "--count", "1", "--dir", t.TempDir())
	if code != exitOK || !strings.Contains(out, "1 cold starts of three nodes") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[2Jb\tc\x00"); got != "a?[2Jb\tc?" {
		t.Errorf("%q", got)
	}
}
