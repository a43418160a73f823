package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"chronik/internal/record"
	"chronik/test/node"
)

// answer is what came to a request of a kind.
type answer struct {
	kind  string
	codes []int16
	took  time.Duration
	err   error
}

// While there is no controller, because the other two nodes are gone or do not move, no handler blocks: every request is answered
// within its time, with an error that a client understands; what needs no controller works. When they are back, all works.
func TestControllerAway(t *testing.T) {
	for _, how := range []string{"killed", "frozen"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			c := started(t)
			const partitions = 6
			create(t, c, partitions, "here")
			produce(t, client(t, c.Bootstrap()), "here", partitions, 10)
			commit(t, c, "g", "here")
			inSync(t, c, "here", "__consumer_offsets")
			m := c.Member(int(1 + time.Now().UnixNano()%3))
			var leads []int32
			meta := mustMetadata(t, m)
			for p, d := range meta.Topics["here"].Partitions {
				if d.Leader == int32(m.ID) {
					leads = append(leads, p)
				}
			}
			slices.Sort(leads)
			if len(leads) == 0 {
				t.Fatalf("node %d leads none of %v", m.ID, meta.Topics["here"].Partitions)
			}
			others := slices.DeleteFunc(slices.Clone(c.Members), func(o *node.Member) bool { return o == m })
			for _, o := range others {
				if how == "killed" {
					o.Kill()
				} else {
					o.Freeze()
				}
			}
			// At once, when it does not know yet, and once its lease has run out.
			for round := range 2 {
				if round == 1 {
					time.Sleep(3 * time.Second)
				}
				seen := map[string]int{}
				for _, a := range askEverything(t, m, meta, leads[0]) {
					seen[judge(t, a, round == 1)]++
				}
				for _, what := range slices.Sorted(maps.Keys(seen)) {
					t.Logf("round %d: %d times %s", round+1, seen[what], what)
				}
			}
			for _, o := range others {
				if how == "killed" {
					o.Launch()
				} else {
					o.Thaw()
				}
			}
			for _, o := range others {
				if err := o.AwaitServing(); err != nil {
					t.Fatal(err)
				}
			}
			c.WaitUp(3)
			inSync(t, c, "here")
			create(t, c, 1, "afterwards")
			if err := client(t, c.Bootstrap()).ProduceSync(within(t, time.Minute), &kgo.Record{Topic: "here", Partition: leads[0], Value: []byte("afterwards")}).FirstErr(); err != nil {
				t.Error(err)
			}
			commit(t, c, "g", "here")
			if got := consume(t, c.Bootstrap(), "here", partitions*10+1); len(got) < partitions*10+1 {
				t.Errorf("%d records", len(got))
			}
		})
	}
}

func commit(t *testing.T, c *node.Cluster, group, topic string) {
	t.Helper()
	admin := kadm.NewClient(client(t, c.Bootstrap()))
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, 0, 5, -1)
	c.Eventually("an offset is committed", func(ctx context.Context) error { return admin.CommitAllOffsets(ctx, group, offsets) })
	got, err := admin.FetchOffsets(within(t, time.Minute), group)
	if o, ok := got.Lookup(topic, 0); err != nil || !ok || o.At != 5 {
		t.Errorf("the group's offset is %v, %v", o, err)
	}
}

const (
	requestTime = 1500 * time.Millisecond // what requests allow where they can say
	slack       = 15 * time.Second        // on a machine that does much else
)

// askEverything sends requests of all kinds to one node, each kind on several connections at the same time.
func askEverything(t *testing.T, m *node.Member, meta kadm.Metadata, led int32) []answer {
	t.Helper()
	id := meta.Topics["here"].ID
	var mu sync.Mutex
	var all []answer
	var wait sync.WaitGroup
	for round := range 3 {
		for kind, req := range requests(id, led, round) {
			wait.Go(func() {
				opts := []kgo.Opt{kgo.SeedBrokers(m.Kafka), kgo.RequestRetries(0), kgo.MaxVersions(kversion.V3_6_0()), kgo.DialTimeout(5 * time.Second), kgo.RequestTimeoutOverhead(slack + 20*time.Second)}
				if kind == "Produce acks=1" { // the client puts its own acks into every request
					opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
				}
				cl, err := kgo.NewClient(opts...)
				if err != nil {
					t.Error(err)
					return
				}
				defer cl.Close()
				ctx, cancel := context.WithTimeout(context.Background(), requestTime+slack+10*time.Second)
				defer cancel()
				began := time.Now()
				res, err := cl.SeedBrokers()[0].Request(ctx, req)
				a := answer{kind: kind, took: time.Since(began), err: err}
				if err == nil {
					a.codes = codes(res)
				}
				mu.Lock()
				all = append(all, a)
				mu.Unlock()
			})
		}
	}
	wait.Wait()
	return all
}

