package broker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Many clients at all nodes ask for the same new topics at once: each answer has every topic, with its leaders, and all the same
// ones.
func TestClusterCreationStorm(t *testing.T) {
	c := newCluster(t, 3, "num.partitions=3")
	const clients, topics = 24, 30
	var mu sync.Mutex
	ids := map[string][16]byte{}
	var wait sync.WaitGroup
	for i := range clients {
		addrs, _ := c.nodes[i%3].Serves()
		wait.Go(func() {
			raw := &rawClient{addr: addrs[0]}
			defer raw.close()
			req := kmsg.NewPtrMetadataRequest()
			req.SetVersion(12)
			req.AllowAutoTopicCreation = true
			for _, j := range rand.New(rand.NewPCG(uint64(i), 1)).Perm(topics) {
				topic := kmsg.NewMetadataRequestTopic()
				topic.Topic = kmsg.StringPtr(fmt.Sprintf("storm-%d", j))
				req.Topics = append(req.Topics, topic)
			}
			resp, err := raw.request(req)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for _, topic := range resp.(*kmsg.MetadataResponse).Topics {
				name := *topic.Topic
				if topic.ErrorCode != 0 || len(topic.Partitions) != 3 {
					t.Errorf("client %d, %s: error %d, %d partitions", i, name, topic.ErrorCode, len(topic.Partitions))
				}
				for _, p := range topic.Partitions {
					if p.ErrorCode != 0 || p.Leader < 1 {
						t.Errorf("client %d, %s/%d: error %d, leader %d", i, name, p.Partition, p.ErrorCode, p.Leader)
					}
				}
				if known, ok := ids[name]; ok && known != topic.TopicID {
					t.Errorf("%s was made twice", name)
				}
				ids[name] = topic.TopicID
			}
		})
	}
	wait.Wait()
	if len(ids) != topics {
		t.Errorf("%d topics", len(ids))
	}
}

// A topic is deleted while clients produce to it and read it, and made again under its name, again and again: what is made
// again begins empty, and holds what was acknowledged since.
func TestClusterTopicDeletedUnderLoad(t *testing.T) {
	c := newCluster(t, 3)
	admin := c.client()
	defer admin.Close()
	adm := kadm.NewClient(admin)
	var stop atomic.Bool
	var load sync.WaitGroup
	for i := range 4 {
		load.Go(func() {
			for n := 0; !stop.Load(); n++ { // a client that starts over, as it must after its topic is gone
				func() {
					cl := c.client(kgo.DefaultProduceTopic("t"), kgo.RecordDeliveryTimeout(time.Second), kgo.UnknownTopicRetries(0), kgo.DisableIdempotentWrite(),
						kgo.ConsumeTopics("t"), kgo.FetchMaxWait(50*time.Millisecond))
					defer cl.Close()
					for range 50 {
						if stop.Load() || cl.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint("load ", i, n))).FirstErr() != nil {
							return
						}
					}
				}()
			}
		})
	}
	defer load.Wait()
	defer stop.Store(true)
	for round := range 8 {
		created, err := adm.CreateTopic(within(t), 4, 3, nil, "t")
		if err != nil {
			t.Fatalf("round %d: create: %v", round, err)
		}
		// A node may answer with what was before for a moment, and franz-go takes another topic ID for the end of its records.
		await(t, "every node knows the new topic", func() bool {
			for _, n := range c.nodes {
				if topic := n.controller.Image().Topic("t"); topic == nil || [16]byte(topic.ID) != [16]byte(created.ID) {
					return false
				}
			}
			return true
		})
		mine := c.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(20*time.Second))
		want := fmt.Sprint("mine ", round)
		r, err := mine.ProduceSync(within(t), &kgo.Record{Topic: "t", Partition: 3, Value: []byte(want)}).First()
		mine.Close()
		if err != nil {
			t.Fatalf("round %d: produce to the topic made again: %v", round, err)
		}
		if r.Offset > 4000 { // the load's own records may be before it, those of an earlier topic may not
			t.Errorf("round %d: the first offset is %d", round, r.Offset)
		}
		reader := c.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {3: kgo.NewOffset().At(r.Offset)}}))
		fetches := reader.PollFetches(within(t))
		reader.Close()
		if err := fetches.Err0(); err != nil || fetches.NumRecords() == 0 {
			t.Fatalf("round %d: read from topic %s: %v", round, created.ID, err)
		}
		if got := string(fetches.Records()[0].Value); got != want {
			t.Fatalf("round %d: read %q, want %q", round, got, want)
		}
		for { // the load cannot make it: auto-creation is asked for by nobody
			if _, err := adm.DeleteTopic(within(t), "t"); err == nil || errors.Is(err, kerr.UnknownTopicOrPartition) {
				break
			} else if !kerr.IsRetriable(err) {
				t.Fatalf("round %d: delete: %v", round, err)
			}
		}
	}
}
