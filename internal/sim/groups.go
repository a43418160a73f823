package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"chronik/internal/kafka"
)

// groups are the consumer groups of a run: members that join, consume what the producers write, commit, crash, pause, are
// replaced, leave and come back; and the log of their coordinators.
type groups struct {
	*workload
	all     []*groupHistory
	members []*member
	log     *coordinatorLog
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	calm    chan struct{} // closed when members do no more than members have to
	topicID kafka.TopicID // of what they consume
}

// startGroups makes the topic of the coordinators and lets the members loose.
func (w *workload) startGroups() *groups {
	g := &groups{workload: w, calm: make(chan struct{})}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if !g.createOffsets() {
		return g
	}
	g.topicID = g.nodes[0].image().Topic(topic).ID
	g.log = newCoordinatorLog(g)
	rng := rand.New(rand.NewPCG(w.plan.seed, 0x67726f7570))
	for i, kind := range w.plan.groups {
		h := newGroupHistory(w.cluster, fmt.Sprintf("group-%d", i+1), kind)
		g.all = append(g.all, h)
		for range 2 + rng.IntN(2) {
			m := &member{groups: g, group: h, number: len(g.members) + 1, rng: rand.New(rand.NewPCG(w.plan.seed, uint64(len(g.members))+7000))}
			if rng.IntN(3) == 0 {
				m.instance = fmt.Sprintf("instance-%d", m.number)
			}
			g.members = append(g.members, m)
		}
	}
	g.running.Go(func() { g.log.follow(g.ctx) })
	for _, m := range g.members {
		g.running.Go(m.live)
	}
	return g
}

// membersMax is how many members the groups of a run have at most.
const membersMax = 9

func memberIP(number int) string { return fmt.Sprintf("10.0.2.%d", number) }

// clientIPs are the machines of clients that faults of the network befall.
func clientIPs() []string {
	var ips []string
	for i := range clientsMax {
		ips = append(ips, clientIP(i+1))
	}
	for i := range membersMax {
		ips = append(ips, memberIP(i+1))
	}
	return ips
}

func (g *groups) createOffsets() bool {
	c := newCaller(g.cluster, g.net.Host(clientIP(clientsMax)).Boot(), "first")
	defer c.close()
	var err error
	for range 20 {
		if _, err = c.coordinator(1, "group-1"); err == nil {
			return true
		}
		time.Sleep(500 * time.Millisecond)
	}
	g.fail("invariant 23: no coordinator: %v", err)
	return false
}

// settleLimit is how long groups may take, once everything healed and nothing more is produced, until each partition has one
// owner, and all is consumed and committed (16, 17).
const settleLimit = time.Minute

// settle waits for that, and ends the members.
func (g *groups) settle() {
	defer g.running.Wait()
	defer g.cancel()
	if len(g.all) == 0 {
		return
	}
	ends := g.ends(topic, g.plan.partitions)
	if ends == nil {
		return
	}
	for _, h := range g.all {
		began := time.Now()
		for {
			why := g.unsettled(h, ends)
			if why == "" {
				g.trace.note("group %s has settled after %v", h.name, time.Since(began))
				break
			}
			if time.Since(began) > settleLimit {
				g.fail("invariant 16: %v after everything healed, group %s: %s", settleLimit, h.name, why)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		for p, end := range ends {
			if at := h.missed(int32(p), end); at >= 0 {
				g.fail("invariant 17: no member of group %s was given offset %d of %s-%d, which ends at %d", h.name, at, topic, p, end)
			}
		}
	}
	g.log.catchUp()
}

// check looks at the whole history, once members and reader have ended.
func (g *groups) check() {
	if g.log == nil || g.log.reader == nil {
		return
	}
	for _, h := range g.all {
		g.log.compare(h)
	}
	g.log.checkFold()
}

// ends are the ends of a topic's partitions.
func (g *groups) ends(topic string, partitions int) []int64 {
	client, err := g.client()
	if err != nil {
		g.fail("ends: %v", err)
		return nil
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	listed, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		g.fail("invariant 23: the ends of %s cannot be listed: %v", topic, err)
		return nil
	}
	ends := make([]int64, partitions)
	for p := range ends {
		if o, ok := listed.Lookup(topic, int32(p)); ok {
			ends[p] = o.Offset
		}
	}
	return ends
}

// unsettled tells what a group still lacks.
func (g *groups) unsettled(h *groupHistory, ends []int64) string {
	owners := make([]string, len(ends))
	others, byRegex := map[place]string{}, false
	epochs := map[int32]bool{}
	for _, m := range g.members {
		if m.group != h {
			continue
		}
		s := m.state()
		if !s.joined {
			return fmt.Sprintf("member %d has not joined", m.number)
		}
		epochs[s.epoch] = true
		byRegex = byRegex || s.byRegex
		for _, o := range s.others {
			if others[o] != "" {
				return fmt.Sprintf("%s has the owners %s and %s", o, others[o], s.name)
			}
			others[o] = s.name
		}
		for i, p := range s.owned {
			if owners[p] != "" {
				return fmt.Sprintf("%s-%d has the owners %s and %s", topic, p, owners[p], s.name)
			}
			owners[p] = s.name
			if s.committed[i] != ends[p] {
				return fmt.Sprintf("%s has committed offset %d of %s-%d, which ends at %d", s.name, s.committed[i], topic, p, ends[p])
			}
		}
	}
	if slices.Contains(owners, "") {
		return fmt.Sprintf("the owners of the partitions of %s are %s", topic, strings.Join(owners, ", "))
	}
	if len(epochs) > 1 {
		return fmt.Sprintf("its members are in %d generations", len(epochs))
	}
	return g.unsettledOthers(others, byRegex)
}

// unsettledOthers compares who has what of the topics of the regular expression with what there is.
func (g *groups) unsettledOthers(owners map[place]string, wanted bool) string {
	there := 0
	for t := range g.nodes[0].image().Topics() {
		if !wanted || !strings.HasPrefix(t.Name, extraPrefix) {
			continue
		}
		for p := range int32(t.Partitions.Len()) {
			if there++; owners[place{t.ID, p}] == "" {
				return fmt.Sprintf("partition %d of %s, which matches %s, has no owner", p, t.Name, topicPattern)
			}
		}
	}
	if there != len(owners) {
		return fmt.Sprintf("of the topics that match %s, which have %d partitions, its members have %v", topicPattern, there, owners)
	}
	return ""
}
