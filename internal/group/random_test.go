package group

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/coordinator"
	"chronik/internal/kafka"
)

// client is a well-behaved member on a bad network: it may go silent, lose answers and come back.
type client struct {
	name       string
	instance   *string
	memberID   string
	generation int32
	assignment string // "" while it owns nothing
	join       *JoinPromise
	sync       *SyncPromise
	silent     bool
	protocols  []string
}

// world is a machine, its log, and clients.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	m       *Machine
	timers  *coordinator.Timers
	now     time.Time
	ids     int
	log     []coordinator.Record
	clients []*client
	owners  map[int32]map[string]string // generation -> assignment -> client
}

func (w *world) fresh() {
	limits := Limits{
		MinSessionTimeout: time.Second, MaxSessionTimeout: time.Hour, MaxSize: 100, InitialRebalanceDelay: time.Second,
		OffsetMetadataMax: 100, RecordMaxBytes: 1 << 20,
	}
	w.timers = coordinator.NewTimers()
	w.m = New(func() Limits { return limits }, func() string { w.ids++; return strconv.Itoa(w.ids) }, slog.New(slog.DiscardHandler))
}

func (w *world) do(op func(tx *coordinator.Tx)) {
	tx := coordinator.NewTx(w.now, w.timers)
	op(tx)
	w.log = append(w.log, tx.Take()...)
}

// restart is a failover: what waits is told, the log is replayed.
func (w *world) restart() {
	before := w.m
	before.Unloaded(kafka.ErrNotCoordinator)
	w.fresh()
	for i, rec := range w.log {
		if err := w.m.Replay(coordinator.Replayed{Record: rec, Offset: kafka.Offset(i)}); err != nil {
			w.t.Fatal(err)
		}
	}
	if got, want := fmt.Sprint(w.m.Fetch("g", nil)), fmt.Sprint(before.Fetch("g", nil)); got != want {
		w.t.Fatalf("offsets after the replay: %s, before: %s", got, want)
	}
	if b := before.groups["g"]; b != nil && b.state == Stable {
		a := w.m.groups["g"]
		a.stateSince = b.stateSince // the record is from before the group became stable
		if got, want := printRecord(groupRecord(a)), printRecord(groupRecord(b)); got != want || a.state != Stable {
			w.t.Fatalf("group after the replay: %v %s, before: %s", a.state, got, want)
		}
	}
	w.do(w.m.Loaded)
}

func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for next, ok := w.timers.Next(); ok && !next.After(end); next, ok = w.timers.Next() {
		w.now = next
		w.do(w.timers.Due(w.now))
	}
	w.now = end
}

// step lets one client do what it would do next.
func (w *world) step(c *client) {
	switch {
	case c.join != nil && c.join.Done():
		w.joined(c)
	case c.sync != nil && c.sync.Done():
		w.synced(c)
	case c.join != nil || c.sync != nil:
	case c.generation == 0:
		w.sendJoin(c)
	default:
		w.beat(c)
	}
}

func (w *world) sendJoin(c *client) {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version, r.Group, r.MemberID, r.InstanceID, r.ProtocolType = 9, "g", c.memberID, c.instance, "consumer"
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis = 10_000, 20_000
	for _, name := range c.protocols {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = name, subscription([]string{"t"})
		r.Protocols = append(r.Protocols, p)
	}
	req := &JoinRequest{JoinGroupRequest: r, ClientID: c.name, ClientHost: "/h"}
	req.Prepare()
	c.join = coordinator.NewPromise[*kmsg.JoinGroupResponse]()
	w.do(func(tx *coordinator.Tx) { w.m.Join(tx, req, c.join) })
}

