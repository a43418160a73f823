package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// life drives liveness and decide together from a data file. Time is given with each command as at=, counted from the start, and
// stands still otherwise. What liveness asks for is decided and applied at once, unless the command says hold: then it is on its
// way until commit.
//
// The commands are those of world, and: options, elected [previous= heard=], deposed, tick [late=], beat broker= [ready] [applied=]
// [shutdown] [sync=] [damaged=] [inc=] [epoch=], answer broker= (what its last heartbeat would be told), lost broker= inc=, back
// broker= inc=, commit, status, leased.
type life struct {
	world
	v     liveness
	start time.Time
	now   time.Time
	held  []any
	beats map[kafka.BrokerID]metadata.Heartbeat
	// committed is the applied image while something is held.
	committed *metadata.Image
}

func TestLiveness(t *testing.T) {
	datadriven.Walk(t, "testdata/liveness", func(t *testing.T, path string) {
		start := time.Unix(1_700_000_000, 0).UTC()
		l := &life{start: start, now: start, beats: map[kafka.BrokerID]metadata.Heartbeat{}}
		l.s = state{image: metadata.Empty(), defaults: Defaults{Partitions: 1}, limits: Limits{PartitionsPerRequest: 10_000, Partitions: 200_000}}
		l.v.proofs = map[kafka.BrokerID]proof{}
		l.v.o.setDefaults(100 * time.Millisecond)
		datadriven.RunTest(t, path, l.run)
	})
}

func duration(t *testing.T, d *datadriven.TestData, name string) (value time.Duration, given bool) {
	var text string
	if !d.MaybeScanArgs(t, name, &text) {
		return 0, false
	}
	value, err := time.ParseDuration(text)
	if err != nil {
		d.Fatalf(t, "%v", err)
	}
	return value, true
}

func (l *life) run(t *testing.T, d *datadriven.TestData) string {
	if at, given := duration(t, d, "at"); given {
		if l.start.Add(at).Before(l.now) {
			d.Fatalf(t, "time goes backwards")
		}
		l.now = l.start.Add(at)
	}
	var broker, incarnation int
	d.MaybeScanArgs(t, "broker", &broker)
	d.MaybeScanArgs(t, "inc", &incarnation)
	id, inc := kafka.BrokerID(broker), [16]byte{byte(incarnation)}
	switch d.Cmd {
	case "options":
		l.v.o.Balance = d.HasArg("balance")
		if lease, given := duration(t, d, "lease"); given {
			l.v.o.Lease = lease
		}
		return ""
	case "elected":
		previous, heard := kafka.NoLeader, time.Time{}
		if d.MaybeScanArgs(t, "previous", &broker) {
			previous = kafka.BrokerID(broker)
		}
		if at, given := duration(t, d, "heard"); given {
			heard = l.start.Add(at)
		}
		l.v.elected(l.now, l.s.image, previous, heard)
		return ""
	case "deposed":
		l.v.deposed()
		return ""
	case "tick":
		late, _ := duration(t, d, "late")
		return l.decided(t, d, l.v.tick(l.now, l.s.image, late))
	case "lost":
		return l.decided(t, d, l.v.lost(l.now, l.s.image, id, inc, "the connection closed and the redial was refused"))
	case "back":
		l.v.back(id, inc)
		return ""
	case "beat":
		return l.beat(t, d, id)
	case "answer":
		return l.answer(id)
	case "commit":
		held := l.held
		l.held, l.committed = nil, nil
		return l.commit(held)
	case "status":
		return l.status()
	}
	l.s.damaged, l.s.leased = l.v.damaged(), l.v.leased(l.now)
	return l.world.run(t, d)
}

func (l *life) beat(t *testing.T, d *datadriven.TestData, id kafka.BrokerID) string {
	hb := metadata.Heartbeat{Broker: id, Epoch: -1, Applied: l.s.image.Offset(), Ready: !d.HasArg("starting"), ShuttingDown: d.HasArg("shutdown"),
		Damaged: partitions(t, d, "damaged")}
	if b := l.s.image.Broker(id); b != nil {
		hb.Epoch, hb.Incarnation = b.Epoch, b.Incarnation
	}
	var n int
	if d.MaybeScanArgs(t, "epoch", &n) {
		hb.Epoch = kafka.BrokerEpoch(n)
	}
	if d.MaybeScanArgs(t, "inc", &n) {
		hb.Incarnation = [16]byte{byte(n)}
	}
	if d.MaybeScanArgs(t, "applied", &n) {
		hb.Applied = metadata.Offset(n)
	}
	hb.SyncAge, _ = duration(t, d, "sync")
	commands, err := l.v.beat(l.now, l.s.image, hb)
	if err != nil {
		return err.Error() + "\n"
	}
	l.beats[id] = hb
	return l.decided(t, d, commands)
}

