package node

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// One node is a cluster too: what the harness does to a member is seen in the process.
func TestMember(t *testing.T) {
	c := NewCluster(t, 1, "num.partitions=3")
	c.Start()
	m := c.Member(1)
	pid, err := os.ReadFile(filepath.Join(m.Dir, "chronik.pid"))
	if err != nil || strings.TrimSpace(string(pid)) != strconv.Itoa(m.Pid()) {
		t.Errorf("process file %q of process %d: %v", pid, m.Pid(), err)
	}
	m.Freeze()
	if !m.Running() || !m.Frozen() || len(c.Alive()) != 0 {
		t.Error("a frozen node is neither gone nor alive")
	}
	m.Thaw()
	c.WaitUp(1)
	m.Restart()
	c.WaitUp(1)
	if err := c.Stop(); err != nil {
		t.Errorf("clean stop: %v\n%s", err, m.Log())
	}
	if m.Running() || !strings.Contains(m.Log(), "serves Kafka on "+m.Kafka) {
		t.Errorf("it runs: %v; log:\n%s", m.Running(), m.Log())
	}
	m.Start()
	m.Kill()
}

// A node that cannot start says why.
func TestMemberThatEnds(t *testing.T) {
	c := NewCluster(t, 1)
	m := c.Member(1)
	if err := os.WriteFile(m.ConfigFile(), []byte("nonsense = 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.Launch()
	if err := m.AwaitServing(); err == nil || !strings.Contains(err.Error(), "unknown key nonsense") {
		t.Errorf("got %v", err)
	}
	if code, err := m.Wait(t.Context()); code != 2 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}