func (w *world) joined(c *client) {
	resp, err := c.join.Wait(context.Background())
	c.join = nil
	switch {
	case err != nil:
	case resp.ErrorCode == kafka.ErrMemberIDRequired.Code:
		c.memberID = resp.MemberID
	case resp.ErrorCode == kafka.ErrRebalanceInProgress.Code:
	case resp.ErrorCode != 0:
		c.memberID = ""
	default:
		c.memberID, c.generation = resp.MemberID, resp.Generation
		s := kmsg.NewPtrSyncGroupRequest()
		s.Version, s.Group, s.MemberID, s.InstanceID, s.Generation = 5, "g", c.memberID, c.instance, c.generation
		s.ProtocolType, s.Protocol = resp.ProtocolType, resp.Protocol
		if resp.LeaderID == c.memberID && !resp.SkipAssignment {
			for i, m := range resp.Members {
				a := kmsg.NewSyncGroupRequestGroupAssignment()
				a.MemberID, a.MemberAssignment = m.MemberID, fmt.Appendf(nil, "part %d", i)
				s.GroupAssignment = append(s.GroupAssignment, a)
			}
		}
		req := &SyncRequest{SyncGroupRequest: s}
		req.Prepare()
		c.sync = coordinator.NewPromise[*kmsg.SyncGroupResponse]()
		w.do(func(tx *coordinator.Tx) { w.m.Sync(tx, req, c.sync) })
	}
}

func (w *world) synced(c *client) {
	resp, err := c.sync.Wait(context.Background())
	c.sync = nil
	if err != nil || resp.ErrorCode != 0 {
		c.drop(err == nil && resp.ErrorCode == kafka.ErrRebalanceInProgress.Code)
		return
	}
	c.assignment = string(resp.MemberAssignment)
	if c.assignment == "" {
		return
	}
	owners := w.owners[c.generation]
	if owners == nil {
		owners = map[string]string{}
		w.owners[c.generation] = owners
	}
	// A static member that is replaced hands its assignment on; the members here keep their names.
	if o, taken := owners[c.assignment]; taken && o != c.name {
		w.t.Fatalf("generation %d: %s belongs to %s and to %s", c.generation, c.assignment, o, c.name)
	}
	owners[c.assignment] = c.name
}

// drop gives up the generation; keep the member ID where the coordinator still knows it.
func (c *client) drop(keep bool) {
	c.generation, c.assignment = 0, ""
	if !keep {
		c.memberID = ""
	}
}

func (w *world) beat(c *client) {
	hb := kmsg.NewPtrHeartbeatRequest()
	hb.Group, hb.MemberID, hb.InstanceID, hb.Generation = "g", c.memberID, c.instance, c.generation
	w.do(func(tx *coordinator.Tx) {
		err := w.m.Heartbeat(tx, hb)
		switch kafka.CodeOf(err) {
		case 0:
			r := &Commit{
				Group: "g", Version: 9, Generation: c.generation, MemberID: c.memberID, InstanceID: c.instance, RetentionMillis: -1,
				Topics: []CommitTopic{{Name: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{
					{Partition: int32(w.rnd.IntN(3)), Offset: w.rnd.Int64N(1000)},
				}}},
			}
			if _, err := w.m.Commit(tx, r); err != nil && c.assignment != "" {
				w.t.Fatalf("%s could not commit in a generation that its heartbeat is good for: %v", c.name, err)
			}
		case kafka.ErrRebalanceInProgress.Code:
			c.drop(true)
		default:
			c.drop(false)
		}
	})
}

func (w *world) leave(c *client) {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Version, r.Group = 5, "g"
	row := kmsg.NewLeaveGroupRequestMember()
	row.MemberID, row.InstanceID = c.memberID, c.instance
	r.Members = append(r.Members, row)
	w.do(func(tx *coordinator.Tx) { _, _ = w.m.Leave(tx, r) })
	c.forget(true)
}

// forget loses all that is on the way to or from a client, as a lost connection does; a process that starts anew also
// forgets who it was.
func (c *client) forget(anew bool) {
	c.join, c.sync = nil, nil
	if anew {
		c.drop(false)
	} else if c.assignment == "" {
		c.drop(true)
	}
}

