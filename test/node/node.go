package node

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chronik/internal/nodes"
)

// Node is one chronik process, and its data directory and addresses over restarts.
type Node struct {
	Dir   string // data directory
	Kafka string // address of the Kafka listener
	HTTP  string // address of the HTTP listener
	Args  []string
	Bin   string
	Env   []string

	t      testing.TB
	cmd    *exec.Cmd
	exited chan error
	mu     struct {
		sync.Mutex
		log bytes.Buffer
	}
}

// Binary is the binary under test: $CHRONIK_BIN, else bin/chronik of this checkout, built if it is not there.
func Binary(t testing.TB) string {
	t.Helper()
	if bin := os.Getenv("CHRONIK_BIN"); bin != "" {
		return bin
	}
	root := Root(t)
	bin := filepath.Join(root, "bin", "chronik")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, "./cmd/chronik")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build chronik: %v\n%s", err, out)
	}
	return bin
}

// Root is the root of this checkout.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// FreeAddr is a loopback address whose port was free a moment ago.
func FreeAddr(t testing.TB) string {
	t.Helper()
	addrs, err := nodes.FreeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

// New prepares a node in dir with further arguments of `chronik start`; Start runs it.
func New(t testing.TB, dir string, args ...string) *Node {
	t.Helper()
	n := &Node{t: t, Dir: dir, Bin: Binary(t), Kafka: FreeAddr(t), HTTP: FreeAddr(t), Args: args}
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", dir, n.Log())
		}
	})
	return n
}

// Start runs the node and returns once it says that it serves.
func (n *Node) Start() {
	n.t.Helper()
	if err := n.TryStart(); err != nil {
		n.t.Fatalf("%v\n%s", err, n.Log())
	}
}

// TryStart is Start for a node that may refuse.
func (n *Node) TryStart() error {
	args := append([]string{"start", "--data", n.Dir, "--kafka", n.Kafka, "--http", n.HTTP}, n.Args...)
	n.cmd = exec.Command(n.Bin, args...)
	n.cmd.Env = append(os.Environ(), n.Env...)
	n.cmd.SysProcAttr = nodes.Orphaned(&syscall.SysProcAttr{}, syscall.SIGKILL)
	stdout, err := n.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	n.cmd.Stderr = logWriter{n}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	first := make(chan string, 1)
	n.exited = make(chan error, 1)
	cmd, exited := n.cmd, n.exited
	go func() {
		lines := bufio.NewScanner(stdout)
		for i := 0; lines.Scan(); i++ {
			if i == 0 {
				first <- lines.Text()
			}
			_, _ = logWriter{n}.Write(append(lines.Bytes(), '\n'))
		}
		close(first)
		exited <- cmd.Wait()
	}()
	select {
	case line, ok := <-first:
		if !ok || !strings.Contains(line, "serves") {
			return fmt.Errorf("chronik did not say that it serves, but %q", line)
		}
		return nil
	case <-time.After(60 * time.Second):
		n.Kill()
		return fmt.Errorf("chronik did not serve within a minute")
	}
}

// Pid is that of the running process.
func (n *Node) Pid() int { return n.cmd.Process.Pid }

// Freeze stops the process where it is (SIGSTOP) and returns once it runs no more; Kill ends it for good.
func (n *Node) Freeze() {
	n.t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
	for range 2000 {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.Pid()))
		if err != nil {
			return // it is gone
		}
		if state := stat[bytes.LastIndexByte(stat, ')')+1:]; len(state) > 1 && (state[1] == 'T' || state[1] == 'Z') {
			return
		}
		time.Sleep(time.Millisecond)
	}
	n.t.Fatalf("process %d does not stop", n.Pid())
}

// Kill ends the process with SIGKILL, if it runs, and waits for it.
func (n *Node) Kill() { _ = n.end(syscall.SIGKILL) }

// Stop ends the process with SIGTERM and reports how it exited.
func (n *Node) Stop() error { return n.end(syscall.SIGTERM) }

// Wait waits for the process to exit by itself.
func (n *Node) Wait(ctx context.Context) error {
	select {
	case err := <-n.exited:
		n.cmd = nil
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *Node) end(sig os.Signal) error {
	if n.cmd == nil || n.cmd.Process == nil {
		return nil
	}
	_ = n.cmd.Process.Signal(sig) // it may have exited already
	var err error
	select {
	case err = <-n.exited:
	case <-time.After(60 * time.Second):
		_ = n.cmd.Process.Kill()
		err = fmt.Errorf("chronik still ran a minute after %v", sig)
		<-n.exited
	}
	n.cmd = nil
	return err
}

// Log is what the processes printed so far.
func (n *Node) Log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.log.String()
}

type logWriter struct{ n *Node }

func (w logWriter) Write(p []byte) (int, error) {
	w.n.mu.Lock()
	defer w.n.mu.Unlock()
	if w.n.mu.log.Len() < 1<<20 {
		w.n.mu.log.Write(p)
	}
	return len(p), nil
}
