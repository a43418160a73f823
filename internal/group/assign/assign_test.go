package assign

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"chronik/internal/kafka"
)

func topicID(n int) (id kafka.TopicID) {
	id[14], id[15] = byte(n>>8), byte(n)
	return id
}

type owners map[kafka.TopicID]map[int32]string

// check demands what holds of every assignment, and returns who owns what.
func check(t *testing.T, in Input, out []Assignment) owners {
	t.Helper()
	if len(out) != len(in.Members) {
		t.Fatalf("%d assignments for %d members", len(out), len(in.Members))
	}
	count := map[kafka.TopicID]int{}
	for _, topic := range in.Topics {
		count[topic.ID] = topic.Partitions
	}
	own := owners{}
	for i, m := range in.Members {
		if !slices.IsSortedFunc(out[i], func(a, b TopicPartitions) int { return Compare(a.Topic, b.Topic) }) {
			t.Fatalf("topics of %s are not ascending", m.ID)
		}
		for _, row := range out[i] {
			if !slices.Contains(m.Topics, row.Topic) {
				t.Fatalf("%s got topic %v without subscribing to it", m.ID, row.Topic)
			}
			if len(row.Partitions) == 0 || !slices.IsSorted(row.Partitions) {
				t.Fatalf("%s: partitions %v of a topic", m.ID, row.Partitions)
			}
			if own[row.Topic] == nil {
				own[row.Topic] = map[int32]string{}
			}
			for _, p := range row.Partitions {
				if p < 0 || int(p) >= count[row.Topic] {
					t.Fatalf("%s got partition %d of %d", m.ID, p, count[row.Topic])
				}
				if other, twice := own[row.Topic][p]; twice {
					t.Fatalf("%v-%d belongs to %s and %s", row.Topic, p, other, m.ID)
				}
				own[row.Topic][p] = m.ID
			}
		}
	}
	for _, m := range in.Members {
		for _, id := range m.Topics {
			if len(own[id]) != count[id] {
				t.Fatalf("topic %v: %d partitions of %d have an owner", id, len(own[id]), count[id])
			}
		}
	}
	return own
}

// random makes a group; next changes it as time might.
func random(rng *rand.Rand, homogeneous, racks bool) Input {
	var in Input
	for i := range 1 + rng.IntN(6) {
		in.Topics = append(in.Topics, Topic{ID: topicID(i + 1), Partitions: 1 + rng.IntN(20)})
	}
	for i := range 1 + rng.IntN(9) {
		in.Members = append(in.Members, randomMember(rng, in, i, homogeneous, racks))
	}
	if racks {
		rerack(rng, &in)
	}
	return in
}

func rerack(rng *rand.Rand, in *Input) {
	names := []string{"x", "y", "z", "w"}
	for i := range in.Topics {
		in.Topics[i].Racks = nil
		for range in.Topics[i].Partitions {
			rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			in.Topics[i].Racks = append(in.Topics[i].Racks, slices.Clone(names[:rng.IntN(4)]))
		}
	}
}

func randomMember(rng *rand.Rand, in Input, number int, homogeneous, racks bool) Member {
	m := Member{ID: fmt.Sprintf("m%03d", number)}
	for _, topic := range in.Topics {
		if homogeneous || rng.IntN(2) == 0 {
			m.Topics = append(m.Topics, topic.ID)
		}
	}
	if rng.IntN(8) == 0 {
		m.Topics = append(m.Topics, topicID(999)) // does not exist
		if homogeneous {
			m.Topics = m.Topics[:len(m.Topics)-1]
		}
	}
	if racks && rng.IntN(5) > 0 {
		m.Rack = []string{"x", "y", "z", "elsewhere"}[rng.IntN(4)]
	}
	if rng.IntN(3) == 0 {
		instance := fmt.Sprintf("i%03d", rng.IntN(1000)*10+number)
		m.Instance = &instance
	}
	return m
}

