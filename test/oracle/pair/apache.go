package pair

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"chronik/internal/nodes"
	"chronik/test/node"
)

// AgainstApacheKafka has the conversation with Apache Kafka and with chronik, both started with the settings, if
// CHRONIK_ORACLE is set (make oracle).
func AgainstApacheKafka(t *testing.T, settings []string, talk func(*Side), known ...Difference) {
	t.Helper()
	AgainstApacheKafkaWith(t, settings, nil, talk, known...)
}

// AgainstApacheKafkaWith is AgainstApacheKafka with more settings of Apache Kafka alone: keys that chronik does not have.
func AgainstApacheKafkaWith(t *testing.T, settings, more []string, talk func(*Side), known ...Difference) {
	t.Helper()
	if os.Getenv("CHRONIK_ORACLE") == "" {
		t.Skip("SKIPPED: the comparison with Apache Kafka runs with CHRONIK_ORACLE=1 (make oracle)")
	}
	apache := &Side{Name: "Apache Kafka", Addr: startApacheKafka(t, slices.Concat(settings, more)), Eventually: 500 * time.Millisecond}
	chronik := &Side{Name: "chronik", Addr: Chronik(t, settings)}
	apache.Broker, chronik.Broker = 1, 1
	Both(t, apache, chronik, talk, known)
}

// Both has the conversation with both at the same time and compares.
func Both(t *testing.T, theirs, ours *Side, talk func(*Side), known []Difference) {
	t.Helper()
	var done sync.WaitGroup
	for _, s := range []*Side{theirs, ours} {
		s.T, s.Topics = t, map[string][16]byte{}
		done.Go(func() { talk(s) })
	}
	done.Wait()
	if !t.Failed() {
		Compare(t, theirs, ours, known)
	}
}

// Chronik runs the binary and returns its address.
func Chronik(t *testing.T, settings []string) string {
	t.Helper()
	var args []string
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	n := node.New(t, t.TempDir(), args...)
	n.Start()
	return n.Kafka
}

// startApacheKafka runs one broker and returns its address. Its controller's port is the next one, which may be taken: then
// it ends, and another pair of ports is tried.
func startApacheKafka(t *testing.T, settings []string) string {
	t.Helper()
	root := node.Root(t)
	if jars, _ := filepath.Glob(filepath.Join(root, ".cache/clients/java/kafka_*.jar")); len(jars) == 0 {
		t.Fatal("Apache Kafka's jars are not there: run scripts/clients.sh")
	}
	var log []byte
	for range 3 {
		addr, dir := node.FreeAddr(t), t.TempDir()
		_, port, _ := net.SplitHostPort(addr)
		cmd := exec.Command(filepath.Join(root, "scripts/apache-kafka.sh"), append([]string{dir, port}, settings...)...)
		cmd.SysProcAttr = nodes.Orphaned(&syscall.SysProcAttr{}, syscall.SIGKILL)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			<-ended
		})
		if serves(addr, ended) {
			return addr
		}
		log, _ = os.ReadFile(filepath.Join(dir, "kafka.log"))
	}
	t.Fatalf("Apache Kafka does not serve:\n%s", log)
	return ""
}

// serves waits for a server; false if its process ended, or two minutes did.
func serves(addr string, ended <-chan struct{}) bool {
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(200 * time.Millisecond):
		}
	}
	return false
}
