package bench

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// untouched is a cluster that nothing ever happens to.
type untouched struct{ addrs []string }

func (u untouched) bootstrap() []string                            { return u.addrs }
func (u untouched) interrupt(context.Context, int32, string) error { return nil }
func (u untouched) restore(context.Context, int32) error           { return nil }
func (u untouched) prefer(context.Context, string)                 {}
func (u untouched) close()                                         {}

func untouchedFailover(t *testing.T, driver string) *failover {
	return untouchedCommits(t, driver, false)
}

func untouchedCommits(t *testing.T, driver string, commits bool) *failover {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	f := &failover{o: &FailoverOptions{Driver: driver, Commits: commits, Settle: time.Millisecond}, cluster: untouched{c.ListenAddrs()},
		r: &FailoverReport{Kind: "kill", ByTarget: map[string]time.Duration{}}}
	if f.o.Out == nil {
		f.o.Out = &strings.Builder{}
	}
	if commits {
		makeTopic(t, c.ListenAddrs(), commitTopic)
	}
	if err := f.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.close)
	return f
}

func TestFailoverMeasuresAndVerifies(t *testing.T) {
	for _, driver := range []string{DriverRaw, DriverClient} {
		f := untouchedFailover(t, driver)
		for _, target := range []string{killLeader, killFollower, killController} {
			if err := f.interrupt(t.Context(), target); err != nil {
				t.Fatalf("%s, %s: %v", driver, target, err)
			}
		}
		if err := f.verify(t.Context()); err != nil {
			t.Errorf("%s: %v", driver, err)
		}
		if len(f.r.Interruptions) != 3 || f.r.Worst == 0 || f.r.Acked == 0 || f.r.Verified == "" {
			t.Errorf("%s: %+v", driver, f.r)
		}
	}
}

func makeTopic(t *testing.T, addrs []string, topic string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addrs...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 3, 3, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// kfake's coordinators are not the leaders of a topic, so that only a client finds them.
func TestFailoverOfCommits(t *testing.T) {
	f := untouchedCommits(t, DriverClient, true)
	if _, _, err := f.outage(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := f.verify(t.Context()); err != nil || f.r.Acked == 0 {
		t.Errorf("%+v: %v", f.r, err)
	}
	f.probes[0].mu.acks = append(f.probes[0].mu.acks, probeAck{number: 1 << 40})
	if err := f.verifyCommits(t.Context()); err == nil || !strings.Contains(err.Error(), "LOST") {
		t.Errorf("a lost commit: %v", err)
	}
}

// What was acknowledged and is not there, or is another record, is found.
func TestFailoverFindsLosses(t *testing.T) {
	for name, spoil := range map[string]func(*probeAck){
		"lost":    func(a *probeAck) { a.offset += 1 << 30 },
		"another": func(a *probeAck) { a.number++ },
	} {
		f := untouchedFailover(t, DriverRaw)
		if _, _, err := f.outage(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		f.stop()
		for _, p := range f.probes {
			<-p.ended
		}
		spoil(&f.probes[1].mu.acks[0])
		if err := f.verify(t.Context()); err == nil || !strings.Contains(err.Error(), "LOST") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPick(t *testing.T) {
	s := clusterState{controller: 2, nodes: []int32{1, 2, 3}, partitions: []partitionState{{leader: 2}, {leader: 3}}}
	for target, want := range map[string]int32{killController: 2, killLeader: 3, killFollower: 1} {
		if got, was := s.pick(target); got != want {
			t.Errorf("%s: node %d (%s), want %d", target, got, was, want)
		}
	}
	s.controller = 1
	if got, was := s.pick(killFollower); got != 1 || was != "follower, controller" {
		t.Errorf("node %d (%s)", got, was)
	}
}
