package groups

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/test/oracle/pair"
)

// LimitSettings and TalkLimits are about what a configuration forbids.
var LimitSettings = append([]string{"group.consumer.migration.policy=disabled", "group.consumer.max.size=2"}, Settings...)

// TalkLimits is about groups that may not change their protocol nor grow.
func TalkLimits(p *pair.Side) {
	s := &side{Side: p}
	s.groupTopics()
	s.findEpochBase()
	s.beat(1, "full", "a", 0)
	s.beat(1, "full", "b", 0)
	s.beat(1, "full", "c", 0)
	s.beat(1, "full", "c", 0, statically("i"))
	s.beat(1, "full", "a", 0)
	s.describeNext("full")
	s.join(9, "full", "", consuming(-1))
	s.join(9, "full", "x", consuming(-1))
	s.beat(1, "full", "b", -1)
	s.beat(1, "full", "c", 0)
	base := s.EpochBase
	s.EpochBase = 0 // of a classic group's generation
	id := s.join(9, "old", "", consuming(-1))
	s.join(9, "old", id, consuming(-1))
	s.sync(5, "old", id, 1, nil)
	s.beat(1, "old", "a", 0)
	s.heartbeat(4, "old", id, 1, nil)
	s.leave(5, "old", leaving(id, ""))
	s.EpochBase = base
	s.beat(1, "old", "a", 0)
	s.beat(1, "old", "a", -1)
	s.EpochBase = 0
	id = s.join(9, "old", "", consuming(-1))
	s.join(9, "old", id, consuming(-1))
	s.EpochBase = base
	s.list(5, nil, nil)
	s.describeNext("old", "full")
}

// nextConfigs is about the configuration of one group.
func (s *side) nextConfigs() {
	alter := func(group, key string, value *string, op kmsg.IncrementalAlterConfigOp) {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value, c.Op = key, value, op
		r.Configs = append(r.Configs, c)
		req.Resources = append(req.Resources, r)
		pair.Call[*kmsg.IncrementalAlterConfigsResponse](s.Side, 1, req)
	}
	describe := func(group string) {
		req := kmsg.NewPtrDescribeConfigsRequest()
		req.IncludeSynonyms = true
		r := kmsg.NewDescribeConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
		r.ConfigNames = []string{"consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"}
		req.Resources = append(req.Resources, r)
		pair.Call[*kmsg.DescribeConfigsResponse](s.Side, 4, req)
	}
	const session, heartbeat = "consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"
	for _, value := range []string{"50000", "44999", "60001", "x", ""} {
		alter("nextconf", session, &value, kmsg.IncrementalAlterConfigOpSet)
	}
	for _, value := range []string{"7000", "4999", "15001"} {
		alter("nextconf", heartbeat, &value, kmsg.IncrementalAlterConfigOpSet)
	}
	one := "1"
	alter("nextconf", "no.such.key", &one, kmsg.IncrementalAlterConfigOpSet)
	alter("nextconf", session, &one, kmsg.IncrementalAlterConfigOpAppend)
	alter("", session, &one, kmsg.IncrementalAlterConfigOpSet)
	time.Sleep(s.Eventually)
	describe("nextconf")
	describe("nextother")
	describe("")
	s.beat(1, "nextconf", "a", 0)
	for _, types := range [][]int8{{32}, {99}} {
		req := kmsg.NewPtrListConfigResourcesRequest()
		req.ResourceTypes = types
		pair.Call[*kmsg.ListConfigResourcesResponse](s.Side, 1, req)
	}
	pair.Call[*kmsg.ListConfigResourcesResponse](s.Side, 0, kmsg.NewPtrListConfigResourcesRequest())
	alter("nextconf", session, nil, kmsg.IncrementalAlterConfigOpDelete)
	time.Sleep(s.Eventually)
	describe("nextconf")
	s.beat(1, "nextconf", "a", -1)
}