// Random histories with failovers, silence, lost answers and changing protocols: no partition has two owners in one
// generation, replay gives what was there, and once all is well the group converges.
func TestRandomHistories(t *testing.T) {
	stable := 0
	for seed := range uint64(150) {
		w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), now: time.UnixMilli(1_000_000), owners: map[int32]map[string]string{}}
		w.fresh()
		for i := range 2 + w.rnd.IntN(4) {
			c := &client{name: fmt.Sprint("client", i), protocols: []string{"range", "sticky"}}
			if w.rnd.IntN(3) == 0 {
				c.instance = kmsg.StringPtr(fmt.Sprint("i", i))
			}
			w.clients = append(w.clients, c)
		}
		for range 400 {
			c := w.clients[w.rnd.IntN(len(w.clients))]
			switch w.rnd.IntN(40) {
			case 0:
				w.restart()
			case 1:
				c.silent = true
			case 2:
				c.forget(w.rnd.IntN(2) == 0)
			case 3:
				w.leave(c)
			case 4:
				c.protocols = slices.Clone(c.protocols)
				slices.Reverse(c.protocols)
			case 5, 6, 7, 8:
				w.advance(time.Duration(w.rnd.IntN(9000)) * time.Millisecond)
			case 9:
				c.silent = false
			default:
				if !c.silent {
					w.step(c)
				}
			}
		}
		// Heal: everybody takes part, nothing is lost.
		for _, c := range w.clients {
			c.silent = false
		}
		for range 200 {
			for _, c := range w.clients {
				w.step(c)
			}
			w.advance(time.Second)
		}
		stable += w.converged(seed)
		w.restart()
	}
	if stable != 150 {
		t.Errorf("%d of 150 groups are stable in the end", stable)
	}
}

func (w *world) converged(seed uint64) int {
	g := w.m.groups["g"]
	if g == nil || g.state != Stable || len(g.members) != len(w.clients) {
		w.t.Errorf("seed %d: %+v", seed, g)
		return 0
	}
	owned := map[string]bool{}
	for _, c := range w.clients {
		if c.generation != g.generation || owned[c.assignment] || c.assignment == "" {
			w.t.Errorf("seed %d: %s is in generation %d with %q, the group in %d; owned: %v", seed, c.name, c.generation,
				c.assignment, g.generation, slices.Sorted(maps.Keys(owned)))
			return 0
		}
		owned[c.assignment] = true
	}
	return 1
}

func FuzzReplay(f *testing.F) {
	g := newClassic("g", 1)
	g.protocolType = consumerProtocol
	p := "range"
	g.protocol = &p
	g.add(&member{id: "m", instance: &p, protocolType: consumerProtocol, protocols: []protocol{{"range", subscription([]string{"t"})}}})
	for _, rec := range []coordinator.Record{
		groupRecord(g), emptyGroupRecord(g), groupTombstone("g"), offsetTombstone("g", "t", 1),
		offsetRecord("g", "t", &committed{partition: 1, offset: 7, expireTime: -1}), offsetRecord("g", "t", &committed{partition: 1, offset: 7, expireTime: 5}),
	} {
		f.Add(rec.Key, rec.Value)
	}
	cg := newConsumerGroup("g")
	cm := &consumerMember{id: "m", topics: []string{"t"}, assigned: held{{kafka.TopicID{1}, []int32{1}, []int32{2}}}, classic: &classicMember{protocols: g.members[0].protocols}}
	for _, rec := range []coordinator.Record{
		epochRecord(cg), memberRecord("g", cm), targetEpochRecord(cg), targetRecord("g", "m", cm.assigned.assignment()), positionRecord("g", cm),
		regexRecord("g", "r", resolvedRegex{topics: []string{"t"}}), epochTombstone("g"), memberTombstone("g", "m"), positionTombstone("g", "m"),
	} {
		f.Add(rec.Key, rec.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		m := New(func() Limits { return Limits{MaxSize: 10} }, func() string { return "" }, slog.New(slog.DiscardHandler))
		for range 2 {
			if err := m.Replay(coordinator.Replayed{Record: coordinator.Record{Key: key, Value: value}}); err != nil {
				return
			}
		}
		m.Loaded(coordinator.NewTx(time.UnixMilli(0), coordinator.NewTimers()))
		for id, g := range m.groups {
			if len(g.members) != len(g.byID) {
				t.Fatalf("group %s: %d members, %d IDs", id, len(g.members), len(g.byID))
			}
			_ = m.Describe(id, 6)
		}
		for id, g := range m.consumers {
			if len(g.order) != len(g.members) {
				t.Fatalf("group %s: %d members, order %v", id, len(g.members), g.order)
			}
			_ = m.ConsumerDescribe(id)
			for _, mb := range g.members {
				if err := m.Replay(coordinator.Replayed{Record: positionRecord(id, mb)}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
