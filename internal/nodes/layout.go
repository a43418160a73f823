package nodes

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"chronik/internal/config"
	"chronik/internal/vfs"
)

// MaxVoters is how many of the nodes elect the controller; further ones join as followers of the metadata.
const MaxVoters = 5

const host = "127.0.0.1"

// Plan says how the nodes of a cluster on this machine are laid out.
type Plan struct {
	Dir         string   // holds node-1, node-2 and so on; made if it is not there
	Nodes       int      // at least 1
	KafkaPort   int      // of node 1, the others follow; 0 picks free ones, or those of the last time
	ClusterPort int      // likewise
	HTTPPort    int      // likewise
	Set         []string // KEY=VALUE of every node
}

// Node is one node of a laid out cluster. Its addresses are host:port.
type Node struct {
	ID      int
	Dir     string // its data directory, which also holds node.toml and, while it runs, chronik.pid
	Kafka   string
	Cluster string
	HTTP    string
}

// ConfigFile is what `chronik start --config` takes.
func (n *Node) ConfigFile() string { return filepath.Join(n.Dir, "node.toml") }

// Running is the process that runs on the node's directory; 0 if none does, -1 for one that did not leave its number.
func (n *Node) Running() int {
	name := filepath.Join(n.Dir, "lock")
	if _, err := os.Stat(name); err != nil {
		return 0
	}
	lock, err := vfs.OS{}.Lock(name)
	if err == nil {
		_ = lock.Close()
	}
	if !errors.Is(err, vfs.ErrLocked) {
		return 0
	}
	text, err := os.ReadFile(filepath.Join(n.Dir, "chronik.pid"))
	if err != nil {
		return -1
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return -1
	}
	return pid
}

// ownKeys are given to each node by its layout, so that they cannot be set for all.
var ownKeys = []string{"data", "kafka", "http", "node.id", "advertise", "cluster.listen", "cluster.advertise", "cluster.voters", "cluster.join"}

