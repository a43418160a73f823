package assign

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"chronik/internal/kafka"
)

// scenario is one case of a file: see testdata/uniform.txt.
type scenario struct {
	name  string
	in    Input
	names map[kafka.TopicID]string
	want  []string
}

func TestScenarios(t *testing.T) {
	for _, name := range []string{UniformName, RangeName} {
		file, err := os.ReadFile("testdata/" + name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range strings.Split(string(file), "case: ")[1:] {
			s := parse(t, text)
			t.Run(name+"/"+s.name, func(t *testing.T) {
				out := ByName(name).Assign(s.in)
				check(t, s.in, out)
				for i, m := range s.in.Members {
					if got := strings.TrimSpace(m.ID + " " + s.show(out[i])); got != s.want[i] {
						t.Errorf("got %s, want %s", got, s.want[i])
					}
				}
			})
		}
	}
	if ByName("sticky") != nil {
		t.Error("there is an assignor that nobody wrote")
	}
}

func parse(t *testing.T, text string) *scenario {
	t.Helper()
	lines := strings.Split(text, "\n")
	s := &scenario{name: lines[0], names: map[kafka.TopicID]string{}}
	for _, line := range lines[1:] {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || strings.HasPrefix(line, "#"):
		case words[0] == "topic":
			n, _ := strconv.Atoi(words[2])
			topic := Topic{ID: s.id(words[1]), Partitions: n}
			for _, racks := range words[min(len(words), 4):] {
				topic.Racks = append(topic.Racks, strings.Split(racks, ","))
			}
			s.in.Topics = append(s.in.Topics, topic)
		case words[0] == "member":
			s.in.Members = append(s.in.Members, s.member(words[1:]))
		case words[0] == "->":
			s.want = append(s.want, strings.Join(words[1:], " "))
		default:
			t.Fatalf("%s: what is %q?", s.name, line)
		}
	}
	if len(s.want) != len(s.in.Members) || len(s.want) == 0 {
		t.Fatalf("%s: %d members, %d expected", s.name, len(s.in.Members), len(s.want))
	}
	return s
}

func (s *scenario) id(name string) kafka.TopicID {
	id := topicID(int(name[0]))
	s.names[id] = name
	return id
}

func (s *scenario) member(words []string) Member {
	m := Member{ID: words[0]}
	for _, topic := range strings.Split(words[1], ",") {
		m.Topics = append(m.Topics, s.id(topic))
	}
	for _, w := range words[2:] {
		key, value, _ := strings.Cut(w, "=")
		switch {
		case w == "=":
		case key == "rack":
			m.Rack = value
		case key == "static":
			m.Instance = &value
		default:
			topic, list, _ := strings.Cut(w, ":")
			row := TopicPartitions{Topic: s.id(topic)}
			for _, p := range strings.Split(list, ",") {
				n, _ := strconv.Atoi(p)
				row.Partitions = append(row.Partitions, int32(n))
			}
			m.Target = append(m.Target, row)
		}
	}
	slices.SortFunc(m.Target, func(a, b TopicPartitions) int { return Compare(a.Topic, b.Topic) })
	return m
}

func (s *scenario) show(a Assignment) string {
	var words []string
	for _, row := range a {
		words = append(words, s.names[row.Topic]+":"+strings.ReplaceAll(strings.Trim(fmt.Sprint(row.Partitions), "[]"), " ", ","))
	}
	return strings.Join(words, " ")
}
