package cluster

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"chronik/test/node"
)

// workPartitions is of the topics that the programs in python/ and java/ use.
const workPartitions = 3

// installed finds what scripts/clients.sh installs; "" and a line in the log where it is not there, a failure where CI demands it.
func installed(t *testing.T, path string) string {
	t.Helper()
	if found, err := exec.LookPath(path); err == nil {
		return found
	}
	path = filepath.Join(node.Root(t), ".cache", "clients", path)
	if matches, _ := filepath.Glob(path); len(matches) > 0 {
		return path
	}
	if os.Getenv("CHRONIK_REQUIRE_CLIENTS") == "1" {
		t.Fatalf("%s is not installed; run scripts/clients.sh", path)
	}
	t.Logf("WITHOUT %s, which is not installed; run scripts/clients.sh", path)
	return ""
}

// program runs a client that prints "ack PARTITION OFFSET VALUE", "got PARTITION OFFSET VALUE", "end N" and "error WHY".
type program struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{}

	mu     sync.Mutex
	said   map[string]map[[2]int64][]string // by word: partition and offset to values
	count  map[string]int
	total  int // of "end"
	errors []string
	stderr strings.Builder
	hear   func(line string) // takes the lines, if it is not nil
}

func start(t *testing.T, name, binary string, args ...string) *program {
	t.Helper()
	p := &program{name: name, cmd: exec.CommandContext(within(t, 8*time.Minute), binary, args...)}
	p.start(t)
	return p
}

func (p *program) start(t *testing.T) {
	t.Helper()
	p.ended, p.said, p.count, p.total = make(chan struct{}), map[string]map[[2]int64][]string{}, map[string]int{}, -1
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.stdin, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	if p.hear == nil {
		p.hear = p.line
	}
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		lines.Split(wholeLines)
		for lines.Scan() {
			p.hear(lines.Text())
		}
		if err := p.cmd.Wait(); err != nil {
			p.fail(err.Error())
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if said := p.stderr.String(); t.Failed() && said != "" {
			t.Logf("%s says at the end:\n%s", p.name, said[max(0, len(said)-6000):])
		}
	})
}

// wholeLines is bufio.ScanLines without a last line that has no end: who was killed did not get to say it.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if advance, token, err = bufio.ScanLines(data, atEOF); atEOF && advance > 0 && data[advance-1] != '\n' {
		return advance, nil, err
	}
	return advance, token, err
}

func (p *program) line(line string) {
	var partition, offset int64
	var word, value string
	switch {
	case strings.HasPrefix(line, "error "):
		p.fail(line)
	case strings.HasPrefix(line, "end "):
		p.mu.Lock()
		defer p.mu.Unlock()
		_, _ = fmt.Sscanf(line, "end %d", &p.total) // else it stays -1
	default:
		if n, _ := fmt.Sscanf(line, "%s %d %d %s", &word, &partition, &offset, &value); n != 4 {
			p.fail("says " + line)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.said[word] == nil {
			p.said[word] = map[[2]int64][]string{}
		}
		at := [2]int64{partition, offset}
		p.said[word][at] = append(p.said[word][at], value)
		p.count[word]++
	}
}

func (p *program) fail(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.errors = append(p.errors, why)
}

func (p *program) counted(word string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count[word]
}

// stop tells the program to end and waits until it has.
func (p *program) stop(t *testing.T) {
	t.Helper()
	_ = p.stdin.Close()
	select {
	case <-p.ended:
	case <-time.After(3 * node.Patience):
		t.Errorf("%s does not end", p.name)
	}
	p.check(t)
}

func (p *program) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.errors) > 0 {
		t.Errorf("%s: %d errors, the first: %s\n%.3000s", p.name, len(p.errors), p.errors[0], p.stderr.String())
	}
}

// pair is a producer and two members of a group, of one client library.
type pair struct {
	name, topic string
	producer    *program
	consumers   []*program
}

// programs starts the pairs whose clients are installed.
func programs(t *testing.T, addrs []string) []*pair {
	t.Helper()
	bootstrap := strings.Join(addrs, ",")
	var all []*pair
	add := func(name, binary string, args ...string) {
		p := &pair{name: name, topic: "work-" + name}
		run := func(mode string) *program {
			return start(t, name+" "+mode, binary, append(args, mode, bootstrap, p.topic, "group-"+name)...)
		}
		p.producer = run("produce")
		for range 2 {
			p.consumers = append(p.consumers, run("consume"))
		}
		all = append(all, p)
	}
	if python := installed(t, "python/bin/python"); python != "" {
		add("kafka-python", python, "python/work_kafka_python.py")
		add("confluent", python, "python/work_confluent.py")
	}
	if jars := installed(t, "java/*.jar"); jars != "" {
		classes, classpath := t.TempDir(), filepath.Join(filepath.Dir(jars), "*")
		if out, err := exec.Command("javac", "-d", classes, "-cp", classpath, "java/Work.java").CombinedOutput(); err != nil {
			t.Fatalf("javac: %v\n%s", err, out)
		}
		add("java", installed(t, "java"), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", classes+":"+classpath, "Work")
	}
	return all
}

// verify demands that the topic holds what was acknowledged, each record once and in order, and that the group had all of it.
func (p *pair) verify(t *testing.T, c *node.Cluster) {
	t.Helper()
	p.producer.stop(t)
	if p.producer.total < 0 || p.producer.counted("ack") != p.producer.total {
		t.Errorf("%s: %d of %d records were acknowledged", p.name, p.producer.counted("ack"), p.producer.total)
	}
	acked := p.producer.said["ack"]
	missing := func() (n int) {
		for at := range acked {
			found := false
			for _, m := range p.consumers {
				m.mu.Lock()
				found = found || len(m.said["got"][at]) > 0
				m.mu.Unlock()
			}
			if !found {
				n++
			}
		}
		return n
	}
	c.Eventually(p.name+": the group has got every record", func(context.Context) error {
		if n := missing(); n > 0 {
			return fmt.Errorf("%d of %d records are missing", n, len(acked))
		}
		return nil
	})
	seen := map[string]bool{}
	last := map[int32]int{}
	again := 0
	for _, r := range consume(t, c.Bootstrap(), p.topic, p.producer.total) {
		at, value := [2]int64{int64(r.Partition), r.Offset}, string(r.Value)
		if got := acked[at]; len(got) != 1 || got[0] != value {
			t.Fatalf("%s: %s/%d offset %d holds %q, acknowledged was %q", p.name, p.topic, r.Partition, r.Offset, value, got)
		}
		if seen[value] {
			t.Fatalf("%s: %q is stored twice", p.name, value)
		}
		seen[value] = true
		var n int
		if _, err := fmt.Sscan(value, &n); err != nil || n < last[r.Partition] {
			t.Fatalf("%s: %s/%d offset %d: %q comes after %d", p.name, p.topic, r.Partition, r.Offset, value, last[r.Partition])
		}
		last[r.Partition] = n
		for _, m := range p.consumers {
			for _, got := range m.said["got"][at] {
				if again++; got != value {
					t.Fatalf("%s: %s/%d offset %d: a consumer got %q, stored is %q", m.name, p.topic, r.Partition, r.Offset, got, value)
				}
			}
		}
	}
	for _, m := range p.consumers {
		m.stop(t)
	}
	t.Logf("%s: %d records acknowledged, stored once and in order; the group got all, %d of them again", p.name, p.producer.total, again-p.producer.total)
}
