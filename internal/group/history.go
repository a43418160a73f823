package group

import "time"

// historyMax is how many rebalances of a group are remembered, and historyGroups of how many groups; for people, who ask
// why a group rebalanced. They are not in the log: a new coordinator begins anew.
const (
	historyMax    = 16
	historyGroups = 4096
)

// Rebalance is one beginning of a classic generation or of a consumer group's epoch, and who caused it.
type Rebalance struct {
	Time   time.Time
	Epoch  int32         // the generation or group epoch that it led to; of a classic group that still gathers, the one before
	Cause  string        // such as "member joined", "session expired"
	Member string        // whose doing it was; "" if nobody's
	Client string        // the member's client ID and host
	Reason string        // what the client said itself (KIP-800), or details such as the topic
	Took   time.Duration // until the group was stable again; 0 while it is not
}

// histories are the last rebalances by group.
type histories map[string][]Rebalance

// caused notes why a group rebalances. Causes that come together while one rebalance is under way are all kept.
func (m *Machine) caused(group string, r Rebalance) {
	rows, known := m.history[group]
	if !known && len(m.history) >= historyGroups {
		return // more than anybody will ask about
	}
	if len(rows) >= historyMax {
		rows = append(rows[:0:0], rows[1:]...)
	}
	m.history[group] = append(rows, r)
}

// settled notes that a group is stable again, in the epoch, at the time. It took as long as its first cause is old.
func (m *Machine) settled(group string, epoch int32, now time.Time) {
	rows := m.history[group]
	var took time.Duration
	for i := len(rows) - 1; i >= 0 && rows[i].Took == 0; i-- {
		took = max(now.Sub(rows[i].Time), time.Nanosecond)
		rows[i].Epoch, rows[i].Took = epoch, took
	}
	if took > 0 && m.rebalances != nil {
		m.rebalances.add(took)
	}
}

// History are the last rebalances of a group, oldest first.
func (m *Machine) History(group string) []Rebalance {
	return append([]Rebalance(nil), m.history[group]...)
}
