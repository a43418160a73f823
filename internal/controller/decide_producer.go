package controller

import (
	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// producerIDBlock is how many producer IDs a broker gets at once, as in Kafka.
const producerIDBlock = 1000

// allocateProducerIDs answers with the first ID of the block.
func (s state) allocateProducerIDs() decision {
	first := s.image.NextProducerID()
	return decision{
		records: []*pb.Record{{
			Reason: "producer IDs allocated",
			Kind: &pb.Record_ProducerIdsAllocated{
				ProducerIdsAllocated: &pb.ProducerIDsAllocated{Next: int64(first) + producerIDBlock},
			},
		}},
		answer: func(*metadata.Image) any { return kafka.ProducerID(first) },
	}
}
