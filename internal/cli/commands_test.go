package cli

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// node starts a node and returns its address, its data directory and what stops it.
func node(t *testing.T) (addr, dir string, stop func()) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	p := startProcess(t, "--data", dir)
	line, err := p.stdout.ReadString('\n')
	m := firstLine.FindStringSubmatch(line)
	if err != nil || m == nil {
		t.Fatalf("first line %q, %v\n%s", line, err, &p.stderr)
	}
	return m[1], dir, func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if code := p.wait(t); code != exitOK {
			t.Fatalf("exit code %d\n%s", code, &p.stderr)
		}
	}
}

// step is one command line, its input and what it must answer.
type step struct {
	stdin string
	args  string // separated by spaces
	code  int
	want  string // of both outputs together; "=TEXT" is all of standard output
}

func runSteps(t *testing.T, addr string, steps []step) {
	t.Helper()
	t.Setenv(envBootstrap, addr)
	for _, s := range steps {
		var out, errs bytes.Buffer
		code := Main(strings.Fields(s.args), strings.NewReader(s.stdin), &out, &errs)
		exact, all := strings.CutPrefix(s.want, "=")
		if code != s.code || all && out.String() != exact || !all && !strings.Contains(out.String()+errs.String(), s.want) {
			t.Errorf("chronik %s: exit code %d, want %d with %q:\n%s%s", s.args, code, s.code, s.want, &out, &errs)
		}
	}
}

func TestTopicCommands(t *testing.T) {
	addr, _, _ := node(t)
	runSteps(t, addr, []step{
		{args: "topic list", want: "=TOPIC  PARTITIONS  REPLICAS\n"},
		{args: "cluster watch --type Bogus", code: 2, want: "there is no such event"},
		{args: "topic create a-json -p 2 --json", want: "\"partitions\": 2,\n    \"replicas\": 1\n"},
		{args: "topic create a-json --json", code: 1, want: "[]\nchronik: create a-json: TOPIC_ALREADY_EXISTS"},
		{args: "topic delete a-json", want: "deleted a-json"},
		{args: "topic create orders -p 3 -c retention.ms=777", want: "=created orders: 3 partitions, 1 replica\n"},
		{args: "topic create orders", code: 1, want: "TOPIC_ALREADY_EXISTS"},
		{args: "topic create orders --if-missing", want: "="},
		{args: "topic create no/good", code: 1, want: `"no/good"`},
		{args: "topic create orders -c retention.ms", code: 2, want: "want KEY=VALUE"},
		{args: "topic create", code: 2, want: "requires at least 1 arg"},
		{args: "topic list", want: "orders  3           1\n"},
		{args: "topic list --json", want: `"partitions": 3`},
		{args: "topic describe orders", want: "  retention.ms=777\nPARTITION  LEADER"},
		{args: "topic describe orders --json", want: `"retention.ms": "777"`},
		{args: "topic describe nope", code: 1, want: "`chronik topic list` shows what is there"},
		{args: "__complete topic describe or", want: "=orders\n:4\n"},
		{args: "__complete consume x", want: "=:4\n"},
		{args: "__complete produce o", want: "=orders\n:4\n"},
		{args: "__complete produce orders f", want: "=:0\n"},
		{args: "topic alter orders -p 5 -c segment.bytes=2097152 --delete-config retention.ms", want: "=altered orders\n"},
		{args: "topic describe orders", want: "  segment.bytes=2097152\n"},
		{args: "topic alter orders -p 2", code: 1, want: "INVALID_PARTITIONS"},
		{args: "topic alter orders -c retention.ms=x", code: 1, want: `"x" is not a number`},
		{args: "topic alter orders", code: 2, want: "nothing to change"},
		{args: "topic delete orders nope", code: 1, want: "deleted orders"},
		{args: "topic list", want: "=TOPIC  PARTITIONS  REPLICAS\n"},
	})
}

