package admin

import (
	"strings"
	"testing"
	"time"

	"chronik/internal/kafka"
)

func explained(t *testing.T, f *fakeCluster, partition int32) Explanation {
	t.Helper()
	topic := f.Image().Topic("orders")
	return explain(f, f.Image(), topic, topic.Partitions.At(partition))
}

// wants checks that each sentence is there, in order, and no other.
func wants(t *testing.T, e Explanation, sentences ...string) {
	t.Helper()
	if len(e.WaitsFor) != len(sentences) {
		t.Errorf("it waits for %q, want %q", e.WaitsFor, sentences)
		return
	}
	for i, want := range sentences {
		if !strings.Contains(e.WaitsFor[i], want) {
			t.Errorf("sentence %d is %q, want %q", i, e.WaitsFor[i], want)
		}
	}
}

const gone = "broker 3 is fenced since 1970-01-01T01:06:40Z (broker 3: its connection was closed and a redial refused)"

func TestExplainAfterALoss(t *testing.T) {
	f := three()
	e := explained(t, f, 2)
	if e.Leader != 1 || e.LeaderSince.Offset != 4 || e.LeaderSince.Cause != "broker 3: its connection was closed and a redial refused" ||
		e.LeaderSince.LeaderEpoch != 2 || e.LeaderSince.OrBefore {
		t.Errorf("leader since %+v", e.LeaderSince)
	}
	if e.ISRSince.Offset != 4 || len(e.History) != 3 || e.MinInsync != 2 {
		t.Errorf("ISR since %+v, history %+v", e.ISRSince, e.History)
	}
	if len(e.OutOfSync) != 1 || e.OutOfSync[0].Why != gone {
		t.Errorf("out of sync: %+v", e.OutOfSync)
	}
	if e.Live != nil {
		t.Errorf("a view of what the node does not hold: %+v", e.Live)
	}
	wants(t, e, "the in-sync set is not whole: "+gone)
	// Partition 0 kept its leader: since its creation.
	if e := explained(t, f, 0); e.LeaderSince.Offset != 2 || e.LeaderSince.Cause != "a client created it" || e.LeaderSince.OrBefore || e.ISRSince.Offset != 4 {
		t.Errorf("leader since %+v, ISR since %+v", e.LeaderSince, e.ISRSince)
	}
}

func TestExplainPreferredLeader(t *testing.T) {
	f := three()
	f.apply("balanced", f.changed("orders", 1, 2, 1, 2))
	wants(t, explained(t, f, 1), "the in-sync set is not whole", "its preferred leader 1 is in sync again")
	f.apply("broker 1 is silent", fenced(1, true), f.changed("orders", 1, 2, 2))
	e := explained(t, f, 1)
	wants(t, e, "acks=all is refused with NOT_ENOUGH_REPLICAS, and nothing new becomes visible: 1 in sync of the 2", "its preferred leader is another: broker 1 is fenced")
	if !strings.Contains(e.WaitsFor[0], "(broker 1 is silent), "+gone) {
		t.Errorf("it does not name whom it waits for: %q", e.WaitsFor[0])
	}
}

func TestExplainNoLeader(t *testing.T) {
	f := three()
	f.apply("all gone", fenced(1, true), fenced(2, true), f.changed("orders", 0, -1, 2))
	wants(t, explained(t, f, 0), "it waits for one of 2, which hold everything that was acknowledged: broker 2 is fenced", "acks=all is refused")
	f.apply("the last one is lost", f.changed("orders", 0, -1))
	wants(t, explained(t, f, 0), "chronik cluster elect --unclean", "acks=all is refused")
}

func TestExplainLive(t *testing.T) {
	f := three()
	f.apply("it is back", fenced(3, false))
	topic := f.Image().Topic("orders")
	tp := topic.TopicPartition(0)
	set := func(r Replica) Explanation {
		f.mu.Lock()
		f.mu.replicas[tp] = r
		f.mu.Unlock()
		return explained(t, f, 0)
	}
	since := time.Unix(50, 0)
	r := Replica{Leads: true, LogEnd: 100, Durable: 90, HighWatermark: 80, Lease: true, Followers: []Follower{
		{Broker: 2, Connected: true, Durable: 80, Since: since}, {Broker: 3, Connected: true, Durable: 10, Lagging: "slow"}}}
	e := set(r)
	if e.Live.Role != "leader" || e.Live.Followers[0] != (FollowerView{2, true, since, 80, 20, ""}) || e.Live.Followers[1].Lagging != "slow" {
		t.Errorf("%+v", e.Live)
	}
	wants(t, e, "the in-sync set is not whole: broker 3 is live", "records 80 to 99 are not committed yet: they wait for the leader's own disk (at 90), broker 2 (at 80)")
	for _, tc := range []struct {
		follower Follower
		want     string
	}{
		{Follower{Broker: 3, Connected: true, Durable: 10}, "broker 3 is live and follows, 90 records behind"},
		{Follower{Broker: 3, Durable: 10}, "but does not follow the leader"},
		{Follower{Broker: 3, Connected: true, Durable: -1}, "has acknowledged nothing yet"},
		{Follower{Broker: 3, Connected: true, Durable: 100}, "has caught up"},
		{Follower{Broker: 2}, "the leader knows nothing of it"},
	} {
		r := r
		r.Followers = []Follower{tc.follower}
		if e := set(r); !strings.Contains(e.OutOfSync[0].Why, tc.want) {
			t.Errorf("%+v: %q, want %q", tc.follower, e.OutOfSync[0].Why, tc.want)
		}
	}
	e = set(Replica{Leads: true, LogEnd: 5, Durable: 5, HighWatermark: 5, Proposed: []kafka.BrokerID{1, 2, 3}, ProposedWhy: "broker 3 has caught up"})
	wants(t, e, "the in-sync set is not whole", "has not decided on the in-sync set 1, 2 and 3 that the leader asked for (broker 3 has caught up)", "broker.lease.ms")
	wants(t, set(Replica{Lease: true, Damaged: 2}), "the in-sync set is not whole", "2 ranges of offsets on this node are damaged")
	if e := set(Replica{LogEnd: 5, HighWatermark: 3}); e.Live.Role != "follower" || len(e.WaitsFor) != 1 || !strings.Contains(e.OutOfSync[0].Why, "its leader knows") {
		t.Errorf("%+v", e)
	}
}

// Without a controller nothing changes any more: that is what everything waits for.
func TestExplainWithoutAController(t *testing.T) {
	f := three()
	f.mu.quorum.Controller = kafka.NoLeader
	wants(t, explained(t, f, 0), "the in-sync set is not whole", "node 1 knows of no controller")
}

// Where the history is full, the oldest change that is known may not be the first of its kind.
func TestExplainOldHistory(t *testing.T) {
	f := three()
	for i := range 20 {
		isr := []int32{1, 2}
		if i%2 == 0 {
			isr = []int32{1, 2, 3}
		}
		f.apply("to and fro", f.changed("orders", 2, 1, isr...))
	}
	e := explained(t, f, 2)
	if !e.LeaderSince.OrBefore || e.LeaderSince.Offset != e.History[0].Offset || e.ISRSince.OrBefore || e.ISRSince.Offset != 24 {
		t.Errorf("leader since %+v, ISR since %+v", e.LeaderSince, e.ISRSince)
	}
}
