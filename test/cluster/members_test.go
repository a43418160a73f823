package cluster

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chronik/test/node"
)

// groupPartitions is of the topic that groups of real clients consume.
const groupPartitions = 6

// groupMember is a process that is a member of a group, and what it said.
type groupMember struct {
	*program
	kind string

	mu     sync.Mutex
	owned  map[int32]*spell
	spells []*spell
	counts map[string]int // lines by their first word
	broken []string
	frozen bool
	killed bool
}

// spell is the time for which a member owns a partition.
type spell struct {
	partition   int32
	first, next int64 // of the records that it got; -1: none yet
	last        time.Time
	pause       time.Duration // the longest between two records
}

func (m *groupMember) line(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	word, rest, _ := strings.Cut(line, " ")
	m.counts[word]++
	switch word {
	case "assigned", "revoked":
		for _, f := range strings.Fields(rest) {
			p, err := strconv.Atoi(f)
			if err != nil {
				m.broken = append(m.broken, "says "+line)
			}
			if word == "revoked" {
				delete(m.owned, int32(p))
				continue
			}
			s := &spell{partition: int32(p), first: -1, next: -1, last: time.Now()}
			m.owned[int32(p)] = s
			m.spells = append(m.spells, s)
		}
	case "got":
		m.got(line)
	case "committed", "refused":
	default:
		m.broken = append(m.broken, "says "+line)
	}
}

// got demands that records follow one another as long as the member owns the partition (invariant 17).
func (m *groupMember) got(line string) {
	var p int32
	var offset int64
	var value string
	if n, _ := fmt.Sscanf(line, "got %d %d %s", &p, &offset, &value); n != 3 {
		m.broken = append(m.broken, "says "+line)
		return
	}
	s := m.owned[p]
	switch {
	case s == nil:
		m.broken = append(m.broken, fmt.Sprintf("got offset %d of partition %d, which it does not own", offset, p))
		return
	case s.next < 0:
		s.first = offset
	case s.next != offset:
		m.broken = append(m.broken, fmt.Sprintf("got offset %d of partition %d, where %d was next", offset, p, s.next))
	}
	s.next = offset + 1
	s.pause = max(s.pause, time.Since(s.last))
	s.last = time.Now()
}

// begin is what the member owns; pauses are measured from now on.
func (m *groupMember) begin() map[int32]*spell {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.owned {
		s.pause, s.last = 0, time.Now()
	}
	return maps.Clone(m.owned)
}

// has is what the member owns, as far as it says.
func (m *groupMember) has() []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.owned))
}

func (m *groupMember) said(word string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[word]
}

// freeze stops the process where it is, or lets it go on.
func (m *groupMember) freeze(t *testing.T, on bool) {
	t.Helper()
	s := syscall.SIGCONT
	if on {
		s = syscall.SIGSTOP
	}
	if err := m.cmd.Process.Signal(s); err != nil {
		t.Fatalf("%s: %v", m.name, err)
	}
	m.frozen = on
}

// kill ends the process; it says nothing any more.
func (m *groupMember) kill() {
	m.mu.Lock()
	m.killed = true
	m.mu.Unlock()
	_ = m.cmd.Process.Kill()
	<-m.ended
}

// clientGroup is a group of real clients, and what they consume.
type clientGroup struct {
	t        *testing.T
	cluster  *node.Cluster
	name     string
	topic    string
	protocol string
	work     *steady
	members  []*groupMember // all that there ever were
	counts   map[string]int // by kind
	classes  string         // of java/Member.java
}

func newClientGroup(t *testing.T, c *node.Cluster, name, protocol string) *clientGroup {
	t.Helper()
	g := &clientGroup{t: t, cluster: c, name: name, topic: "of-" + name, protocol: protocol, counts: map[string]int{}}
	create(t, c, groupPartitions, g.topic)
	g.work = newSteady(t, c.Bootstrap(), g.topic, groupPartitions)
	return g
}

// join starts a member with a client library; nil if that is not installed.
func (g *clientGroup) join(kind string) *groupMember {
	g.t.Helper()
	g.counts[kind]++
	m := &groupMember{kind: kind, owned: map[int32]*spell{}, counts: map[string]int{}}
	name := fmt.Sprintf("%s.%d", kind, g.counts[kind])
	args := []string{strings.Join(g.cluster.Bootstrap(), ","), g.topic, g.name, name, g.protocol}
	ctx := within(g.t, lifetime())
	var cmd *exec.Cmd
	switch kind {
	case "kafka-python", "confluent":
		python := installed(g.t, "python/bin/python")
		if python == "" {
			return nil
		}
		cmd = exec.CommandContext(ctx, python, append([]string{"python/member_" + strings.ReplaceAll(kind, "-", "_") + ".py"}, args...)...)
	case "java":
		jars := installed(g.t, "java/*.jar")
		if jars == "" {
			return nil
		}
		classpath := filepath.Join(filepath.Dir(jars), "*")
		if g.classes == "" {
			g.classes = g.t.TempDir()
			if out, err := exec.Command("javac", "-d", g.classes, "-cp", classpath, "java/Member.java").CombinedOutput(); err != nil {
				g.t.Fatalf("javac: %v\n%s", err, out)
			}
		}
		cmd = exec.CommandContext(ctx, installed(g.t, "java"), append([]string{"-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", g.classes + ":" + classpath, "Member"}, args...)...)
	case "franz-go":
		cmd = exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), memberEnv+"="+strings.Join(args, " "))
	}
	m.program = &program{name: name, cmd: cmd, hear: m.line}
	m.start(g.t)
	g.members = append(g.members, m)
	return m
}

// alive are the members whose processes run and are not stopped.
func (g *clientGroup) alive() []*groupMember {
	return slices.DeleteFunc(slices.Clone(g.members), func(m *groupMember) bool {
		select {
		case <-m.ended:
			return true
		default:
			return m.frozen
		}
	})
}
