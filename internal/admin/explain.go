package admin

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Explanation is the answer of GET /v1/explain/TOPIC/PARTITION: why a partition is as it is, and what it waits for. All
// but Live comes from the metadata, whose history of a partition survives compaction.
type Explanation struct {
	Topic   string          `json:"topic"`
	TopicID string          `json:"topic_id"`
	Node    kafka.BrokerID  `json:"node"`            // who answers
	Offset  metadata.Offset `json:"metadata_offset"` // applied by who answers
	PartitionView
	MinInsync   int          `json:"min_insync_replicas"`
	LeaderSince *ChangeView  `json:"leader_since"` // the change that made this leader lead in this epoch
	ISRSince    *ChangeView  `json:"isr_since"`    // the change that made this in-sync set
	OutOfSync   []Absent     `json:"out_of_sync"`
	WaitsFor    []string     `json:"waits_for"` // sentences; empty if the partition lacks nothing
	History     []ChangeView `json:"history"`   // oldest first
	Live        *LiveView    `json:"live"`      // of who answers; null if it holds no replica
}

// ChangeView is one change of a partition.
type ChangeView struct {
	Offset      metadata.Offset   `json:"metadata_offset"` // of the event that caused it
	Time        time.Time         `json:"time"`
	Cause       string            `json:"cause"`
	Leader      kafka.BrokerID    `json:"leader"`
	LeaderEpoch kafka.LeaderEpoch `json:"leader_epoch"`
	ISR         []kafka.BrokerID  `json:"isr"`
	// OrBefore tells that the history does not reach back to the change itself: it was at this one or earlier.
	OrBefore bool `json:"or_before,omitempty"`
}

// Absent is a replica that is not in the in-sync set, and why.
type Absent struct {
	Broker   kafka.BrokerID `json:"broker"`
	Eligible bool           `json:"eligible"` // it may lead all the same (KIP-966)
	Why      string         `json:"why"`
}

// LiveView is what the node that answers knows of the partition itself.
type LiveView struct {
	Role          string            `json:"role"` // leader or follower
	LeaderEpoch   kafka.LeaderEpoch `json:"leader_epoch"`
	LogStart      kafka.Offset      `json:"log_start"`
	LogEnd        kafka.Offset      `json:"log_end"`
	Durable       kafka.Offset      `json:"durable_end"`
	HighWatermark kafka.Offset      `json:"high_watermark"`
	Damaged       int               `json:"damaged_ranges"` // offsets that are not as they were written, and not served
	Lease         bool              `json:"lease"`
	Proposed      []kafka.BrokerID  `json:"proposed_isr,omitempty"`
	Followers     []FollowerView    `json:"followers,omitempty"`
}

// FollowerView is what a leader knows of another replica.
type FollowerView struct {
	Broker    kafka.BrokerID `json:"broker"`
	Connected bool           `json:"connected"`   // it follows in the leader's epoch
	Since     time.Time      `json:"since"`       // it does, or does not
	Durable   kafka.Offset   `json:"durable_end"` // -1 for nothing yet
	Lag       int64          `json:"lag"`         // records; -1 if it has said nothing yet
	Lagging   string         `json:"lagging"`     // why it does not count as caught up; "" if it does
}

