package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/coordinator"
)

// line runs a command of a script.
func (s *script) line(line string) string {
	s.t.Helper()
	cmd, cmdArgs, err := datadriven.ParseLine(line)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.run(&datadriven.TestData{Cmd: cmd, CmdArgs: cmdArgs})
}

// cutAfter is a coordinator that loads the log of an operation of which only the first records have survived, for each number of them.
func cutAfter(t *testing.T, prepare []string, op string, judge func(t *testing.T, s *script)) {
	t.Helper()
	whole := newScript(t)
	for _, line := range prepare {
		whole.line(line)
	}
	before := len(whole.written)
	whole.line(op)
	all := whole.written
	if len(all) < before+5 {
		t.Fatalf("%s writes %d records", op, len(all)-before)
	}
	for n := before; n <= len(all); n++ {
		s := newScript(t)
		s.now, s.topics, s.ids = whole.now, whole.topics, 100
		s.written = append([]coordinator.Record(nil), all[:n]...)
		s.line("restart")
		t.Run(printRecord(all[max(n-1, 0)]), func(t *testing.T) { judge(t, s) })
		if t.Failed() {
			t.Fatalf("%d of %d records survived", n-before, len(all)-before)
		}
	}
}

var twoClassic = []string{
	"topics t:4", "join as=x v=3 client=x owned=()", "join as=y v=3 client=y owned=()", "advance 6s",
	"sync as=x member=x-1 v=3 assign=(x-1:@t-0+t-1,y-2:@t-2+t-3)", "sync as=y member=y-2 v=3",
}

// wantLine fails unless the answer has one of the texts.
func wantLine(t *testing.T, s *script, line string, texts ...string) {
	t.Helper()
	got := s.line(line)
	for _, text := range texts {
		if strings.Contains(got, text) {
			return
		}
	}
	t.Fatalf("%s: got %swant one of %q", line, got, texts)
}

// A failover in the middle of the records with which a classic group becomes a consumer group: its members are members still, and those
// who left before it is tried again do not come back.
func TestUpgradeIsCutOff(t *testing.T) {
	cutAfter(t, twoClassic, "hb member=n", func(t *testing.T, s *script) {
		if (s.m.groups["g"] == nil) == (s.m.consumers["g"] == nil) {
			t.Fatalf("classic %v, consumer %v", s.m.groups["g"], s.m.consumers["g"])
		}
		for _, member := range []string{"x-1", "y-2"} {
			wantLine(t, s, "heartbeat gen=1 member="+member, "ok\n", "REBALANCE_IN_PROGRESS\n")
		}
		state := dumpConsumers(s.m)
		if s.line("restart"); dumpConsumers(s.m) != state {
			t.Fatalf("loaded once more:\n%swas:\n%s", dumpConsumers(s.m), state)
		}
		wantLine(t, s, "leave members=(y-2)", "y-2 -: ok")
		wantLine(t, s, "hb member=n", "n epoch=")
		s.line("restart")
		g := s.m.consumers["g"]
		if g == nil || len(g.members) != 2 || g.members["n"] == nil || g.members["x-1"] == nil || len(g.targets) != 2 {
			t.Fatalf("after y has left and n has joined: %s", dumpConsumers(s.m))
		}
	})
}

// The same the other way.
func TestDowngradeIsCutOff(t *testing.T) {
	prepare := append(append([]string(nil), twoClassic...), "hb member=n", "heartbeat member=x-1", "heartbeat member=y-2",
		"join as=x member=x-1 v=3 client=x owned=()", "join as=y member=y-2 v=3 client=y owned=()")
	cutAfter(t, prepare, "hb member=n epoch=-1", func(t *testing.T, s *script) {
		if (s.m.groups["g"] == nil) == (s.m.consumers["g"] == nil) {
			t.Fatalf("classic %v, consumer %v", s.m.groups["g"], s.m.consumers["g"])
		}
		for _, member := range []string{"x-1", "y-2"} {
			wantLine(t, s, "heartbeat gen=2 member="+member, "ok\n", "REBALANCE_IN_PROGRESS\n")
		}
		if s.m.groups["g"] == nil {
			return // as if n had not left yet: its session ends that
		}
		wantLine(t, s, "leave members=(y-2)", "y-2 -: ok")
		wantLine(t, s, "hb member=z", "z epoch=")
		s.line("restart")
		g := s.m.consumers["g"]
		if g == nil || len(g.members) != 2 || g.members["z"] == nil || g.members["x-1"] == nil || len(g.targets) != 2 {
			t.Fatalf("after y has left and z has joined: %s", dumpConsumers(s.m))
		}
	})
}

