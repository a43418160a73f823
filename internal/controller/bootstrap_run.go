package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"chronik/internal/clock"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
	"chronik/internal/peer"
)

// bootstrap is one Bootstrap under way. Its fields below inbox belong to the goroutine of Bootstrap; others post to the inbox.
type bootstrap struct {
	o       BootstrapOptions
	self    metadata.Voter
	list    string // the voters as configured
	voter   bool   // this node is one
	lowest  bool   // of them
	targets []target
	journal Options
	inbox   *inbox
	over    chan struct{} // closed when nothing is answered any more
	calls   sync.WaitGroup
	calling context.Context // of all questions

	mustJoin bool                        // an earlier process of this node was joining
	asked    map[kafka.BrokerID][16]byte // the process that asked last
	lowestAt [16]byte                    // the directory that answered last at the lowest voter's address
	// challenge is the last one that was given out, and bound the directory that it was given to. Only a Form of that
	// directory with that challenge is accepted.
	challenge []byte
	bound     [16]byte
	formation *pb.ClusterFormed // once it is durable here

	forming bool // this node, the lowest, waits for the others to confirm

	round   round
	backoff time.Duration
	timer   clock.Timer
	waiting string // as the log says it
	logged  time.Time
	since   time.Time // it waits
	result  *Start
	err     error
}

// round is one round of questions to all targets.
type round struct {
	number  int
	answers []said // by target
	open    int
}

// said is what became of one question.
type said struct {
	from   peer.Identity
	answer *pb.HelloAnswer
	err    error
}

// run asks until it is known where this node belongs.
func (b *bootstrap) run(ctx context.Context) (Start, error) {
	calling, cancel := context.WithCancel(ctx)
	b.calling = calling
	defer b.calls.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, b.inbox.close)
	defer stop()
	b.timer = b.o.Clock.AfterFunc(0, func() { b.inbox.post(func() { b.ask(calling) }) })
	defer func() { b.timer.Stop() }()
	for {
		events, open := b.inbox.take(nil)
		if !open {
			return Start{}, fmt.Errorf("the cluster was not found: %s: %w", b.waitingFor(), ctx.Err())
		}
		for _, event := range events {
			event()
			if b.err != nil {
				return Start{}, b.err
			}
			if b.result != nil {
				return *b.result, nil
			}
		}
	}
}

// end makes the handlers answer that this node is starting.
func (b *bootstrap) end() {
	close(b.over)
	b.inbox.close()
}

// inside runs f in Bootstrap's goroutine and returns what it returns; otherwise if it did not come to that.
func inside[T any](ctx context.Context, b *bootstrap, f func() T, otherwise T) T {
	result := make(chan T, 1)
	if !b.inbox.post(func() { result <- f() }) {
		return otherwise
	}
	select {
	case value := <-result:
		return value
	case <-b.over:
	case <-ctx.Done():
	}
	select { // what happened is told, also where it was the last thing
	case value := <-result:
		return value
	default:
		return otherwise
	}
}

// ask begins a round.
func (b *bootstrap) ask(ctx context.Context) {
	if b.round.open > 0 || b.forming || ctx.Err() != nil {
		return
	}
	b.round = round{number: b.round.number + 1, answers: make([]said, len(b.targets)), open: len(b.targets)}
	number := b.round.number
	body, err := proto.Marshal(&pb.Hello{Voters: b.list})
	if err != nil {
		b.err = err
		return
	}
	for i, t := range b.targets {
		b.calls.Go(func() {
			within, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			said := b.hello(within, t, body)
			b.inbox.post(func() { b.answered(ctx, number, i, said) })
		})
	}
}

// hello asks one target.
func (b *bootstrap) hello(ctx context.Context, t target, body []byte) said {
	from, data, err := b.o.Links.o.Peers.CallAddress(ctx, t.address, peer.Hello, body)
	if err != nil {
		return said{err: err}
	}
	if t.id != kafka.NoLeader && from.Broker != t.id {
		return said{err: fmt.Errorf("the node there is broker %d", from.Broker)}
	}
	answer := &pb.HelloAnswer{}
	if err := proto.Unmarshal(data, answer); err != nil {
		return said{err: fmt.Errorf("its answer cannot be read: %w", err)}
	}
	return said{from: from, answer: answer}
}

func (b *bootstrap) answered(ctx context.Context, number, i int, s said) {
	if number != b.round.number {
		return
	}
	b.round.answers[i] = s
	if s.err == nil && len(b.o.Voters) > 0 && s.from.Broker == b.o.Voters[0].ID && b.targets[i].id == s.from.Broker {
		b.lowestAt = s.from.Directory
	}
	if b.round.open--; b.round.open == 0 {
		b.conclude(ctx)
	}
}

// conclude is the decision after a round.
func (b *bootstrap) conclude(ctx context.Context) {
	if b.formation != nil || b.result != nil {
		return
	}
	var member *pb.HelloAnswer
	for _, s := range b.round.answers {
		if s.answer.GetState() != pb.HelloAnswer_MEMBER {
			continue
		}
		if member != nil && member.GetClusterId() != s.answer.GetClusterId() {
			b.err = fmt.Errorf("the nodes that this one is told to join belong to two clusters, %s and %s: cluster.voters or cluster.join names a wrong one",
				member.GetClusterId(), s.answer.GetClusterId())
			return
		}
		if member == nil {
			member = s.answer
		}
	}
	switch {
	case member != nil:
		b.found(member)
	case b.lowest && !b.mustJoin && b.obstacle() == "":
		b.form(ctx)
		return
	default:
		b.wait()
	}
	if b.result == nil && b.err == nil {
		b.again(ctx)
	}
}

