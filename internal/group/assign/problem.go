package assign

import (
	"slices"

	"chronik/internal/kafka"
)

// nobody owns a partition that has no owner yet.
const nobody = -1

// problem is an Input with numbers in place of names: members and racks by index, partitions numbered through all topics that
// somebody subscribes to.
type problem struct {
	in          Input
	topics      []topic
	partitions  int
	subscribed  [][]int32 // by member: indexes of topics, ascending; shared among equal subscriptions
	homogeneous bool
	owner       []int32 // by partition: the member that has it in the current target; nobody if it may not keep it
	racks       racks
}

// topic is one that somebody subscribes to.
type topic struct {
	*Topic
	first       int // number of its partition 0
	subscribers []int32
}

func newProblem(in Input) *problem {
	p := &problem{in: in, homogeneous: true}
	p.subscriptions()
	for i := range p.topics {
		p.topics[i].first = p.partitions
		p.partitions += p.topics[i].Partitions
	}
	p.current()
	p.racks = newRacks(p)
	return p
}

// subscriptions finds the topics that count.
func (p *problem) subscriptions() {
	index := make([]int32, len(p.in.Topics)) // in p.topics; nobody while no member wants it
	for i := range index {
		index[i] = nobody
	}
	p.subscribed = make([][]int32, len(p.in.Members))
	for m := range p.in.Members {
		if m > 0 && same(p.in.Members[m].Topics, p.in.Members[m-1].Topics) {
			p.subscribed[m] = p.subscribed[m-1]
			continue
		}
		p.homogeneous = p.homogeneous && m == 0
		var rows []int32
		for _, id := range p.in.Members[m].Topics {
			if i, ok := slices.BinarySearchFunc(p.in.Topics, id, func(t Topic, id kafka.TopicID) int { return Compare(t.ID, id) }); ok {
				rows = append(rows, int32(i))
				index[i] = 0
			}
		}
		p.subscribed[m] = rows
	}
	for i := range index {
		if index[i] != nobody {
			index[i] = int32(len(p.topics))
			p.topics = append(p.topics, topic{Topic: &p.in.Topics[i]})
		}
	}
	for m := range p.subscribed {
		if m > 0 && len(p.subscribed[m]) > 0 && len(p.subscribed[m]) == len(p.subscribed[m-1]) && &p.subscribed[m][0] == &p.subscribed[m-1][0] {
			p.subscribe(m)
			continue // shared, and renumbered already
		}
		for i, t := range p.subscribed[m] {
			p.subscribed[m][i] = index[t]
		}
		p.subscribe(m)
	}
}

func (p *problem) subscribe(m int) {
	for _, t := range p.subscribed[m] {
		p.topics[t].subscribers = append(p.topics[t].subscribers, int32(m))
	}
}

func same(a, b []kafka.TopicID) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// current fills in the owners of the current target assignment.
func (p *problem) current() {
	p.owner = make([]int32, p.partitions)
	for i := range p.owner {
		p.owner[i] = nobody
	}
	for m := range p.in.Members {
		for _, row := range p.in.Members[m].Target {
			t := p.topic(m, row.Topic)
			if t == nil {
				continue
			}
			for _, n := range row.Partitions {
				if n >= 0 && int(n) < t.Partitions && p.owner[t.first+int(n)] == nobody {
					p.owner[t.first+int(n)] = int32(m)
				}
			}
		}
	}
}

// topic finds one that the member subscribes to.
func (p *problem) topic(m int, id kafka.TopicID) *topic {
	rows := p.subscribed[m]
	i, ok := slices.BinarySearchFunc(rows, id, func(t int32, id kafka.TopicID) int { return Compare(p.topics[t].ID, id) })
	if !ok {
		return nil
	}
	return &p.topics[rows[i]]
}

// assignments makes the answer of an owner for every partition. A member that keeps what it had gets the same slices again.
func (p *problem) assignments(owner []int32) []Assignment {
	count := make([]int, len(p.in.Members))
	for _, m := range owner {
		if m != nobody {
			count[m]++
		}
	}
	numbers := make([][]int32, len(count)) // partitions of each member, back to back
	for m := range numbers {
		numbers[m] = make([]int32, 0, count[m])
	}
	out := make([]Assignment, len(count))
	begin := make([]int, len(count))
	for t := range p.topics {
		row := &p.topics[t]
		for n := range row.Partitions {
			if m := owner[row.first+n]; m != nobody {
				numbers[m] = append(numbers[m], int32(n))
			}
		}
		for _, m := range row.subscribers {
			if end := len(numbers[m]); end > begin[m] {
				out[m] = append(out[m], TopicPartitions{Topic: row.ID, Partitions: numbers[m][begin[m]:end:end]})
				begin[m] = end
			}
		}
	}
	for m := range out {
		if out[m].Equal(p.in.Members[m].Target) {
			out[m] = p.in.Members[m].Target
		}
	}
	return out
}