func next(rng *rand.Rand, in Input, out []Assignment, homogeneous, racks bool) Input {
	in.Members, in.Topics = slices.Clone(in.Members), slices.Clone(in.Topics)
	for i := range in.Members {
		in.Members[i].Target = out[i]
	}
	switch rng.IntN(5) {
	case 0:
		if len(in.Members) > 1 {
			i := rng.IntN(len(in.Members))
			in.Members = slices.Delete(in.Members, i, i+1)
		}
	case 1:
		m := randomMember(rng, in, rng.IntN(1000), homogeneous, racks)
		if i, ok := slices.BinarySearchFunc(in.Members, m.ID, func(m Member, id string) int { return compareStrings(m.ID, id) }); !ok {
			in.Members = slices.Insert(in.Members, i, m)
		}
	case 2:
		in.Topics[rng.IntN(len(in.Topics))].Partitions += rng.IntN(5)
	case 3:
		if i := rng.IntN(len(in.Members)); !homogeneous {
			in.Members[i].Topics = randomMember(rng, in, 0, false, false).Topics
		}
	case 4:
		if racks {
			rerack(rng, &in)
		}
	}
	return in
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// TestHistories takes random groups through random changes.
func TestHistories(t *testing.T) {
	for seed := range uint64(1200) {
		rng := rand.New(rand.NewPCG(seed, 5))
		homogeneous, racks := seed%2 == 0, seed%3 == 0
		assignor := Assignor(Uniform{})
		if seed%5 == 4 {
			assignor = Range{}
		}
		in := random(rng, homogeneous, racks)
		for step := range 8 {
			before := fmt.Sprint(in)
			out := assignor.Assign(in)
			if fmt.Sprint(in) != before {
				t.Fatalf("seed %d: the input has changed", seed)
			}
			check(t, in, out)
			if again := assignor.Assign(in); !reflect.DeepEqual(out, again) {
				t.Fatalf("seed %d: equal inputs, different outputs", seed)
			}
			switch {
			case assignor.Name() == RangeName:
				checkShares(t, in, out)
			case homogeneous:
				checkBalance(t, in, out)
				if !racks {
					checkMoves(t, in, out)
				}
			}
			checkCalm(t, assignor, in, out)
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
			in = next(rng, in, out, homogeneous, racks)
		}
	}
}

func checkBalance(t *testing.T, in Input, out []Assignment) {
	t.Helper()
	least, most := out[0].Len(), out[0].Len()
	for _, a := range out {
		least, most = min(least, a.Len()), max(most, a.Len())
	}
	if most-least > 1 {
		t.Errorf("members own between %d and %d partitions", least, most)
	}
}

// checkShares is balance for range: of each topic.
func checkShares(t *testing.T, in Input, out []Assignment) {
	t.Helper()
	for _, topic := range in.Topics {
		least, most := topic.Partitions, 0
		for i, m := range in.Members {
			if slices.Contains(m.Topics, topic.ID) {
				least, most = min(least, len(out[i].Of(topic.ID))), max(most, len(out[i].Of(topic.ID)))
			}
		}
		if most-least > 1 {
			t.Errorf("subscribers own between %d and %d partitions of topic %v", least, most, topic.ID)
		}
	}
}

// kept counts the partitions that stay with their owner, and held those that had one who still wants them.
func kept(in Input, out []Assignment) (kept, held int, of []int) {
	of = make([]int, len(in.Members))
	for i, m := range in.Members {
		for _, row := range m.Target {
			if !slices.Contains(m.Topics, row.Topic) {
				continue
			}
			for _, p := range row.Partitions {
				held++
				of[i]++
				if out[i].Has(row.Topic, p) {
					kept++
				}
			}
		}
	}
	return kept, held, of
}

// checkMoves: nobody gives up more than balance demands.
func checkMoves(t *testing.T, in Input, out []Assignment) {
	t.Helper()
	total := 0
	for _, topic := range in.Topics {
		total += topic.Partitions
	}
	minimum, extra := total/len(in.Members), total%len(in.Members)
	got, _, of := kept(in, out)
	most, larger := 0, 0
	for _, n := range of {
		most += min(n, minimum)
		if n > minimum {
			larger++
		}
	}
	if most += min(larger, extra); got != most {
		t.Errorf("%d partitions stayed where they were, %d could have", got, most)
	}
}

// checkCalm: what is assigned stays if nothing changes.
func checkCalm(t *testing.T, assignor Assignor, in Input, out []Assignment) {
	t.Helper()
	in.Members = slices.Clone(in.Members)
	for i := range in.Members {
		in.Members[i].Target = out[i]
	}
	again := assignor.Assign(in)
	for i := range out {
		if !again[i].Equal(out[i]) {
			t.Errorf("%s: %v became %v though nothing had changed", in.Members[i].ID, out[i], again[i])
		}
	}
}

// TestHeterogeneousBalance: members of equal subscriptions share equally.
func TestHeterogeneousBalance(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 6))
		in := random(rng, false, false)
		if len(in.Topics) < 2 || len(in.Members) < 2 {
			continue
		}
		for i := range in.Members { // two sets of topics that do not overlap
			in.Members[i].Topics = []kafka.TopicID{in.Topics[i%2].ID}
		}
		for range 4 {
			out := Uniform{}.Assign(in)
			check(t, in, out)
			for half := range 2 {
				least, most := 1<<30, 0
				for i := half; i < len(out); i += 2 {
					least, most = min(least, out[i].Len()), max(most, out[i].Len())
				}
				if most-least > 1 {
					t.Fatalf("seed %d: equal members own between %d and %d", seed, least, most)
				}
			}
			for i := range in.Members {
				in.Members[i].Target = out[i]
			}
			in.Topics[rng.IntN(2)].Partitions += rng.IntN(9)
		}
	}
}