func requests(id kadm.TopicID, led int32, round int) map[string]kmsg.Request {
	millis := int32(requestTime / time.Millisecond)
	produce := func(acks int16) kmsg.Request {
		r := kmsg.NewPtrProduceRequest()
		r.Acks, r.TimeoutMillis = acks, millis
		topic, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
		topic.Topic, p.Partition, p.Records = "here", led, batchOf(fmt.Sprintf("away %d", round))
		topic.Partitions = append(topic.Partitions, p)
		r.Topics = append(r.Topics, topic)
		return r
	}
	create := kmsg.NewPtrCreateTopicsRequest()
	create.TimeoutMillis = millis
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = fmt.Sprintf("never-%d", round), 1, 3
	create.Topics = append(create.Topics, topic)

	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.TimeoutMillis, remove.TopicNames = millis, []string{"here"}
	gone := kmsg.NewDeleteTopicsRequestTopic()
	gone.Topic = kmsg.StringPtr("not-here")
	remove.Topics = append(remove.Topics, gone)

	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.TimeoutMillis = millis
	more := kmsg.NewCreatePartitionsRequestTopic()
	more.Topic, more.Count = "here", 50
	grow.Topics = append(grow.Topics, more)

	known, unknown := kmsg.NewPtrMetadataRequest(), kmsg.NewPtrMetadataRequest()
	for r, name := range map[*kmsg.MetadataRequest]string{known: "here", unknown: "unknown"} {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		r.Topics = append(r.Topics, topic)
	}
	auto := kmsg.NewPtrMetadataRequest()
	auto.AllowAutoTopicCreation = true
	made := kmsg.NewMetadataRequestTopic()
	made.Topic = kmsg.StringPtr(fmt.Sprintf("auto-%d", round))
	auto.Topics = append(auto.Topics, made)

	fetch := kmsg.NewPtrFetchRequest()
	fetch.MaxWaitMillis, fetch.MinBytes, fetch.MaxBytes, fetch.ReplicaID = millis, 1<<20, 1<<20, -1
	ft, fp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	ft.Topic, ft.TopicID, fp.Partition, fp.PartitionMaxBytes, fp.CurrentLeaderEpoch = "here", id, led, 1<<20, -1
	ft.Partitions = append(ft.Partitions, fp)
	fetch.Topics = append(fetch.Topics, ft)

	list := kmsg.NewPtrListOffsetsRequest()
	list.ReplicaID = -1
	lt, lp := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	lt.Topic, lp.Partition, lp.Timestamp, lp.CurrentLeaderEpoch = "here", led, -1, -1
	lt.Partitions = append(lt.Partitions, lp)
	list.Topics = append(list.Topics, lt)

	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"g", "h"}

	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", "consumer", 10_000, 10_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "range"
	join.Protocols = append(join.Protocols, protocol)

	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = "g", -1
	ct, cp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	ct.Topic, cp.Offset = "here", 6
	ct.Partitions = append(ct.Partitions, cp)
	commit.Topics = append(commit.Topics, ct)

	committed := kmsg.NewPtrOffsetFetchRequest()
	committed.Group = "g"
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = "g"
	committed.Groups = append(committed.Groups, group)

	versions := kmsg.NewPtrApiVersionsRequest()
	versions.ClientSoftwareName, versions.ClientSoftwareVersion = "test", "1"
	producer := kmsg.NewPtrInitProducerIDRequest()
	producer.ProducerID, producer.ProducerEpoch = -1, -1

	return map[string]kmsg.Request{
		"Produce acks=1": produce(1), "Produce acks=all": produce(-1), "CreateTopics": create, "DeleteTopics": remove, "CreatePartitions": grow,
		"Metadata known": known, "Metadata unknown": unknown, "Metadata auto": auto, "Metadata all": kmsg.NewPtrMetadataRequest(),
		"Fetch": fetch, "ListOffsets": list, "FindCoordinator": find, "JoinGroup": join, "OffsetCommit": commit, "OffsetFetch": committed,
		"InitProducerID": producer, "ApiVersions": versions, "DescribeCluster": kmsg.NewPtrDescribeClusterRequest(),
	}
}

