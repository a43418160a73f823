package admin

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/node"
)

// scripts are the conversations that both servers must answer alike.
var scripts = []struct {
	name string
	run  func(s *side)
}{
	{"admin", admin},
}

// settings that both are started with, so that what differs by default does not differ here.
var settings []string

func TestAgainstApacheKafka(t *testing.T) {
	if os.Getenv("CHRONIK_ORACLE") == "" {
		t.Skip("SKIPPED: the comparison with Apache Kafka runs with CHRONIK_ORACLE=1 (make oracle)")
	}
	var args []string
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	n := node.New(t, t.TempDir(), args...)
	n.Start()
	apache := &side{t: t, name: "Apache Kafka", addr: startApacheKafka(t)}
	chronik := &side{t: t, name: "chronik", addr: n.Kafka}
	for _, script := range scripts {
		t.Run(script.name, func(t *testing.T) {
			for _, s := range []*side{apache, chronik} {
				s.t, s.said, s.ids = t, nil, nil
				script.run(s)
			}
			compare(t, apache.said, chronik.said)
		})
	}
}

// startApacheKafka runs one broker and returns its address.
func startApacheKafka(t *testing.T) string {
	t.Helper()
	root := node.Root(t)
	if jars, _ := filepath.Glob(filepath.Join(root, ".cache/clients/java/kafka_*.jar")); len(jars) == 0 {
		t.Fatal("Apache Kafka's jars are not there: run scripts/clients.sh")
	}
	addr := node.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(root, "scripts/apache-kafka.sh"), append([]string{dir, port}, settings...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(dir, "kafka.log"))
			t.Fatalf("Apache Kafka does not serve: %v\n%s", err, log)
		}
	}
}

// side is one of the two servers, and what it said.
type side struct {
	t      *testing.T
	name   string
	addr   string
	ids    []string // random IDs that it gave, in order
	topics map[string][16]byte
	said   []answer
}

// answer is one answer in a form that can be compared.
type answer struct {
	what string
	body any
}

// call asks, on a connection of its own, and notes the answer; nil if there was none.
func call[R kmsg.Response](s *side, version int16, req kmsg.Request) (none R) {
	if r, ok := s.start(version, req)().(R); ok {
		return r
	}
	return none
}

// start asks and returns what waits for the answer and notes it.
func (s *side) start(version int16, req kmsg.Request) func() kmsg.Response {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatalf("%s: %v", s.name, err)
	}
	req.SetVersion(version)
	what := fmt.Sprintf("%s v%d", kmsg.NameForKey(req.Key()), version)
	asked, _ := json.Marshal(req)
	frame := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(req.Key()))
	frame = binary.BigEndian.AppendUint16(frame, uint16(version))
	frame = append(frame, 0, 0, 0, 7, 0, 1, 'c') // correlation ID, client ID
	if req.IsFlexible() {
		frame = append(frame, 0)
	}
	frame = req.AppendTo(frame)
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	if _, err := c.Write(frame); err != nil {
		s.t.Fatalf("%s: %s: %v", s.name, what, err)
	}
	return func() kmsg.Response {
		defer func() { _ = c.Close() }()
		what += " " + s.hide(string(asked))
		resp, err := receive(c, version, req)
		if err != nil {
			s.said = append(s.said, answer{what, err.Error()})
			return nil
		}
		s.note(what, resp)
		return resp
	}
}

func receive(c net.Conn, version int16, req kmsg.Request) (kmsg.Response, error) {
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, err
	}
	resp := req.ResponseKind()
	resp.SetVersion(version)
	body = body[4:]
	if resp.IsFlexible() {
		body = body[1:]
	}
	return resp, resp.ReadFrom(body)
}

// id replaces a random ID by its number from now on, in the last answer too.
func (s *side) id(id string) {
	if id == "" || slices.Contains(s.ids, id) {
		return
	}
	s.ids = append(s.ids, id)
	for i := range s.said {
		s.said[i].body = replace(s.said[i].body, id, fmt.Sprintf("<%d>", len(s.ids)-1))
	}
}

func (s *side) hide(text string) string {
	for i, id := range s.ids {
		text = strings.ReplaceAll(text, id, "<"+strconv.Itoa(i)+">")
	}
	for name, id := range s.topics {
		raw, _ := json.Marshal(id)
		text = strings.ReplaceAll(text, string(raw), strconv.Quote("topic "+name))
	}
	return text
}

func (s *side) note(what string, resp kmsg.Response) {
	raw, err := json.Marshal(resp)
	if err != nil {
		s.t.Fatal(err)
	}
	var body any
	if err := json.Unmarshal([]byte(s.hide(string(raw))), &body); err != nil {
		s.t.Fatal(err)
	}
	s.said = append(s.said, answer{what, canonical(body)})
}

// apart are fields that are each server's own: addresses, texts, throttling.
var apart = []string{"ThrottleMillis", "Version", "UnknownTags", "ErrorMessage", "Host", "Port"}

// canonical drops what is each server's own and orders what has no order; the rows of one topic become one.
func canonical(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, f := range apart {
			delete(v, f)
		}
		for k := range v {
			v[k] = canonical(v[k])
		}
	case []any:
		var out []any
		topics := map[string]map[string]any{}
		for _, one := range v {
			row, _ := canonical(one).(map[string]any)
			partitions, ok := row["Partitions"].([]any)
			if !ok {
				out = append(out, canonical(one))
				continue
			}
			key := fmt.Sprint(row["Topic"], row["TopicID"])
			if first := topics[key]; first != nil {
				first["Partitions"] = canonical(append(first["Partitions"].([]any), partitions...))
				continue
			}
			topics[key] = row
			out = append(out, row)
		}
		slices.SortFunc(out, func(a, b any) int { return strings.Compare(text(a), text(b)) })
		return out
	}
	return v
}

func replace(v any, old, with string) any {
	var out any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(text(v), old, with)), &out); err != nil {
		return v
	}
	return canonical(out)
}

func text(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}

func compare(t *testing.T, want, got []answer) {
	t.Helper()
	differ := 0
	for i := range min(len(want), len(got)) {
		if want[i].what != got[i].what {
			t.Fatalf("the conversations went apart at %d:\nApache Kafka was asked %s\nchronik was asked      %s", i, want[i].what, got[i].what)
		}
		if a, b := text(want[i].body), text(got[i].body); a != b {
			differ++
			t.Errorf("%s\nApache Kafka: %s\nchronik:      %s", want[i].what, a, b)
		}
	}
	if len(want) != len(got) {
		t.Errorf("%d answers of Apache Kafka, %d of chronik", len(want), len(got))
	}
	t.Logf("%d answers compared, %d differ", len(want), differ)
}
