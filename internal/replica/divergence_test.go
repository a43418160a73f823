package replica

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"chronik/internal/kafka"
	"chronik/internal/log"
)

// modelLog is a log as divergence sees it: the leader epoch of each record.
type modelLog struct {
	start  kafka.Offset
	epochs []kafka.LeaderEpoch // of the record at each offset, also below start
	leads  kafka.LeaderEpoch   // the epoch that its owner leads in, which may have no record; NoLeaderEpoch for a follower
}

func (l modelLog) end() kafka.Offset { return kafka.Offset(len(l.epochs)) }

func (l modelLog) history() (h []log.EpochOffset) {
	for o, e := range l.epochs {
		if len(h) == 0 || h[len(h)-1].Epoch != e {
			h = append(h, log.EpochOffset{Epoch: e, Offset: kafka.Offset(o)})
		}
	}
	if l.leads != kafka.NoLeaderEpoch && !slices.Contains(l.epochs, l.leads) {
		h = append(h, log.EpochOffset{Epoch: l.leads, Offset: l.end()})
	}
	for len(h) > 1 && h[1].Offset <= l.start {
		h = h[1:]
	}
	return h
}

func (l modelLog) endOf(e kafka.LeaderEpoch) EpochEnd {
	found := log.EndOfEpoch(l.history(), e, l.start, l.end())
	return EpochEnd{found.Epoch, found.Offset}
}

// knows tells whether the record at an offset is known to be of an epoch.
func (l modelLog) knows(o kafka.Offset, e kafka.LeaderEpoch) bool {
	h := l.history()
	i := len(h) - 1
	for i >= 0 && h[i].Offset > o {
		i--
	}
	return i >= 0 && h[i].Epoch == e
}

// drawTail goes on with a log in some of the epochs, ascending.
func drawTail(t *rapid.T, label string, l []kafka.LeaderEpoch, epochs []kafka.LeaderEpoch) []kafka.LeaderEpoch {
	l = slices.Clone(l)
	for _, e := range epochs {
		for range rapid.IntRange(0, 4).Draw(t, label) {
			l = append(l, e)
		}
	}
	return l
}

// TestDivergence draws two logs that have a beginning in common, which is where everything committed lies, and went
// different ways from there: each in epochs of its own, but for the last common one, which one of them may have gone on
// in. Whatever they are, the follower ends with exactly the common part, and has never less.
func TestDivergence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		common := drawTail(t, "common", nil, []kafka.LeaderEpoch{0, 1, 2, 3})
		var leaders, followers []kafka.LeaderEpoch
		if len(common) > 0 {
			last := common[len(common)-1]
			if rapid.Bool().Draw(t, "the leader goes on in the last common epoch") {
				leaders = append(leaders, last)
			} else {
				followers = append(followers, last)
			}
		}
		for e := kafka.LeaderEpoch(4); e < 12; e++ {
			switch rapid.IntRange(0, 2).Draw(t, "whose epoch") {
			case 0:
				leaders = append(leaders, e)
			case 1:
				followers = append(followers, e)
			}
		}
		leader := modelLog{leads: 12, epochs: drawTail(t, "leader", common, append(leaders, 12))}
		follower := modelLog{leads: kafka.NoLeaderEpoch, epochs: drawTail(t, "follower", common, followers)}
		prefix := kafka.Offset(0)
		for prefix < min(leader.end(), follower.end()) && leader.epochs[prefix] == follower.epochs[prefix] {
			prefix++
		}
		leader.start = kafka.Offset(rapid.IntRange(0, len(common)).Draw(t, "log start")) // below what is committed
		follower.start = kafka.Offset(rapid.IntRange(0, int(leader.start)).Draw(t, "follower's log start"))
		member := rapid.Bool().Draw(t, "in sync")
		for step := 0; ; step++ {
			r := FollowRequest{LogEnd: follower.end(), LastEpoch: kafka.NoLeaderEpoch}
			if follower.end() > follower.start {
				r.LastEpoch = follower.epochs[follower.end()-1]
			}
			found := leader.endOf(r.LastEpoch)
			same := member || leader.knows(r.LogEnd-1, r.LastEpoch)
			switch action := compareLogs(r, leader.start, leader.end(), found, same); action {
			case FollowStream:
				if follower.end() != min(prefix, follower.end()) || follower.end() < prefix {
					t.Fatalf("streams from %d, the logs are the same up to %d", follower.end(), prefix)
				}
				return
			case FollowReset:
				if follower.end() > leader.start {
					t.Fatalf("resets what goes to %d, the leader's log starts at %d", follower.end(), leader.start)
				}
				return
			case FollowTruncate:
				cut := cutFor(follower.endOf(found.Epoch), found, follower.end())
				if cut < prefix || cut >= follower.end() {
					t.Fatalf("cuts to %d by %+v, the logs are the same up to %d, and the follower's ends at %d", cut, found, prefix, follower.end())
				}
				follower.epochs = follower.epochs[:cut]
			default:
				t.Fatalf("action %d for %+v, the leader says %+v", action, r, found)
			}
			if step > 20 {
				t.Fatal("it never ends")
			}
		}
	})
}