// explain is pure, but for the live view.
func explain(c Cluster, img *metadata.Image, t *metadata.Topic, p *metadata.Partition) Explanation {
	e := Explanation{
		Topic: t.Name, TopicID: t.ID.String(), Node: c.Self(), Offset: img.Offset(), PartitionView: partitionView(p),
		MinInsync: img.MinInsyncReplicas(t, len(p.Replicas)), OutOfSync: []Absent{}, WaitsFor: []string{}, History: []ChangeView{},
	}
	for _, h := range p.History {
		e.History = append(e.History, changeView(h))
	}
	e.LeaderSince = since(e.History, func(a, b ChangeView) bool { return a.Leader == b.Leader && a.LeaderEpoch == b.LeaderEpoch })
	e.ISRSince = since(e.History, func(a, b ChangeView) bool { return slices.Equal(a.ISR, b.ISR) })
	replica, held := c.Replica(t.TopicPartition(p.Index))
	if held {
		e.Live = liveView(replica)
	}
	x := explainer{img: img, p: p, minInsync: e.MinInsync, live: e.Live, replica: replica}
	for _, id := range p.Replicas {
		if !slices.Contains(p.ISR, id) {
			e.OutOfSync = append(e.OutOfSync, Absent{id, slices.Contains(p.ELR, id), x.whyAbsent(id)})
		}
	}
	e.WaitsFor = append(e.WaitsFor, x.waits()...)
	if q := c.Quorum(); q.Controller == kafka.NoLeader {
		e.WaitsFor = append(e.WaitsFor, fmt.Sprintf("node %d knows of no controller: until there is one no leader and no in-sync set changes; it needs %d of the voters %s",
			c.Self(), len(q.Voters)/2+1, brokers(q.Voters)))
	}
	return e
}

func changeView(h metadata.Change) ChangeView {
	return ChangeView{Offset: h.Offset, Time: h.Time, Cause: h.Reason, Leader: h.Leader, LeaderEpoch: h.LeaderEpoch, ISR: orEmpty(h.ISR)}
}

// since is the first of the last changes that are all the same.
func since(history []ChangeView, same func(a, b ChangeView) bool) *ChangeView {
	if len(history) == 0 {
		return nil
	}
	i := len(history) - 1
	for i > 0 && same(history[i-1], history[i]) {
		i--
	}
	c := history[i]
	// The first change of all is the creation, in epoch 0: what is older than the history has other epochs.
	c.OrBefore = i == 0 && c.LeaderEpoch > 0
	return &c
}

func liveView(r Replica) *LiveView {
	v := &LiveView{
		Role: "follower", LeaderEpoch: r.LeaderEpoch, LogStart: r.LogStart, LogEnd: r.LogEnd, Durable: r.Durable, HighWatermark: r.HighWatermark,
		Damaged: r.Damaged, Lease: r.Lease, Proposed: r.Proposed,
	}
	if r.Leads {
		v.Role = "leader"
	}
	for _, f := range r.Followers {
		lag := int64(-1)
		if f.Durable >= 0 {
			lag = max(0, int64(r.LogEnd-f.Durable))
		}
		v.Followers = append(v.Followers, FollowerView{f.Broker, f.Connected, f.Since, f.Durable, lag, f.Lagging})
	}
	return v
}

// explainer says in sentences what the views hold.
type explainer struct {
	img       *metadata.Image
	p         *metadata.Partition
	minInsync int
	live      *LiveView
	replica   Replica
}

// broker tells a broker's state: "broker 2 is fenced since 12:00:01 (its lease is over)".
func (x *explainer) broker(id kafka.BrokerID) (sentence string, up bool) {
	b := x.img.Broker(id)
	if b == nil {
		return fmt.Sprintf("broker %d is not registered", id), false
	}
	if !b.Fenced {
		return fmt.Sprintf("broker %d is live", id), true
	}
	why := ""
	if b.Reason != "" {
		why = " (" + b.Reason + ")"
	}
	return fmt.Sprintf("broker %d is fenced since %s%s", id, b.Since.UTC().Format(time.RFC3339), why), false
}

func (x *explainer) whyAbsent(id kafka.BrokerID) string {
	sentence, up := x.broker(id)
	if !up {
		return sentence
	}
	if x.live == nil || x.live.Role != "leader" {
		return sentence + "; whether it follows, its leader knows"
	}
	for _, f := range x.live.Followers {
		if f.Broker != id {
			continue
		}
		switch {
		case !f.Connected:
			return fmt.Sprintf("%s, but does not follow the leader since %s", sentence, f.Since.UTC().Format(time.RFC3339))
		case f.Durable < 0:
			return sentence + " and follows the leader, but has acknowledged nothing yet"
		case f.Lag > 0:
			return fmt.Sprintf("%s and follows, %d records behind", sentence, f.Lag)
		}
		return sentence + " and has caught up; the leader asks the controller to take it in"
	}
	return sentence + ", but the leader knows nothing of it"
}

