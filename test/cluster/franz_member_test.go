package cluster

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// memberEnv makes this test binary a member of a group, a process that can be killed: what python/member.py describes.
const memberEnv = "CHRONIK_GROUP_MEMBER"

func TestMain(m *testing.M) {
	if args := os.Getenv(memberEnv); args != "" {
		runFranzMember(strings.Fields(args))
		return
	}
	os.Exit(m.Run())
}

// franzMember is a member of a group with franz-go.
type franzMember struct {
	client *kgo.Client
	topic  string
	name   string
	mu     sync.Mutex
	next   map[int32]kgo.EpochOffset // processed and not committed
}

func runFranzMember(args []string) {
	bootstrap, group, protocol := args[0], args[2], args[4]
	m := &franzMember{topic: args[1], name: args[3], next: map[int32]kgo.EpochOffset{}}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	opts := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(bootstrap, ",")...), kgo.ClientID(m.name), kgo.ConsumerGroup(group), kgo.ConsumeTopics(m.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.DialTimeout(2 * time.Second), kgo.AlwaysRetryEOF(),
		kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.say("assigned", p) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, p map[string][]int32) {
			m.commit(p[m.topic])
			m.say("revoked", p)
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, p map[string][]int32) {
			m.take(p[m.topic])
			m.say("revoked", p)
		}),
	}
	if protocol == "classic" {
		opts = append(opts, kgo.Balancers(kgo.RangeBalancer()), kgo.SessionTimeout(4*time.Second), kgo.HeartbeatInterval(500*time.Millisecond))
	} else {
		opts = append(opts, kgo.ServerSideBalancer())
	}
	var err error
	if m.client, err = kgo.NewClient(opts...); err != nil {
		fmt.Println("error", err)
		return
	}
	last := time.Now()
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		m.client.PollFetches(poll).EachRecord(m.got)
		cancel()
		if time.Since(last) > 200*time.Millisecond {
			m.commit(nil)
			last = time.Now()
		}
		m.client.AllowRebalance()
	}
	m.client.CloseAllowingRebalance()
}

func (m *franzMember) say(word string, p map[string][]int32) {
	partitions := slices.Sorted(slices.Values(p[m.topic]))
	fmt.Println(word, strings.Trim(fmt.Sprint(partitions), "[]"))
}

func (m *franzMember) got(r *kgo.Record) {
	fmt.Println("got", r.Partition, r.Offset, string(r.Value))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next[r.Partition] = kgo.EpochOffset{Epoch: r.LeaderEpoch, Offset: r.Offset + 1}
}

// take removes what there is to commit of partitions, of all for nil.
func (m *franzMember) take(partitions []int32) map[int32]kgo.EpochOffset {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := map[int32]kgo.EpochOffset{}
	for p, at := range m.next {
		if partitions == nil || slices.Contains(partitions, p) {
			taken[p] = at
		}
	}
	for p := range taken {
		delete(m.next, p)
	}
	return taken
}

func (m *franzMember) commit(partitions []int32) {
	offsets := m.take(partitions)
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	named := kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				req.Topics[i].Partitions[j].Metadata = &m.name
			}
		}
		return nil
	})
	m.client.CommitOffsetsSync(named, map[string]map[int32]kgo.EpochOffset{m.topic: maps.Clone(offsets)}, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if err == nil {
			for _, t := range resp.Topics {
				for _, p := range t.Partitions {
					if p.ErrorCode != 0 {
						err = fmt.Errorf("partition %d: code %d", p.Partition, p.ErrorCode)
					}
				}
			}
		}
		if err != nil {
			fmt.Println("refused", err)
		} else {
			fmt.Println("committed")
		}
	})
}