// locals counts the partitions in their owner's rack.
func locals(in Input, out []Assignment) int {
	n := 0
	for i, m := range in.Members {
		for _, topic := range in.Topics {
			for _, p := range out[i].Of(topic.ID) {
				if int(p) < len(topic.Racks) && slices.Contains(topic.Racks[p], m.Rack) {
					n++
				}
			}
		}
	}
	return n
}

// TestRacksAsManyAsPossible compares with the best of all balanced assignments, for groups that are small enough to try all.
func TestRacksAsManyAsPossible(t *testing.T) {
	exact, seeds := 0, 0
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 7))
		in := Input{Topics: []Topic{{ID: topicID(1), Partitions: 2 + rng.IntN(6)}}}
		for i := range 2 + rng.IntN(2) {
			in.Members = append(in.Members, Member{ID: fmt.Sprint("m", i), Rack: []string{"x", "y", "z"}[rng.IntN(3)], Topics: []kafka.TopicID{topicID(1)}})
		}
		rerack(rng, &in)
		for step := range 3 {
			out := Uniform{}.Assign(in)
			check(t, in, out)
			checkBalance(t, in, out)
			got, best := locals(in, out), bestLocals(in)
			seeds++
			if got == best {
				exact++
			} else if got < best-1 {
				t.Fatalf("seed %d, step %d: %d partitions are local, %d could be", seed, step, got, best)
			}
			for i := range in.Members {
				in.Members[i].Target = out[i]
			}
			rerack(rng, &in)
		}
	}
	if exact*100 < seeds*95 {
		t.Errorf("only %d of %d assignments are as local as they could be", exact, seeds)
	}
}

func bestLocals(in Input) int {
	topic, members := in.Topics[0], len(in.Members)
	count := make([]int, members)
	minimum := topic.Partitions / members
	best := 0
	var try func(p, local int)
	try = func(p, local int) {
		if p == topic.Partitions {
			if slices.Min(count) >= minimum && slices.Max(count)-slices.Min(count) <= 1 {
				best = max(best, local)
			}
			return
		}
		for m := range members {
			if count[m] > minimum {
				continue
			}
			count[m]++
			gain := 0
			if slices.Contains(topic.Racks[p], in.Members[m].Rack) {
				gain = 1
			}
			try(p+1, local+gain)
			count[m]--
		}
	}
	try(0, 0)
	return best
}

// TestCopartitioning: equal numbers of topics with equally many partitions, in ranges.
func TestCopartitioning(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 8))
		in := random(rng, true, seed%2 == 0)
		for i := range in.Topics {
			in.Topics[i].Partitions = in.Topics[0].Partitions
		}
		out := Range{}.Assign(in)
		check(t, in, out)
		for i := range out {
			for _, row := range out[i] {
				if !slices.Equal(row.Partitions, out[i][0].Partitions) || len(out[i]) != len(in.Topics) {
					t.Fatalf("seed %d: %v", seed, out[i])
				}
				if seed%2 == 1 && int(row.Partitions[len(row.Partitions)-1]-row.Partitions[0]) != len(row.Partitions)-1 {
					t.Fatalf("seed %d: %v is no range", seed, row.Partitions)
				}
			}
		}
	}
}

func large(members, topics, partitions int, racks, homogeneous bool) Input {
	var in Input
	names := []string{"x", "y", "z"}
	for i := range topics {
		topic := Topic{ID: topicID(i + 1), Partitions: partitions / topics}
		for p := range topic.Partitions {
			topic.Racks = append(topic.Racks, []string{names[p%3], names[(p+1)%3]})
		}
		in.Topics = append(in.Topics, topic)
	}
	for i := range members {
		m := Member{ID: fmt.Sprintf("m%04d", i)}
		if racks {
			m.Rack = names[i%3]
		}
		for j := range in.Topics {
			if homogeneous || (i+j)%3 > 0 {
				m.Topics = append(m.Topics, in.Topics[j].ID)
			}
		}
		in.Members = append(in.Members, m)
	}
	return in
}

// BenchmarkAssign: 10,000 partitions and 1,000 members; from nothing, and when a member joins.
func BenchmarkAssign(b *testing.B) {
	for _, assignor := range []Assignor{Uniform{}, Range{}} {
		for _, homogeneous := range []bool{true, false} {
			for _, racks := range []bool{false, true} {
				first := large(1000, 100, 10_000, racks, homogeneous)
				joined := large(1001, 100, 10_000, racks, homogeneous)
				for i, a := range assignor.Assign(first) {
					joined.Members[i].Target = a
				}
				name := fmt.Sprintf("%s/homogeneous=%v/racks=%v", assignor.Name(), homogeneous, racks)
				b.Run(name+"/first", func(b *testing.B) {
					for b.Loop() {
						assignor.Assign(first)
					}
				})
				b.Run(name+"/joined", func(b *testing.B) {
					for b.Loop() {
						assignor.Assign(joined)
					}
				})
			}
		}
	}
}