// codes are the errors in an answer, of whatever it is about.
func codes(res kmsg.Response) []int16 {
	var all []int16
	switch r := res.(type) {
	case *kmsg.ProduceResponse:
		all = append(all, r.Topics[0].Partitions[0].ErrorCode)
	case *kmsg.CreateTopicsResponse:
		all = append(all, r.Topics[0].ErrorCode)
	case *kmsg.DeleteTopicsResponse:
		all = append(all, r.Topics[0].ErrorCode)
	case *kmsg.CreatePartitionsResponse:
		all = append(all, r.Topics[0].ErrorCode)
	case *kmsg.MetadataResponse:
		for _, topic := range r.Topics {
			all = append(all, topic.ErrorCode)
		}
	case *kmsg.FetchResponse:
		all = append(all, r.ErrorCode)
		for _, topic := range r.Topics {
			all = append(all, topic.Partitions[0].ErrorCode)
		}
	case *kmsg.ListOffsetsResponse:
		all = append(all, r.Topics[0].Partitions[0].ErrorCode)
	case *kmsg.FindCoordinatorResponse:
		for _, c := range r.Coordinators {
			all = append(all, c.ErrorCode)
		}
	case *kmsg.JoinGroupResponse:
		all = append(all, r.ErrorCode)
	case *kmsg.OffsetCommitResponse:
		all = append(all, r.Topics[0].Partitions[0].ErrorCode)
	case *kmsg.OffsetFetchResponse:
		all = append(all, r.ErrorCode)
		for _, group := range r.Groups {
			all = append(all, group.ErrorCode)
		}
	case *kmsg.InitProducerIDResponse:
		all = append(all, r.ErrorCode)
	case *kmsg.ApiVersionsResponse:
		all = append(all, r.ErrorCode)
	case *kmsg.DescribeClusterResponse:
		all = append(all, r.ErrorCode)
	}
	return all
}

func batchOf(value string) []byte {
	b := record.NewBuilder()
	b.Add(time.Now().UnixMilli(), nil, []byte(value))
	return b.Build()
}

// allowed are the errors that a kind of request may be answered with, by name; "-" is success. A node must not deny what only
// the controller can know, and must not claim what only a quorum can grant.
var allowed = map[string]string{
	"ApiVersions": "-", "DescribeCluster": "-", "Metadata known": "-", "Metadata all": "-", "FindCoordinator": "- COORDINATOR_NOT_AVAILABLE",
	"Metadata unknown": "LEADER_NOT_AVAILABLE REQUEST_TIMED_OUT", "Metadata auto": "LEADER_NOT_AVAILABLE REQUEST_TIMED_OUT",
	"CreateTopics": "REQUEST_TIMED_OUT NOT_CONTROLLER", "DeleteTopics": "REQUEST_TIMED_OUT NOT_CONTROLLER", "CreatePartitions": "REQUEST_TIMED_OUT NOT_CONTROLLER",
	"Produce acks=all": "REQUEST_TIMED_OUT NOT_LEADER_FOR_PARTITION NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND",
	"Produce acks=1":   "- REQUEST_TIMED_OUT NOT_LEADER_FOR_PARTITION",
	"Fetch":            "- NOT_LEADER_FOR_PARTITION", "ListOffsets": "- NOT_LEADER_FOR_PARTITION OFFSET_NOT_AVAILABLE",
	"JoinGroup":    "MEMBER_ID_REQUIRED NOT_COORDINATOR COORDINATOR_NOT_AVAILABLE",
	"OffsetCommit": "NOT_COORDINATOR COORDINATOR_NOT_AVAILABLE REQUEST_TIMED_OUT", "OffsetFetch": "- NOT_COORDINATOR COORDINATOR_NOT_AVAILABLE",
	"InitProducerID": "- COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE REQUEST_TIMED_OUT", // a node holds a block of IDs
}

// leased are what a leader may only answer while its lease holds: it has run out in the second round.
var leased = []string{"Fetch", "ListOffsets", "Produce acks=1"}

func judge(t *testing.T, a answer, late bool) string {
	t.Helper()
	if a.err != nil {
		t.Errorf("%s: %v after %v", a.kind, a.err, a.took)
		return a.kind
	}
	var names []string
	for _, code := range a.codes {
		name := "-"
		if err := kerr.ErrorForCode(code); err != nil {
			name, _, _ = strings.Cut(err.Error(), ":")
		}
		names = append(names, name)
		if !slices.Contains(strings.Fields(allowed[a.kind]), name) {
			t.Errorf("%s is answered with %s after %v; want one of %s", a.kind, name, a.took, allowed[a.kind])
		}
	}
	if len(names) == 0 {
		t.Errorf("%s: an answer about nothing", a.kind)
	} else if last := names[len(names)-1]; late && last == "-" && slices.Contains(leased, a.kind) {
		t.Errorf("%s succeeds although the lease has run out", a.kind)
	}
	if a.took > requestTime+slack {
		t.Errorf("%s takes %v", a.kind, a.took)
	}
	return fmt.Sprintf("%s: %s", a.kind, strings.Join(names, ", "))
}