// Members go together, and a failover comes between: whoever stays gets all partitions, once those who are still in the log have not
// been heard of.
func TestLeavingIsCutOff(t *testing.T) {
	prepare := []string{"topics t:4", "hb member=a", "hb member=b instance=b", "hb member=c instance=c", "hb member=a epoch=1 owned=(t-0)", "hb member=a epoch=3",
		"hb member=b instance=b epoch=2 owned=()", "hb member=c instance=c epoch=3 owned=()"}
	cutAfter(t, prepare, "leave members=(/b,/c)", func(t *testing.T, s *script) {
		for range 40 {
			s.line("advance 3s")
			got := s.line("hb member=a epoch=0")
			if strings.Contains(got, "assigned t[0 1 2 3]") {
				return
			}
		}
		t.Fatalf("a does not get everything:\n%s", dumpConsumers(s.m))
	})
}

func dumpConsumers(m *Machine) string {
	var out strings.Builder
	out.WriteString(stateOf(m))
	for _, id := range m.consumerIDs() {
		tx := coordinator.NewTx(time.Time{}, coordinator.NewTimers())
		m.consumers[id].records(tx)
		for _, rec := range tx.Take() {
			out.WriteString(printRecord(rec) + "\n")
		}
	}
	return out.String()
}

// A group whose records would be larger than the log takes stays what it is: an append that always fails would take all other groups of the
// partition with it, each time.
func TestMigrationThatCannotBeStored(t *testing.T) {
	s := newScript(t)
	for _, line := range twoClassic {
		s.line(line)
	}
	limit := func(size int) { s.line(fmt.Sprintf("limits size=100 record=%d", size)) }
	limit(memberRecord("g", &consumerMember{id: "n", clientID: "c", clientHost: "/h", topics: []string{"t"}}).Size())
	wantLine(t, s, "hb member=n", "GROUP_ID_NOT_FOUND: Cannot upgrade classic group g to consumer group because a record of member x-1 would take")
	limit(1 << 20)
	wantLine(t, s, "hb member=n", "n epoch=2")
	limit(100)
	if got := s.line("hb member=n epoch=-1"); !strings.Contains(got, "n epoch=-1") || strings.Contains(got, "write group") {
		t.Fatal(got)
	}
	if g := s.m.consumers["g"]; g == nil || len(g.members) != 2 {
		t.Fatalf("the group: %s", dumpConsumers(s.m))
	}
}

// A classic group is in the middle of a rebalance, because a member has gone, when a static member comes back with the new protocol and the
// same subscription: what the one who went had is given to others.
func TestUpgradeInARebalance(t *testing.T) {
	s := newScript(t)
	for _, line := range []string{
		"topics t:4", "join as=x v=5 client=x instance=i owned=()", "join as=y v=3 client=y owned=()", "advance 6s",
		"sync as=x member=i-1 instance=i v=3 assign=(i-1:@t-0+t-1,y-2:@t-2+t-3)", "sync as=y member=y-2 v=3", "leave members=(y-2)",
	} {
		s.line(line)
	}
	if g := s.m.groups["g"]; g == nil || g.state != PreparingRebalance || len(g.members) != 1 {
		t.Fatalf("%+v", g)
	}
	wantLine(t, s, "hb member=n instance=i", "assigned t[0 1 2 3]")
}
