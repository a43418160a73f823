package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// ElectLeaders: the preferred replica where it can lead, anybody only where nobody does and a person asks for it by name.
func TestElectLeaders(t *testing.T) {
	c := newCluster(t)
	c.addBroker(2, "")
	c.addBroker(3, "")
	c.assign("t", []kafka.BrokerID{2, 1}, []kafka.BrokerID{1, 2})
	c.assign("u", []kafka.BrokerID{3, 1})
	elect := func(version int16, kind int8, topics ...string) (*kmsg.ElectLeadersResponse, string) {
		req := kmsg.NewPtrElectLeadersRequest()
		req.ElectionType = kind
		for _, name := range topics {
			req.Topics = append(req.Topics, kmsg.ElectLeadersRequestTopic{Topic: name, Partitions: []int32{0}})
		}
		resp := call[*kmsg.ElectLeadersResponse](c, version, req)
		var got []string
		for _, rt := range resp.Topics {
			for _, p := range rt.Partitions {
				got = append(got, fmt.Sprintf("%s-%d %s", rt.Topic, p.Partition, codeName(p.ErrorCode)))
			}
		}
		return resp, strings.Join(got, ", ")
	}
	leader := func(topic string) kafka.BrokerID { return c.Store.Image().Topic(topic).Partitions.At(0).Leader }
	every(c, 43, func(v int16) {
		if _, got := elect(v, 0, "t", "none"); got != "t-0 ELECTION_NOT_NEEDED, none-0 UNKNOWN_TOPIC_OR_PARTITION" {
			t.Errorf("v%d: %s", v, got)
		}
		if _, got := elect(v, 0); got != "" {
			t.Errorf("v%d: all of them: %s", v, got)
		}
	})
	c.fence(2, true)
	if _, got := elect(2, 0, "t"); got != "t-0 PREFERRED_LEADER_NOT_AVAILABLE" || leader("t") != 1 {
		t.Errorf("fenced: %s, leader %d", got, leader("t"))
	}
	c.fence(2, false)
	if _, got := elect(2, 0); got != "t-0 PREFERRED_LEADER_NOT_AVAILABLE" || leader("t") != 1 {
		t.Errorf("not in sync: %s, leader %d", got, leader("t"))
	}
	p := c.Store.Image().Topic("t").Partitions.At(0)
	members := []metadata.ISRMember{{Broker: 1, Epoch: c.Store.Image().Broker(1).Epoch}, {Broker: 2, Epoch: c.Store.Image().Broker(2).Epoch}}
	if _, err := c.Store.UpdateISR(t.Context(), metadata.UpdateISR{Partition: c.Store.Image().Topic("t").TopicPartition(0), LeaderEpoch: p.LeaderEpoch,
		Base: p.PartitionEpoch, ISR: members}); err != nil {
		t.Fatal(err)
	}
	if _, got := elect(2, 0); got != "t-0 NONE" || leader("t") != 2 {
		t.Errorf("back in sync: %s, leader %d", got, leader("t"))
	}
	if _, got := elect(2, 1, "t"); got != "t-0 ELECTION_NOT_NEEDED" || leader("t") != 2 {
		t.Errorf("unclean with a leader: %s", got)
	}

	// u: broker 1 leaves, then 3, the last one in sync, dies; 1 is back and may lack records.
	one := "1"
	if err := c.Store.SetConfig(t.Context(), metadata.SetConfig{Resource: metadata.Resource{Type: metadata.TopicResource, Name: "u"},
		Values: map[string]*string{metadata.MinInsyncReplicasKey: &one}}, false); err != nil {
		t.Fatal(err)
	}
	c.fence(1, true)
	c.fence(3, true)
	c.fence(1, false)
	if img := c.Store.Image().Topic("u").Partitions.At(0); img.Leader != kafka.NoLeader || !slices.Equal(img.ISR, []kafka.BrokerID{3}) {
		t.Fatalf("%+v", img)
	}
	if _, got := elect(2, 0, "u"); got != "u-0 PREFERRED_LEADER_NOT_AVAILABLE" || leader("u") != kafka.NoLeader {
		t.Errorf("preferred: %s, leader %d", got, leader("u"))
	}
	if _, got := elect(2, 1); got != "u-0 NONE" || leader("u") != 1 {
		t.Errorf("unclean: %s, leader %d", got, leader("u"))
	}
	resp, got := elect(1, 7, "t")
	if resp.ErrorCode != kafka.ErrInvalidRequest.Code || got != "t-0 INVALID_REQUEST" {
		t.Errorf("unknown kind: %s, %s", codeName(resp.ErrorCode), got)
	}
}