// decided has the commands decided, as the loop does.
func (l *life) decided(t *testing.T, d *datadriven.TestData, commands []any) string {
	var out strings.Builder
	if d.HasArg("hold") {
		l.held, l.committed = commands, l.s.image
		for _, c := range commands {
			fmt.Fprintf(&out, "on its way: %s\n", c.(brokerState).reason)
		}
	} else {
		out.WriteString(l.commit(commands))
	}
	l.check(t, d)
	if out.Len() == 0 {
		return "nothing\n"
	}
	return out.String()
}

func (l *life) commit(commands []any) string {
	var out strings.Builder
	for _, c := range commands {
		l.s.damaged, l.s.leased = l.v.damaged(), l.v.leased(l.now)
		dec, err := decide(l.s, c)
		if err != nil {
			fmt.Fprintln(&out, err)
		} else if len(dec.records) > 0 {
			l.s.image, _ = l.s.image.Apply(l.s.image.Offset()+1, &pb.Entry{TimeMs: l.now.UnixMilli(), Records: dec.records})
		}
		for _, line := range recordLines(dec.records) {
			fmt.Fprintln(&out, line)
		}
		switch c := c.(type) {
		case brokerState:
			l.v.done(c, len(dec.records) > 0, l.s.image.Offset(), err)
		case balanceLeaders:
			l.v.rebalanced(l.now, len(dec.records), err)
		case widenTopics:
			l.v.widened(l.now)
		}
	}
	return out.String()
}

func (l *life) answer(id kafka.BrokerID) string {
	applied := l.s.image
	if l.committed != nil {
		applied = l.committed
	}
	a, err := l.v.answer(applied, l.s.image, l.beats[id])
	if err != nil {
		return err.Error() + "\n"
	}
	return fmt.Sprintf("fenced=%v may-shut-down=%v lease=%v offset=%d\n", a.Fenced, a.MayShutDown, a.Lease, a.Offset)
}

func (l *life) status() string {
	var out strings.Builder
	for _, s := range l.v.statuses(l.now, l.s.image) {
		fmt.Fprintf(&out, "%d silence=%v fenced=%v shutting-down=%v slow=%v since=%v ready=%v sync=%v damaged=%d # %s\n", s.ID, s.Silence, s.Fenced,
			s.InControlledShutdown, s.Slow, s.Since.Sub(l.start), s.Ready, s.SyncAge, len(s.Damaged), s.Reason)
	}
	return out.String()
}

// TestHeartbeatsOfTenThousandPartitions: what a step costs with many partitions is bounded, and a heartbeat costs nothing.
func TestHeartbeatsOfTenThousandPartitions(t *testing.T) {
	s := state{image: metadata.Empty(), limits: Limits{PartitionsPerRequest: 10_000, Partitions: 200_000}}
	run := func(command any) {
		t.Helper()
		d, err := decide(s, command)
		if err != nil {
			t.Fatal(err)
		}
		s.image, _ = s.image.Apply(s.image.Offset()+1, &pb.Entry{Records: d.records})
	}
	for id := range kafka.BrokerID(3) {
		run(metadata.RegisterBroker{ID: id + 1, Incarnation: [16]byte{1}, Directory: [16]byte{byte(id + 1)}})
		run(fenceBroker{id: id + 1})
	}
	d, err := decide(s, createTopics{topics: []metadata.CreateTopic{{Name: "many", ID: topicID(1), Partitions: 10_000, ReplicationFactor: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	s.image, _ = s.image.Apply(s.image.Offset()+1, &pb.Entry{Records: d.records})
	v := liveness{proofs: map[kafka.BrokerID]proof{}}
	v.o.setDefaults(tickInterval)
	now := time.Unix(0, 0)
	v.elected(now, s.image, kafka.NoLeader, time.Time{})
	timed := func(what string, f func()) {
		began := time.Now()
		f()
		t.Logf("%s: %v", what, time.Since(began))
	}
	hb := metadata.Heartbeat{Broker: 1, Epoch: s.image.Broker(1).Epoch, Incarnation: [16]byte{1}, Ready: true, Applied: s.image.Offset()}
	if n := testing.AllocsPerRun(100, func() { _, _ = v.beat(now, s.image, hb) }); n > 2 {
		t.Errorf("a heartbeat costs %v allocations", n)
	}
	timed("fence", func() { run(brokerState{id: 1, epoch: anyEpoch, fenced: set}) })
	timed("unfence", func() { run(brokerState{id: 1, epoch: anyEpoch, fenced: unset}) })
	timed("shutdown that moves nothing", func() { run(brokerState{id: 1, epoch: anyEpoch, shuttingDown: set}) })
	d, err = decide(s, balanceLeaders{settled: []kafka.BrokerID{1, 2, 3}, max: balanceMax})
	if err != nil || len(d.records) != 0 {
		t.Fatalf("broker 1 is in no ISR and cannot lead: %d records, %v", len(d.records), err)
	}
	if p := s.image.Topic("many").Partitions.At(0); p.Leader == 1 || p.Leader == kafka.NoLeader {
		t.Fatalf("%+v", p)
	}
	if _, err := v.beat(now, s.image, metadata.Heartbeat{Broker: 7}); !errors.Is(err, kafka.ErrBrokerIDNotRegistered) {
		t.Fatal(err)
	}
}