// Lay makes the nodes' directories and writes their node.toml. A directory that holds nodes already keeps them: their
// data, and with a port of 0 their ports.
func Lay(p Plan) ([]Node, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(p.Dir)
	if err != nil {
		return nil, err
	}
	all := make([]Node, p.Nodes)
	for i := range all {
		n := Node{ID: i + 1, Dir: filepath.Join(dir, fmt.Sprintf("node-%d", i+1))}
		n.Kafka, n.Cluster, n.HTTP = lastAddresses(n.ConfigFile())
		for _, a := range []struct {
			addr *string
			base int
		}{{&n.Kafka, p.KafkaPort}, {&n.Cluster, p.ClusterPort}, {&n.HTTP, p.HTTPPort}} {
			if a.base != 0 {
				*a.addr = fmt.Sprintf("%s:%d", host, a.base+i)
			}
		}
		all[i] = n
	}
	if err := pickPorts(all); err != nil {
		return nil, err
	}
	for i := range all {
		if err := os.MkdirAll(all[i].Dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(all[i].ConfigFile(), tomlOf(&all[i], all, p.Set), 0o644); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (p *Plan) check() error {
	if p.Nodes < 1 || p.Nodes > 99 {
		return fmt.Errorf("%d nodes: want 1 to 99", p.Nodes)
	}
	for _, port := range []int{p.KafkaPort, p.ClusterPort, p.HTTPPort} {
		if port < 0 || port+p.Nodes-1 > 65535 {
			return fmt.Errorf("port %d: want 0 to pick free ports, or %d ports from it on that end at 65535", port, p.Nodes)
		}
	}
	for _, s := range p.Set {
		key, value, ok := strings.Cut(s, "=")
		key = strings.TrimSpace(key)
		if !ok {
			return fmt.Errorf("--set %s: want KEY=VALUE", s)
		}
		if slices.Contains(ownKeys, key) {
			return fmt.Errorf("--set %s: each node gets its own %s", s, key)
		}
		if err := config.CheckBroker(key, value); err != nil {
			return fmt.Errorf("--set %s: %w", s, err)
		}
	}
	if _, err := os.Stat(filepath.Join(p.Dir, "node")); err == nil {
		return fmt.Errorf("%s is the data directory of a single node; give another directory for the cluster", p.Dir)
	}
	if _, err := os.Stat(filepath.Join(p.Dir, fmt.Sprintf("node-%d", p.Nodes+1), "node")); err == nil {
		return fmt.Errorf("%s holds the data of more than %d nodes; start all of them, or give another directory", p.Dir, p.Nodes)
	}
	return nil
}

// lastAddresses are those of a node.toml that was written before, empty if there is none.
func lastAddresses(file string) (kafka, cluster, http string) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", "", ""
	}
	values := map[string]any{}
	if toml.Unmarshal(text, &values) != nil {
		return "", "", "" // it is written anew
	}
	get := func(key string) string {
		v, _ := values[key].(string)
		if _, port, err := config.SplitHostPort(v); err != nil || port == 0 {
			return ""
		}
		return v
	}
	return get("kafka"), get("cluster.listen"), get("http")
}

// pickPorts gives free ports to what has no address. All are held until all are picked, so that none comes twice.
func pickPorts(all []Node) error {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for i := range all {
		for _, addr := range []*string{&all[i].Kafka, &all[i].Cluster, &all[i].HTTP} {
			if *addr != "" {
				continue
			}
			l, err := listenFree(host)
			if err != nil {
				return err
			}
			held = append(held, l)
			*addr = l.Addr().String()
		}
	}
	return nil
}

// CheckPorts tells which of the nodes' ports are taken, and by which of the nodes if it runs already.
func CheckPorts(all []Node) error {
	var errs []error
	for i := range all {
		n := &all[i]
		if pid := n.Running(); pid != 0 {
			errs = append(errs, fmt.Errorf("node %d runs already, as process %d on %s: stop it first (kill %d), or give another --data", n.ID, pid, n.Dir, pid))
			continue
		}
		for _, a := range []struct{ addr, what, flag string }{
			{n.Kafka, "Kafka", "kafka-port"}, {n.Cluster, "cluster", "cluster-port"}, {n.HTTP, "HTTP", "http-port"},
		} {
			l, err := net.Listen("tcp", a.addr)
			if err != nil {
				_, port, _ := config.SplitHostPort(a.addr)
				errs = append(errs, fmt.Errorf("the %s port of node %d is taken: %w: stop what listens there, or give other ports, for example --%s %d",
					a.what, n.ID, err, a.flag, int(port)-i+10_000))
				continue
			}
			_ = l.Close()
		}
	}
	return errors.Join(errs...)
}

func tomlOf(n *Node, all []Node, set []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Node %d of %d on this machine, written anew at each start of the cluster.\n", n.ID, len(all))
	fmt.Fprintf(&b, "# To run it by hand: chronik start --config %s\n\n", n.ConfigFile())
	line := func(key, value string) { fmt.Fprintf(&b, "%s = %s\n", quoted(key), quoted(value)) }
	fmt.Fprintf(&b, "%s = %d\n", quoted("node.id"), n.ID)
	line("data", n.Dir)
	line("kafka", n.Kafka)
	line("http", n.HTTP)
	line("cluster.listen", n.Cluster)
	if len(all) > 1 {
		if n.ID <= MaxVoters {
			var voters []string
			for i := range all[:min(len(all), MaxVoters)] {
				voters = append(voters, fmt.Sprintf("%d@%s", all[i].ID, all[i].Cluster))
			}
			line("cluster.voters", strings.Join(voters, ","))
		} else {
			line("cluster.join", all[0].Cluster)
		}
	}
	for _, s := range set {
		key, value, _ := strings.Cut(s, "=")
		line(strings.TrimSpace(key), value)
	}
	return b.Bytes()
}

// quoted is a TOML basic string; keys with dots need one too.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
