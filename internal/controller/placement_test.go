package controller

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// placed is a state with brokers, the rack of each by index, and some fenced.
func placed(racks []string, fenced ...int) state {
	img := metadata.Empty()
	for i, rack := range racks {
		img, _ = img.Apply(img.Offset()+1, &pb.Entry{Records: []*pb.Record{{Kind: &pb.Record_BrokerRegistered{
			BrokerRegistered: metadata.BrokerMessage(&metadata.Broker{ID: kafka.BrokerID(i), Rack: rack, Fenced: slices.Contains(fenced, i)})}}}})
	}
	return state{image: img, limits: Limits{PartitionsPerRequest: 10_000, Partitions: 200_000}}
}

func even(n, racks int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint("rack", i%racks))
	}
	return names
}

func spread(counts map[kafka.BrokerID]int, ids []kafka.BrokerID) (least, most int) {
	least = 1 << 30
	for _, id := range ids {
		least, most = min(least, counts[id]), max(most, counts[id])
	}
	return least, most
}

func TestPlacementSpreads(t *testing.T) {
	for _, c := range []struct{ brokers, racks, rf, partitions int }{
		{1, 1, 1, 100}, {3, 1, 3, 300}, {3, 3, 3, 300}, {5, 1, 3, 500}, {6, 3, 3, 600}, {6, 2, 3, 600}, {9, 3, 2, 900}, {12, 4, 3, 1200}, {100, 10, 3, 10_000},
	} {
		s := placed(even(c.brokers, c.racks))
		assignment, err := s.place(kafka.NewTopicID(), 0, c.partitions, c.rf)
		if err != nil {
			t.Fatal(err)
		}
		leaders, replicas := map[kafka.BrokerID]int{}, map[kafka.BrokerID]int{}
		followersOf := map[kafka.BrokerID]map[kafka.BrokerID]bool{}
		for p, r := range assignment {
			if len(r) != c.rf {
				t.Fatalf("%+v: partition %d has %d replicas", c, p, len(r))
			}
			racks := map[string]int{}
			for _, id := range r {
				replicas[id]++
				racks[s.image.Broker(id).Rack]++
			}
			if len(slices.Compact(slices.Sorted(slices.Values(r)))) != c.rf {
				t.Fatalf("%+v: partition %d is twice on a broker: %v", c, p, r)
			}
			if want := min(c.racks, c.rf); len(racks) != want {
				t.Fatalf("%+v: partition %d spans %d racks, not %d: %v", c, p, len(racks), want, r)
			}
			leaders[r[0]]++
			if followersOf[r[0]] == nil {
				followersOf[r[0]] = map[kafka.BrokerID]bool{}
			}
			for _, id := range r[1:] {
				followersOf[r[0]][id] = true
			}
		}
		ids := slices.Sorted(maps.Keys(replicas))
		if len(ids) != c.brokers {
			t.Errorf("%+v: only %d brokers are used", c, len(ids))
		}
		if least, most := spread(leaders, ids); most-least > 1 {
			t.Errorf("%+v: brokers lead %d to %d partitions", c, least, most)
		}
		if least, most := spread(replicas, ids); float64(most) > 1.15*float64(least)+2 {
			t.Errorf("%+v: brokers hold %d to %d replicas", c, least, most)
		}
		if c.racks == 1 && c.rf > 1 {
			for leader, followers := range followersOf {
				if len(followers) != c.brokers-1 {
					t.Errorf("%+v: the partitions of broker %d have followers on %d brokers only", c, leader, len(followers))
				}
			}
		}
	}
}

// TestPlacementSpreadsTopics: many topics of one partition spread as well.
func TestPlacementSpreadsTopics(t *testing.T) {
	s := placed(even(5, 1))
	leaders := map[kafka.BrokerID]int{}
	for range 2000 {
		assignment, err := s.place(kafka.NewTopicID(), 0, 1, 3)
		if err != nil {
			t.Fatal(err)
		}
		leaders[assignment[0][0]]++
	}
	if least, most := spread(leaders, []kafka.BrokerID{0, 1, 2, 3, 4}); least < 300 || most > 500 {
		t.Fatalf("2,000 topics are led %d to %d by each of five brokers", least, most)
	}
}

// TestPlacementAvoidsFenced: fenced brokers lead nothing, and hold replicas only where the live ones do not suffice.
func TestPlacementAvoidsFenced(t *testing.T) {
	s := placed(even(5, 1), 1, 3)
	for _, rf := range []int{1, 2, 3, 4, 5} {
		assignment, err := s.place(kafka.NewTopicID(), 0, 100, rf)
		if err != nil {
			t.Fatal(err)
		}
		for p, r := range assignment {
			fenced := 0
			for i, id := range r {
				if !s.live(id) {
					fenced++
					if i < min(rf, 3) {
						t.Fatalf("rf %d, partition %d: the fenced broker %d comes before live ones: %v", rf, p, id, r)
					}
				}
			}
			if want := max(0, rf-3); fenced != want {
				t.Fatalf("rf %d, partition %d: %d fenced replicas: %v", rf, p, fenced, r)
			}
		}
	}
	if _, err := placed(even(2, 1), 0, 1).place(kafka.NewTopicID(), 0, 1, 1); kafka.CodeOf(err) != kafka.ErrInvalidReplicationFactor.Code {
		t.Fatalf("placed on fenced brokers only: %v", err)
	}
}

// TestPlacementContinues: partitions that are added later go on where the topic ended.
func TestPlacementContinues(t *testing.T) {
	s := placed(even(7, 3))
	id := kafka.NewTopicID()
	all, _ := s.place(id, 0, 50, 3)
	more, _ := s.place(id, 20, 30, 3)
	if fmt.Sprint(all[20:]) != fmt.Sprint(more) {
		t.Fatal("added partitions are placed unlike those of a new topic")
	}
}
