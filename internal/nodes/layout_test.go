package nodes

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"chronik/internal/config"
	"chronik/internal/vfs"
)

func load(t *testing.T, n *Node) *config.Config {
	t.Helper()
	text, err := os.ReadFile(n.ConfigFile())
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(config.Sources{FileName: n.ConfigFile(), File: text})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return cfg
}

func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `a "b"\c`)
	all, err := Lay(Plan{Dir: dir, Nodes: 7, KafkaPort: 9092, ClusterPort: 9291, HTTPPort: 6092, Set: []string{"num.partitions=6", "log.sync=interval"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		n := &all[i]
		c := load(t, n)
		if int(c.NodeID) != i+1 || c.DataDir != n.Dir || c.DataDir != filepath.Join(dir, "node-"+string(rune('1'+i))) || c.Kafka[0].Addr != n.Kafka ||
			c.HTTP != n.HTTP || c.ClusterAddr() != n.Cluster || c.NumPartitions != 6 || c.Topic.Sync != config.SyncInterval {
			t.Errorf("node %d: %+v is not %+v", i+1, c, n)
		}
		if voter := i < MaxVoters; voter != (len(c.ClusterVoters) == MaxVoters) || voter != (c.ClusterJoin == "") {
			t.Errorf("node %d: voters %v, join %q", i+1, c.ClusterVoters, c.ClusterJoin)
		}
	}
	if all[2].Kafka != "127.0.0.1:9094" || all[2].Cluster != "127.0.0.1:9293" || all[2].HTTP != "127.0.0.1:6094" {
		t.Errorf("node 3: %+v", all[2])
	}
	again, err := Lay(Plan{Dir: dir, Nodes: 7, KafkaPort: 1092})
	if err != nil || again[2].Kafka != "127.0.0.1:1094" || again[2].Cluster != all[2].Cluster || again[2].HTTP != all[2].HTTP {
		t.Errorf("a second time: %+v, %v", again[2], err)
	}
	if c := load(t, &again[0]); c.NumPartitions != 1 || c.ClusterVoters[2].Addr != all[2].Cluster {
		t.Errorf("settings of the first time are left: %+v", c)
	}
}

func TestFreePorts(t *testing.T) {
	all, err := Lay(Plan{Dir: t.TempDir(), Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, n := range all {
		for _, addr := range []string{n.Kafka, n.Cluster, n.HTTP} {
			if _, port, err := config.SplitHostPort(addr); err != nil || port == 0 || slices.Contains(seen, addr) {
				t.Errorf("%q, %v; seen %v", addr, err, seen)
			}
			seen = append(seen, addr)
		}
	}
	if err := CheckPorts(all); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", all[1].Kafka)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := CheckPorts(all); err == nil || !strings.Contains(err.Error(), all[1].Kafka) || !strings.Contains(err.Error(), "--kafka-port") {
		t.Errorf("a port in use: %v", err)
	}
	lock, err := vfs.OS{}.Lock(filepath.Join(all[2].Dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if err := os.WriteFile(filepath.Join(all[2].Dir, "chronik.pid"), []byte("4711\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := CheckPorts(all); err == nil || !strings.Contains(err.Error(), "node 3 runs already, as process 4711") {
		t.Errorf("a node that runs: %v", err)
	}
}

func TestPlanIsChecked(t *testing.T) {
	single, three := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(single, "node"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(three, "node-3"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(three, "node-3", "node"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		plan Plan
		want string
	}{
		{Plan{Nodes: 0}, "0 nodes"},
		{Plan{Nodes: 3, KafkaPort: 65534}, "port 65534"},
		{Plan{Nodes: 3, Set: []string{"data=/x"}}, "its own data"},
		{Plan{Nodes: 3, Set: []string{"num.partition=3"}}, "num.partitions?"},
		{Plan{Nodes: 3, Set: []string{"num.partitions=x"}}, "not a number"},
		{Plan{Nodes: 3, Set: []string{"x"}}, "want KEY=VALUE"},
		{Plan{Nodes: 3, Dir: single}, "single node"},
		{Plan{Nodes: 2, Dir: three}, "more than 2 nodes"},
	} {
		if tc.plan.Dir == "" {
			tc.plan.Dir = t.TempDir()
		}
		if _, err := Lay(tc.plan); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.plan, err, tc.want)
		}
	}
}

func TestEnvironDropsWhatEachNodeHas(t *testing.T) {
	for _, name := range []string{"CHRONIK_DATA", "CHRONIK_NODE_ID", "CHRONIK_CLUSTER_VOTERS", "CHRONIK_CONFIG", "CHRONIK_LOG_LEVEL"} {
		t.Setenv(name, "x")
	}
	env := Environ()
	if !slices.Contains(env, "CHRONIK_LOG_LEVEL=x") || slices.ContainsFunc(env, func(e string) bool { return strings.HasSuffix(e, "=x") && e != "CHRONIK_LOG_LEVEL=x" }) {
		t.Error(env)
	}
}

func TestFreeAddresses(t *testing.T) {
	addrs, err := FreeAddresses(50)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if err != nil || seen[addr] {
			t.Fatalf("%s: %v, twice: %v", addr, err, seen[addr])
		}
		defer func() { _ = l.Close() }()
		seen[addr] = true
	}
}
