package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// target is the topic that a workload loads.
type target struct {
	name    string
	leaders []string // address of each partition's leader, as advertised
	start   []int64  // log end offset of each partition before the workload
	compact bool     // cleanup.policy has compact: records need keys, and offsets may be missing
	admin   *kadm.Client
	drop    bool
}

// prepare finds or makes the topic.
func prepare(ctx context.Context, o *Options) (*target, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(o.Bootstrap...), kgo.ClientID("chronik-bench"))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	t := &target{name: o.Topic, admin: kadm.NewClient(client)}
	if t.name == "" {
		t.name = fmt.Sprintf("bench-%08x", rand.Uint32())
		t.drop = !o.KeepTopic
	}
	config := map[string]*string{}
	for k, v := range o.TopicConfig {
		config[k] = &v
	}
	_, err = t.admin.CreateTopic(ctx, o.Partitions, o.Replicas, config, t.name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		client.Close()
		return nil, fmt.Errorf("bench: create topic %s at %v: %w", t.name, o.Bootstrap, err)
	}
	if err := t.locate(ctx); err != nil {
		client.Close()
		return nil, err
	}
	if t.compact, err = t.compacted(ctx); err != nil && o.Verify {
		client.Close()
		return nil, err
	}
	o.Partitions, o.keys = int32(len(t.leaders)), t.compact
	return t, nil
}

// compacted asks whether the topic is.
func (t *target) compacted(ctx context.Context) (bool, error) {
	configs, err := t.admin.DescribeTopicConfigs(ctx, t.name)
	if err == nil {
		var c kadm.ResourceConfig
		if c, err = configs.On(t.name, nil); err == nil {
			err = c.Err
		}
		for _, kv := range c.Configs {
			if err == nil && kv.Key == "cleanup.policy" {
				return strings.Contains(kv.MaybeValue(), "compact"), nil
			}
		}
	}
	if err == nil {
		err = errors.New("the answer does not tell it")
	}
	return false, fmt.Errorf("bench: cleanup.policy of %s: %w", t.name, err)
}

// locate waits until every partition has a leader.
func (t *target) locate(ctx context.Context) error {
	for try := 0; ; try++ {
		meta, err := t.admin.Metadata(ctx, t.name)
		if err != nil {
			return fmt.Errorf("bench: metadata of %s: %w", t.name, err)
		}
		if ok := t.leadersOf(meta); ok {
			break
		}
		if try == 200 {
			return fmt.Errorf("bench: topic %s has partitions without a leader", t.name)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	ends, err := t.ends(ctx)
	t.start = ends
	return err
}

func (t *target) leadersOf(meta kadm.Metadata) bool {
	topic := meta.Topics[t.name]
	if topic.Err != nil || len(topic.Partitions) == 0 {
		return false
	}
	t.leaders = make([]string, len(topic.Partitions))
	for _, p := range topic.Partitions.Sorted() {
		for _, b := range meta.Brokers {
			if b.NodeID == p.Leader && p.Err == nil {
				t.leaders[p.Partition] = net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
			}
		}
		if t.leaders[p.Partition] == "" {
			return false
		}
	}
	return true
}

// ends are the log end offsets. A new leader may not know yet what is committed: it is asked again for some seconds.
func (t *target) ends(ctx context.Context) (ends []int64, err error) {
	for range 200 {
		if ends, err = t.endsNow(ctx); !kerr.IsRetriable(err) || sleep(ctx, 50*time.Millisecond) != nil {
			return ends, err
		}
	}
	return ends, err
}

func (t *target) endsNow(ctx context.Context) ([]int64, error) {
	listed, err := t.admin.ListEndOffsets(ctx, t.name)
	if err != nil {
		return nil, fmt.Errorf("bench: end offsets of %s: %w", t.name, err)
	}
	ends := make([]int64, len(t.leaders))
	for p := range ends {
		o, _ := listed.Lookup(t.name, int32(p))
		if o.Err != nil {
			return nil, fmt.Errorf("bench: end offset of %s/%d: %w", t.name, p, o.Err)
		}
		ends[p] = o.Offset
	}
	return ends, nil
}

// close deletes the topic if the workload made it for itself.
func (t *target) close(ctx context.Context) error {
	defer t.admin.Close()
	if !t.drop {
		return nil
	}
	if _, err := t.admin.DeleteTopic(ctx, t.name); err != nil {
		return fmt.Errorf("bench: delete topic %s: %w", t.name, err)
	}
	return nil
}

// prepareNothing connects and asks for the cluster's metadata: the first request of any client.
func prepareNothing(ctx context.Context, addr string) (done func(), err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("bench: %w", err)
	}
	return client.Close, nil
}
