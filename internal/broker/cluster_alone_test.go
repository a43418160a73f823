package broker

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// With no quorum to write the metadata the node that is left blocks nobody: what it can answer it answers, the rest gets, in
// bounded time, an error on which clients try again, never one that says that something does not exist.
func TestClusterWithoutAQuorum(t *testing.T) {
	c := newCluster(t, 3, "offsets.topic.num.partitions=3")
	client := c.client(kgo.AllowAutoTopicCreation())
	produceAll(t, client, "events", 0, 10)
	c.awaitFullISR("events")
	id := c.nodes[2].controller.Image().Topic("events").ID
	c.stop(0)
	c.stop(1)
	client = c.client()
	n := c.nodes[2]
	await(t, "the lease ends", func() bool { return !n.leaseHeld() })

	request := func(what string, atMost time.Duration, req kmsg.Request, codes func(kmsg.Response) int16, want ...*kerr.Error) {
		t.Helper()
		began := time.Now()
		code := codes(ask[kmsg.Response](t, client, 3, req))
		took := time.Since(began)
		ok := false
		for _, w := range want {
			ok = ok || w == nil && code == 0 || w != nil && code == w.Code
		}
		if !ok {
			t.Errorf("%s: %v after %v", what, kerr.ErrorForCode(code), took)
		}
		if took > atMost+5*time.Second { // a busy machine
			t.Errorf("%s: took %v", what, took)
		}
	}
	metadataCode := func(r kmsg.Response) int16 { return r.(*kmsg.MetadataResponse).Topics[0].ErrorCode }
	request("metadata of a topic that exists", time.Second, metadataOf("events", false), metadataCode, nil)
	request("metadata of another", 2*time.Second, metadataOf("nothing", false), metadataCode, kerr.LeaderNotAvailable)
	request("auto-creation", 5*time.Second, metadataOf("new", true), metadataCode, kerr.LeaderNotAvailable)

	create := createRequest("new", 1)
	create.TimeoutMillis = 1000
	request("create topics", time.Second, create, func(r kmsg.Response) int16 { return r.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode }, kerr.RequestTimedOut)

	produceCode := func(r kmsg.Response) int16 { return r.(*kmsg.ProduceResponse).Topics[0].Partitions[0].ErrorCode }
	produce := produceOnce("events", id, "v")
	produce.TimeoutMillis = 1000
	request("produce, acks=all", time.Second, produce, produceCode, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut,
		kerr.NotLeaderForPartition)
	produce = produceOnce("events", id, "v")
	produce.TimeoutMillis = 1000
	usual := client
	client = c.client(kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()) // the client's setting wins over the request's
	request("produce, acks=1, without the lease", time.Second, produce, produceCode, kerr.NotLeaderForPartition, kerr.RequestTimedOut)
	client = usual
	request("produce to another", 2*time.Second, produceOnce("nothing", [16]byte{1}, "v"), produceCode, kerr.NotLeaderForPartition)

	fetch := kmsg.NewPtrFetchRequest()
	fetch.MaxWaitMillis, fetch.MaxBytes, fetch.SessionEpoch, fetch.ReplicaID = 100, 1<<20, -1, -1
	ft := kmsg.NewFetchRequestTopic()
	ft.Topic, ft.TopicID = "events", id
	fp := kmsg.NewFetchRequestTopicPartition()
	fp.PartitionMaxBytes = 1 << 20
	ft.Partitions = append(ft.Partitions, fp)
	fetch.Topics = append(fetch.Topics, ft)
	request("fetch without the lease", time.Second, fetch, func(r kmsg.Response) int16 {
		return r.(*kmsg.FetchResponse).Topics[0].Partitions[0].ErrorCode
	}, kerr.NotLeaderForPartition)

	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"workers"}
	request("find coordinator", 7*time.Second, find, func(r kmsg.Response) int16 { return r.(*kmsg.FindCoordinatorResponse).Coordinators[0].ErrorCode },
		kerr.CoordinatorNotAvailable)
	offsets := kmsg.NewPtrOffsetFetchRequest()
	offsets.Group = "workers"
	offsets.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "workers", MemberEpoch: -1}}
	request("offset fetch", 2*time.Second, offsets, func(r kmsg.Response) int16 { return r.(*kmsg.OffsetFetchResponse).Groups[0].ErrorCode }, kerr.NotCoordinator)
	request("producer ID", 5*time.Second, kmsg.NewPtrInitProducerIDRequest(), func(r kmsg.Response) int16 { return r.(*kmsg.InitProducerIDResponse).ErrorCode },
		nil, kerr.CoordinatorLoadInProgress) // the node may have some left of a block that it was given before

	c.start(0) // a quorum again
	request("create topics again", 20*time.Second, createRequest("later", 1),
		func(r kmsg.Response) int16 { return r.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode }, nil)
	c.start(1)
	produceAll(t, c.client(), "events", 10, 20)
}

// A node that stops as one of the last does not wait for others to take over, although one of those that are gone was never met by
// its process.
func TestClusterLastToStopWaitsForNobody(t *testing.T) {
	c := newCluster(t, 3)
	client := c.client(kgo.AllowAutoTopicCreation())
	produceAll(t, client, "t", 0, 5)
	for _, i := range []int{1, 2, 0} {
		c.stop(i)
	}
	var starting sync.WaitGroup
	for _, i := range []int{0, 2} {
		starting.Go(func() { c.start(i) })
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	await(t, "the third is known to be away", func() bool {
		s, ok := c.nodes[0].peers.Status(2)
		return ok && s.Err != nil
	})
	c.stop(2)
	last := c.nodes[0]
	c.stop(0)
	if log := last.log.String(); strings.Contains(log, "nobody could take over") {
		t.Errorf("it waited:\n%s", log)
	}
}
