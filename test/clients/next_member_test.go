package clients

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// nextMember is a member of a group of the new protocol (or of the classic one), in a process of its own or here.
type nextMember struct {
	t        *testing.T
	name     string
	stop     func() // it leaves, and has left when this returns
	stopOnce sync.Once

	mu      sync.Mutex
	has     map[string]int64 // topic/partition -> the offset that must come next; -1 for any
	revoked int              // partitions that it was told to give up, ever
	got     map[string]map[int64]bool
	wrong   []string
}

func (m *nextMember) line(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	words := strings.Fields(line)
	switch {
	case len(words) == 0:
	case words[0] == "assigned":
		for _, tp := range words[1:] {
			m.has[tp] = -1
		}
	case words[0] == "revoked":
		for _, tp := range words[1:] {
			delete(m.has, tp)
		}
		m.revoked += len(words) - 1
	case words[0] == "got" && len(words) == 3:
		offset, _ := strconv.ParseInt(words[2], 10, 64)
		next, has := m.has[words[1]]
		if !has || next >= 0 && next != offset {
			m.wrong = append(m.wrong, fmt.Sprintf("%s (it has %v)", line, m.has))
		}
		m.has[words[1]] = offset + 1
		if m.got[words[1]] == nil {
			m.got[words[1]] = map[int64]bool{}
		}
		m.got[words[1]][offset] = true
	default:
		m.wrong = append(m.wrong, line)
	}
}

// owns is what it says that it has, sorted; and how often it had to give a partition up.
func (m *nextMember) owns() (has []string, revoked int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for tp := range m.has {
		has = append(has, tp)
	}
	slices.Sort(has)
	return has, m.revoked
}

func (m *nextMember) leave() { m.stopOnce.Do(m.stop) }

// process runs a client program; it leaves when its standard input ends.
func (m *nextMember) process(name string, args ...string) {
	cmd := exec.Command(name, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			m.line(lines.Text())
		}
		_ = cmd.Wait()
	}()
	m.stop = func() {
		_ = stdin.Close()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			m.t.Errorf("%s did not end", m.name)
		}
		if m.t.Failed() && stderr.Len() > 0 {
			m.t.Logf("%s: %.2000s", m.name, stderr.String())
		}
	}
	m.t.Cleanup(m.leave)
}

// franz is a member of franz-go in this process.
func (m *nextMember) franz(addr, group, instance, protocol, subscription string) {
	say := func(word string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, p map[string][]int32) {
			for topic, partitions := range p {
				for _, n := range partitions {
					m.line(fmt.Sprintf("%s %s/%d", word, topic, n))
				}
			}
		}
	}
	opts := []kgo.Opt{
		kgo.SeedBrokers(addr), kgo.ClientID(m.name), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.AutoCommitInterval(200 * time.Millisecond), kgo.MetadataMinAge(50 * time.Millisecond), kgo.MetadataMaxAge(2 * time.Second),
		kgo.BlockRebalanceOnPoll(), kgo.OnPartitionsAssigned(say("assigned")), kgo.OnPartitionsRevoked(say("revoked")), kgo.OnPartitionsLost(say("revoked")),
		kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.ConsumeTopics(strings.Split(subscription, ",")...),
	}
	if protocol == "consumer" {
		opts = append(opts, kgo.Balancers(kgo.StickyBalancer()), kgo.ServerSideBalancer())
	} else {
		opts = append(opts, kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond))
	}
	if strings.HasPrefix(subscription, "^") {
		opts = append(opts, kgo.ConsumeRegex())
	}
	if instance != "-" {
		opts = append(opts, kgo.InstanceID(instance))
	}
	c, err := kgo.NewClient(opts...)
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			poll, end := context.WithTimeout(ctx, 100*time.Millisecond)
			c.PollFetches(poll).EachRecord(func(r *kgo.Record) { m.line(fmt.Sprintf("got %s/%d %d", r.Topic, r.Partition, r.Offset)) })
			end()
			c.AllowRebalance()
		}
		c.CloseAllowingRebalance()
	}()
	m.stop = func() {
		cancel()
		<-done
	}
	m.t.Cleanup(m.leave)
}