func (x *explainer) waits() []string {
	var w []string
	add := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	p := x.p
	if p.Leader == kafka.NoLeader {
		candidates := slices.Concat(p.ISR, p.ELR)
		if len(candidates) == 0 {
			add("no leader: no replica is known to hold everything that was acknowledged; if the data of another replica will do, chronik cluster elect --unclean")
		} else {
			add("no leader: it waits for one of %s, which hold everything that was acknowledged: %s", brokers(candidates), x.states(candidates))
		}
	}
	if missing := x.minInsync - len(p.ISR); missing > 0 {
		add("acks=all is refused with NOT_ENOUGH_REPLICAS, and nothing new becomes visible: %d in sync of the %d that min.insync.replicas asks for; %s",
			len(p.ISR), x.minInsync, x.states(without(p.Replicas, p.ISR)))
	} else if len(p.ISR) < len(p.Replicas) {
		add("the in-sync set is not whole: %s", x.states(without(p.Replicas, p.ISR)))
	}
	if preferred := p.Replicas; len(preferred) > 0 && p.Leader != kafka.NoLeader && p.Leader != preferred[0] {
		sentence, up := x.broker(preferred[0])
		switch {
		case up && slices.Contains(p.ISR, preferred[0]):
			add("its preferred leader %d is in sync again: it gets the partition back at the next check (auto.leader.rebalance.enable), or by chronik cluster elect", preferred[0])
		case !up:
			add("its preferred leader is another: %s", sentence)
		}
	}
	if x.live != nil && x.live.Damaged > 0 {
		add("%d ranges of offsets on this node are damaged and not served (its log names them); another replica replaces this one's copy, if there is another", x.live.Damaged)
	}
	if x.live != nil && x.live.Role == "leader" {
		w = append(w, x.leaderWaits()...)
	}
	return w
}

// leaderWaits is what only the leader knows.
func (x *explainer) leaderWaits() []string {
	var w []string
	l := x.live
	if len(l.Proposed) > 0 {
		w = append(w, fmt.Sprintf("the controller has not decided on the in-sync set %s that the leader asked for (%s)", brokers(l.Proposed), x.replica.ProposedWhy))
	}
	if !l.Lease {
		w = append(w, "reads and acks=1 wait: the controller has not answered the leader's heartbeats for longer than its lease (broker.lease.ms)")
	}
	if l.HighWatermark >= l.LogEnd {
		return w
	}
	var behind []string
	if l.Durable < l.LogEnd {
		behind = append(behind, fmt.Sprintf("the leader's own disk (at %d)", l.Durable))
	}
	for _, f := range l.Followers {
		if slices.Contains(x.p.ISR, f.Broker) && f.Durable < l.LogEnd {
			behind = append(behind, fmt.Sprintf("broker %d (at %d)", f.Broker, f.Durable))
		}
	}
	if len(behind) == 0 {
		behind = []string{"the in-sync set to be large enough"}
	}
	return append(w, fmt.Sprintf("records %d to %d are not committed yet: they wait for %s", l.HighWatermark, l.LogEnd-1, strings.Join(behind, ", ")))
}

func (x *explainer) states(ids []kafka.BrokerID) string {
	var s []string
	for _, id := range ids {
		sentence, _ := x.broker(id)
		s = append(s, sentence)
	}
	return strings.Join(s, ", ")
}

func without(all, some []kafka.BrokerID) []kafka.BrokerID {
	return slices.DeleteFunc(slices.Clone(all), func(id kafka.BrokerID) bool { return slices.Contains(some, id) })
}

// brokers prints IDs: "1, 2 and 3".
func brokers(ids []kafka.BrokerID) string {
	s := make([]string, len(ids))
	for i, id := range ids {
		s[i] = fmt.Sprint(id)
	}
	if len(s) > 1 {
		return strings.Join(s[:len(s)-1], ", ") + " and " + s[len(s)-1]
	}
	return strings.Join(s, "")
}