func TestProduceAndConsumeCommands(t *testing.T) {
	addr, _, _ := node(t)
	whole := filepath.Join(t.TempDir(), "whole")
	if err := os.WriteFile(whole, []byte("two\nlines\xff"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := time.Now().UnixMilli()
	runSteps(t, addr, []step{
		{args: "topic create t", want: "created"},
		{args: "consume t --from start", want: "="},
		{stdin: "a:1\nb:2\nc:3\n", args: "produce t -K :", want: "="},
		{stdin: "4\n", args: "produce t -k d -H x=y -z zstd --acks 1", want: "="},
		{args: "produce t --whole " + whole, want: "="},
		{stdin: "no separator\n", args: "produce t -K :", code: 1, want: `standard input, line 1: no ":"`},
		{args: "produce t nothere", code: 1, want: "open nothere"},
		{args: "produce t --acks 3", code: 2, want: "want 0, 1 or all"},
		{args: "produce t -z brotli", code: 2, want: "want none, gzip"},
		{args: "produce t --format xml", code: 2, want: "want line or json"},
		{stdin: "x\n", args: "produce no/good", code: 1, want: "1 of 1 records were not acknowledged"},
		{args: "consume t --from start", want: "=1\n2\n3\n4\ntwo\nlines\xff\n"},
		{args: "consume t --from start -n 2 --format key-value", want: "=a\t1\nb\t2\n"},
		{args: "consume t --from 1 -n 1 --format %t/%p@%o,%k=%s,%S%%\\n", want: "=t/0@1,b=2,1%\n"},
		{args: "consume t --from 3 -n 1 --format %h", want: "=x=y"},
		{args: "consume t --from -2 -n 1", want: "=4\n"},
		{args: "consume t --from @0 -n 1", want: "=1\n"},
		{args: "consume t --from @2020-01-02T03:04:05Z -n 1", want: "=1\n"},
		{args: "consume t --from @4000000000000", want: "="},
		{args: "consume t --from sideways", code: 2, want: "want start, end"},
		{args: "consume t --from @noon", code: 2, want: "a time such as"},
		{args: "consume t --from start --format nothing", code: 2, want: "want value, key-value, json"},
		{args: "consume t --from start --format %x", code: 2, want: `"%x" is not among`},
		{args: "consume t --from start -p 7", code: 2, want: "has no partition 7"},
		{args: "consume nope --from start", code: 1, want: "UNKNOWN_TOPIC_OR_PARTITION"},
	})
	// JSON out and in again: the copy has the same keys, values, headers and times.
	_, first, _ := run("consume", "t", "--from", "start", "--format", "json")
	var one jsonRecord
	if err := json.Unmarshal([]byte(strings.SplitN(first, "\n", 2)[0]), &one); err != nil || *one.Key != "a" || one.Timestamp < before {
		t.Errorf("%v in %s", err, first)
	}
	runSteps(t, addr, []step{
		{args: "topic create copy", want: "created"},
		{stdin: first, args: "produce copy --format json", want: "="},
		{args: "consume copy --from start --format json", want: "=" + strings.ReplaceAll(first, `"topic":"t"`, `"topic":"copy"`)},
		{stdin: "{", args: "produce copy --format json", code: 1, want: "standard input, line 1"},
	})
}

func TestGroupCommands(t *testing.T) {
	addr, _, _ := node(t)
	runSteps(t, addr, []step{
		{args: "group list", want: "=GROUP  TYPE  STATE  PROTOCOL  COORDINATOR\n"},
		{args: "group lag", want: "=GROUP  STATE  MEMBERS  PARTITIONS  LAG  BEHIND\n"},
		{args: "group describe g", code: 1, want: "GROUP_ID_NOT_FOUND"},
		{args: "topic create t", want: "created"},
		{stdin: "1\n2\n3\n4\n", args: "produce t", want: "="},
		{args: "consume t -g g --from start -n 2", want: "=1\n2\n"},
		{args: "consume t -g g --from start -n 1", want: "=3\n"},
		{args: "consume t -g g -p 0", code: 2, want: "exclude each other"},
		{args: "group list", want: "g      classic  Empty"},
		{args: "group list --type consumer", want: "=GROUP  TYPE  STATE  PROTOCOL  COORDINATOR\n"},
		{args: "group list --state empty", want: "g      classic  Empty"},
		{args: "__complete group describe g", want: "=g\n:4\n"},
		{args: "group list --json", want: `"state": "Empty"`},
		{args: "group describe g", want: "t      0          3          4    1\n"},
		{args: "group describe g --json", want: `"total_lag": 1`},
		{args: "group lag g", want: "g      Empty  0        1           1    "},
		{args: "group lag -p", want: "g      t      0          3          4    1    "},
		{args: "group lag g --json", want: `"lag_seconds": `},
		{args: "group lag none", code: 1, want: "there is no group none"},
		{args: "group reset-offsets g --to start --dry-run", want: "t      0          3     0\n"},
		{args: "group describe g --json", want: `"committed": 3`},
		{args: "group reset-offsets g --to 1", want: "t      0          3     1\n"},
		{args: "group reset-offsets g --to end --topic t", want: "t      0          1     4\n"},
		{args: "group reset-offsets g --to -3 --topic t:0", want: "t      0          4     1\n"},
		{args: "group reset-offsets g --to @0", want: "t      0          1     0\n"},
		{args: "group reset-offsets g --to 99", want: "t      0          0     4\n"},
		{args: "group lag g", want: "g      Empty  0        1           0    0\n"},
		{args: "group reset-offsets g --to bad", code: 2, want: "want start, end"},
		{args: "group reset-offsets g", code: 2, want: "--to is missing"},
		{args: "group reset-offsets g --to start --topic t:x", code: 2, want: "want TOPIC or TOPIC:PARTITION"},
		{args: "group reset-offsets none --to start", code: 1, want: "has committed nothing"},
		{args: "group delete g", want: "=deleted g\n"},
		{args: "group delete g", code: 1, want: "GROUP_ID_NOT_FOUND"},
	})
}

// A follower in a group ends on the first interrupt: it has committed, and it has left.
func TestFollowEndsOnInterrupt(t *testing.T) {
	addr, _, _ := node(t)
	runSteps(t, addr, []step{{args: "topic create t", want: "created"}, {stdin: "1\n", args: "produce t", want: "="}})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--group", "g", "--from", "start"}, {"--follow", "--from", "start"}} {
		p := &process{cmd: exec.Command(exe, append([]string{"consume", "t"}, args...)...)}
		p.cmd.Env = append(os.Environ(), "CHRONIK_TEST_MAIN=1")
		p.cmd.Stderr = &p.stderr
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		one := make([]byte, 2)
		if _, err := out.Read(one); err != nil || string(one) != "1\n" {
			t.Fatalf("%q, %v", one, err)
		}
		_ = p.cmd.Process.Signal(syscall.SIGINT)
		done := make(chan struct{})
		go func() { _ = p.cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			_ = p.cmd.Process.Kill()
			t.Fatal("it goes on")
		}
		if code := p.cmd.ProcessState.ExitCode(); code != exitOK || p.stderr.Len() > 0 {
			t.Errorf("%v: exit code %d, %s", args, code, &p.stderr)
		}
	}
	runSteps(t, addr, []step{{args: "group describe g", want: "g  Empty, 0 members"}, {args: "group describe g --json", want: `"committed": 1`}})
}

func TestLogCommands(t *testing.T) {
	addr, dir, stop := node(t)
	runSteps(t, addr, []step{
		{args: "topic create t", want: "created"},
		{stdin: strings.Repeat("some text\n", 1000), args: "produce t", want: "="},
		{args: "log verify " + dir, code: 2, want: "a node runs on"},
	})
	stop()
	runSteps(t, addr, []step{
		{args: "log verify " + dir, want: "no problem found"},
		{args: "log verify --json " + dir, want: `"problems": []`},
		{args: "log dump " + dir, want: "topic t: id"},
		{args: "log verify " + t.TempDir(), code: 2, want: "not a data directory of chronik"},
	})
	segments, err := filepath.Glob(filepath.Join(dir, "partitions", "*", "*.log"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	raw, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[100] ^= 1
	if err := os.WriteFile(segments[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	runSteps(t, addr, []step{
		{args: "log verify " + dir, code: 1, want: filepath.Base(segments[0])},
		{args: "log verify --json " + dir, code: 1, want: `"problems": [`},
	})
}

// Where no broker is, every command says so within seconds, and what to do.
func TestNoBroker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	began := time.Now()
	for _, args := range []string{"topic list", "produce t", "consume t", "group list"} {
		runSteps(t, addr, []step{{args: args, code: 1, want: "no broker answers at " + addr}})
	}
	if d := time.Since(began); d > 2*time.Minute { // each has a bound of some seconds
		t.Errorf("it took %v", d)
	}
}
