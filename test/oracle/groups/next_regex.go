package groups

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

// nextRegex: Apache Kafka resolves patterns aside, so that only what comes in the end is compared.
func (s *side) nextRegex() {
	const g = "nextregex"
	nothing := subscribing()
	s.beat(1, g, "a", 0, nothing, matching("t|u"))
	s.Without("MemberEpoch", "Assignment")
	a := &settling{id: "a", epoch: s.last, have: s.names(s.assigned)}
	s.settle(g, []string{"t-0 t-1 u-0 u-1"}, a)
	s.beat(1, g, "b", 0, subscribing("t"), matching("u.*"))
	s.Without("MemberEpoch", "Assignment")
	b := &settling{id: "b", epoch: s.last, have: s.names(s.assigned)}
	s.settle(g, []string{"t-0 u-0", "t-1 u-1"}, a, b)
	s.beat(1, g, "b", -1)
	s.settle(g, []string{"t-0 t-1 u-0 u-1"}, a)
	s.beat(1, g, "a", -1)
}

// settling is a member that does what it is told.
type settling struct {
	id    string
	epoch int32
	have  []string
}

// settle sends heartbeats that are not compared until the members have what is wanted.
func (s *side) settle(group string, want []string, members ...*settling) {
	said := len(s.Said)
	defer func() { s.Said = append(s.Said[:said], pair.Answer{What: "settled " + group, Body: fmt.Sprint(want)}) }()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var have []string
		for _, m := range members {
			if _, next := s.beat(1, group, m.id, m.epoch, s.owning(m.have...)); next > 0 {
				m.epoch = next
			}
			if s.assigned != nil {
				m.have = s.names(s.assigned)
			}
			have = append(have, strings.Join(m.have, " "))
		}
		if fmt.Sprint(have) == fmt.Sprint(want) {
			return
		}
	}
	s.T.Errorf("%s: %s does not settle at %q", s.Name, group, want)
}

// names are the partitions of an assignment, in order.
func (s *side) names(a *kmsg.ConsumerGroupHeartbeatResponseAssignment) []string {
	var names []string
	if a == nil {
		return nil
	}
	for _, topic := range []string{"t", "u"} {
		for _, row := range a.Topics {
			slices.Sort(row.Partitions)
			for _, p := range row.Partitions {
				if row.TopicID == s.Topics[topic] {
					names = append(names, fmt.Sprint(topic, "-", p))
				}
			}
		}
	}
	return names
}