// nextGroup is a group of real clients, with records that come all the time.
type nextGroup struct {
	t       *testing.T
	addr    string
	prefix  string
	classes string // of java/NextMember.java
	members []*nextMember

	mu   sync.Mutex
	ends map[string]int64 // topic/partition -> how many records were acknowledged
}

// join starts a member of a kind: java, confluent or franz-go.
func (g *nextGroup) join(kind, group, instance, protocol, subscription string) *nextMember {
	g.t.Helper()
	m := &nextMember{t: g.t, name: fmt.Sprintf("%s-%d", kind, len(g.members)), has: map[string]int64{}, got: map[string]map[int64]bool{}}
	args := []string{g.addr, group, m.name, instance, protocol, subscription}
	switch kind {
	case "java":
		jars := installed(g.t, "java/*.jar")
		classpath := filepath.Join(filepath.Dir(jars), "*")
		if g.classes == "" {
			g.classes = g.t.TempDir()
			if out, err := exec.Command("javac", "-d", g.classes, "-cp", classpath, "java/NextMember.java").CombinedOutput(); err != nil {
				g.t.Fatalf("javac: %v\n%s", err, out)
			}
		}
		m.process(installed(g.t, "java"), append([]string{"-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", g.classes + ":" + classpath, "NextMember"}, args...)...)
	case "confluent":
		m.process(installed(g.t, "python/bin/python"), append([]string{"python/next_member.py"}, args...)...)
	case "franz-go":
		m.franz(g.addr, group, instance, protocol, subscription)
	}
	g.members = append(g.members, m)
	return m
}

// feed sends records to all partitions of the topic, for as long as the test runs.
func (g *nextGroup) feed(topic string, partitions int32) {
	g.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(g.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			for p := range partitions {
				r := &kgo.Record{Topic: topic, Partition: p, Value: []byte("x")}
				if err := c.ProduceSync(ctx, r).FirstErr(); err == nil {
					g.mu.Lock()
					g.ends[fmt.Sprint(topic, "/", p)] = r.Offset + 1
					g.mu.Unlock()
				}
			}
		}
	}()
	g.t.Cleanup(func() {
		cancel()
		<-done
		c.Close()
	})
}

// await waits until the members own as many partitions as wanted, none of them twice.
func (g *nextGroup) await(what string, want map[*nextMember]int) {
	g.t.Helper()
	var why string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		why = ""
		seen := map[string]string{}
		for _, m := range g.members {
			n, asked := want[m]
			if !asked {
				continue
			}
			has, _ := m.owns()
			if len(has) != n {
				why += fmt.Sprintf("\n%s has %d partitions, not %d: %v", m.name, len(has), n, has)
			}
			for _, tp := range has {
				if seen[tp] != "" {
					why += fmt.Sprintf("\n%s has %s, and so has %s", m.name, tp, seen[tp])
				}
				seen[tp] = m.name
			}
		}
		if why == "" {
			return
		}
	}
	g.t.Fatalf("%s:%s", what, why)
}

// consumed waits until the members have got every record that is there by now, and demands that nothing was wrong until then.
func (g *nextGroup) consumed() {
	g.t.Helper()
	g.mu.Lock()
	ends := map[string]int64{}
	for tp, end := range g.ends {
		ends[tp] = end
	}
	g.mu.Unlock()
	var why string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		why = ""
		for tp, end := range ends {
			for offset := range end {
				if !slices.ContainsFunc(g.members, func(m *nextMember) bool {
					m.mu.Lock()
					defer m.mu.Unlock()
					return m.got[tp][offset]
				}) {
					why = fmt.Sprintf("nobody got offset %d of %s, of %d", offset, tp, end)
					break
				}
			}
		}
		if why == "" {
			break
		}
	}
	if why != "" {
		g.t.Error(why)
	}
	for _, m := range g.members {
		m.mu.Lock()
		if len(m.wrong) > 0 {
			g.t.Errorf("%s: %d lines are wrong, the first: %s", m.name, len(m.wrong), m.wrong[0])
		}
		m.mu.Unlock()
	}
}
