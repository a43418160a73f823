package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"chronik/internal/nodes"
)

// When `chronik dev` is killed, its nodes stop, and in good order; one that was started by hand goes on.
func TestDevIsKilled(t *testing.T) {
	dir, alone := t.TempDir(), t.TempDir()
	byHand := startProcess(t, "--data", alone, "--kafka", "127.0.0.1:0", "--http", "none")
	if line, err := byHand.stdout.ReadString('\n'); err != nil || !strings.Contains(line, "serves") {
		t.Fatalf("%q, %v, %s", line, err, &byHand.stderr)
	}
	t.Setenv("CHRONIK_LOG_LEVEL", "info") // that nobody reads what they log must not matter
	d := startDev(t, "--data", dir)
	d.await("All 3 nodes serve", 1)
	if err := syscall.Kill(pidOf(t, dir, 2), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d.await("node 2: serves", 2) // the second process ends with its parent as well
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for id := 1; id <= 3; id++ {
		n := nodes.Node{ID: id, Dir: filepath.Join(dir, fmt.Sprintf("node-%d", id))}
		for end := time.Now().Add(time.Minute); n.Running() != 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("node %d goes on", id)
			}
		}
		if _, err := os.Stat(filepath.Join(n.Dir, "chronik.pid")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("node %d was not stopped in good order: %v", id, err)
		}
	}
	if n := (nodes.Node{Dir: alone}); n.Running() != byHand.cmd.Process.Pid {
		t.Error("the node that was started by hand is gone")
	}
}

// All nodes stop at once: the last of them do not wait for a quorum that is gone, and warn of nothing.
func TestDevStopsAllAtOnce(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--data", dir)
	d.await("All 3 nodes serve", 1)
	t.Setenv(envBootstrap, kafkaAddr(t, dir, 1))
	eventually(t, "created", "topic", "create", "orders", "--partitions", "9")
	eventually(t, "3 of 3 brokers live", "cluster", "status", "--check")
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if code := d.end(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, end, _ := strings.Cut(d.said(), ": stops"); strings.Contains(end, "level=WARN") {
		t.Errorf("warnings:\n%s", end)
	}
}
