package controller

import (
	"slices"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// balanceLeaders gives leadership back to preferred replicas, the first of each partition, that are in sync and have been live
// for a while.
type balanceLeaders struct {
	settled []kafka.BrokerID // that have been live for a while
	max     int              // partitions to change
}

// balanceLeaders answers with how many partitions it changes; max of them means that there may be more.
func (s state) balanceLeaders(c balanceLeaders) decision {
	var d decision
	for topic := range s.image.Topics() {
		for p := range topic.Partitions.All() {
			if len(d.records) >= c.max {
				break
			}
			preferred := p.Replicas[0]
			if p.Leader == preferred || p.Leader == kafka.NoLeader || !slices.Contains(c.settled, preferred) {
				continue
			}
			ch := change(topic, p, "its preferred leader is in sync again")
			if !slices.Contains(p.ISR, preferred) || ch.fitnessFor(s, preferred) != fit {
				continue
			}
			ch.next.Leader = preferred
			d.records = append(d.records, ch.record(s.image))
		}
	}
	d.answer = countOf(d.records)
	return d
}

func countOf(records []*pb.Record) func(*metadata.Image) any {
	n := len(records)
	return func(*metadata.Image) any { return n }
}