// again begins another round after a while that grows.
func (b *bootstrap) again(ctx context.Context) {
	b.backoff = min(max(2*b.backoff, roundMin), roundMax)
	b.arm(ctx, b.backoff)
}

// soon begins another round shortly, because there is news.
func (b *bootstrap) soon(ctx context.Context) {
	if b.backoff = 0; b.round.open == 0 {
		b.arm(ctx, roundSoon)
	}
}

func (b *bootstrap) arm(ctx context.Context, wait time.Duration) {
	b.timer.Stop()
	b.timer = b.o.Clock.AfterFunc(wait, func() { b.inbox.post(func() { b.ask(ctx) }) })
}

// found a member: this node takes its place as a voter, or joins.
func (b *bootstrap) found(member *pb.HelloAnswer) {
	formation, err := metadata.VotersOf(member.GetFormation().GetVoters())
	if err == nil && !b.mustJoin && b.listed(formation) {
		var current []metadata.Voter
		if current, err = metadata.VotersOf(member.GetCurrent()); err == nil && b.listed(current) {
			b.o.Logger.Info("this node is one of those who formed the cluster; it takes its place", "cluster", member.GetClusterId())
			b.write(member.GetFormation(), Start{})
			return
		}
	}
	members, memberErr := metadata.VotersOf(member.GetMembers())
	if err = firstError(err, memberErr); err != nil || len(members) == 0 {
		b.o.Logger.Warn("a member's answer cannot be used", "cluster", member.GetClusterId(), "error", err)
		return
	}
	b.o.Logger.Info("this node joins the cluster", "cluster", member.GetClusterId(), "members", len(members))
	addresses, broker := map[kafka.BrokerID]string{}, map[uint64]kafka.BrokerID{}
	for _, m := range members {
		addresses[m.ID], broker[RaftID(m.Directory)] = m.Address, m.ID
	}
	b.o.Links.o.Peers.SetClusterID(member.GetClusterId())
	b.o.Links.route(addresses, broker)
	b.result = &Start{join: true, clusterID: member.GetClusterId()}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// listed tells whether the voters name this node with this very data directory.
func (b *bootstrap) listed(voters []metadata.Voter) bool {
	return slices.ContainsFunc(voters, func(v metadata.Voter) bool { return v.ID == b.self.ID && v.Directory == b.self.Directory })
}

// write makes the formation durable, then the cluster's ID; the node belongs to the cluster from there on.
func (b *bootstrap) write(formation *pb.ClusterFormed, start Start) {
	voters, err := metadata.VotersOf(formation.GetVoters())
	if err == nil {
		err = writeFormation(&b.journal, formation.GetClusterId(), voters)
	}
	if err == nil {
		b.formation = formation
		err = b.belong(formation.GetClusterId())
	}
	if err != nil {
		b.err = err
		return
	}
	b.result = &start
}

// belong notes the cluster's ID, durably, and tells the peers.
func (b *bootstrap) belong(clusterID string) error {
	if b.o.SetClusterID != nil {
		if err := b.o.SetClusterID(clusterID); err != nil {
			return err
		}
	}
	b.o.Links.o.Peers.SetClusterID(clusterID)
	return nil
}

// wait says whom this node waits for, once and then now and then.
func (b *bootstrap) wait() {
	text := b.waitingFor()
	now := b.o.Clock.Now()
	if text == b.waiting && now.Sub(b.logged) < waitingLog {
		return
	}
	if b.since.IsZero() {
		b.since = now
	}
	b.waiting, b.logged = text, now
	level := slog.LevelInfo // nodes that are started together wait for one another, and that is nothing to worry about
	if now.Sub(b.since) >= waitingWarn {
		level = slog.LevelWarn
	}
	b.o.Logger.Log(context.Background(), level, "not part of a cluster yet: "+text)
}

func (b *bootstrap) waitingFor() string {
	if text := b.obstacle(); text != "" {
		return text
	}
	if b.lowest {
		return "the others have not all confirmed the cluster yet"
	}
	if b.mustJoin || !b.voter {
		return "no member of the cluster answers yet"
	}
	return fmt.Sprintf("waiting for broker %d to form it", b.o.Voters[0].ID)
}

// obstacle is what keeps the lowest voter from forming the cluster; "" if nothing does.
func (b *bootstrap) obstacle() string {
	var missing []string
	for i, s := range b.round.answers {
		t := b.targets[i]
		if t.id == kafka.NoLeader && b.voter {
			continue // an address to join by is not asked for its leave
		}
		switch {
		case s.err != nil:
			missing = append(missing, fmt.Sprintf("waiting for %s (%v)", t, s.err))
		case s.answer == nil:
			missing = append(missing, fmt.Sprintf("waiting for %s", t))
		case s.answer.GetState() != pb.HelloAnswer_EMPTY:
			missing = append(missing, fmt.Sprintf("waiting for %s, which is starting", t))
		case s.answer.GetVoters() != b.list:
			missing = append(missing, fmt.Sprintf("%s has another cluster.voters, %q instead of %q", t, s.answer.GetVoters(), b.list))
		case b.lowest && len(s.answer.GetChallenge()) == 0:
			missing = append(missing, fmt.Sprintf("%s is not ready: %s", t, s.answer.GetReason()))
		}
	}
	if len(b.round.answers) == 0 {
		return "nobody was asked yet"
	}
	return strings.Join(missing, "; ")
}
