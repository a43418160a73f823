package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"chronik/internal/group"
)

// commitTopic is where the brokers keep committed offsets; its partitions' leaders coordinate the groups.
const commitTopic = "__consumer_offsets"

// failoverGroups is how many groups commit, each in a partition of its own.
const failoverGroups = 6

// prepareCommits makes a topic to commit offsets of and starts the probes, which commit the offsets of a group each.
func (f *failover) prepareCommits(ctx context.Context) error {
	f.topic = commitTopic
	f.committed = fmt.Sprintf("bench-failover-%08x", rand.Uint32())
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cluster.bootstrap()...))
	if err != nil {
		return fmt.Errorf("bench failover: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopic(ctx, 1, 3, nil, f.committed); err != nil {
		return fmt.Errorf("bench failover: create a topic with 3 replicas: %w", err)
	}
	if _, err := coordinatorsOf(ctx, admin, []string{f.committed}); err != nil { // which makes __consumer_offsets
		return fmt.Errorf("bench failover: %w", err)
	}
	meta, err := admin.Metadata(ctx, commitTopic)
	if err != nil {
		return fmt.Errorf("bench failover: %w", err)
	}
	partitions := len(meta.Topics[commitTopic].Partitions)
	if partitions == 0 {
		return fmt.Errorf("bench failover: %s has no partitions: %w", commitTopic, meta.Topics[commitTopic].Err)
	}
	f.watch = watchLeaders(f.topic, f.cluster.bootstrap())
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	for i := range int32(min(partitions, failoverGroups)) {
		name := groupOn(f.committed, i, partitions)
		p := &probe{topic: f.topic, partition: i, watch: f.watch, ended: make(chan struct{}), group: name}
		p.answer = func(response []byte) (int64, error) { return 0, commitError(response, f.committed) }
		p.produce = p.rawCommit(f.committed)
		closeClient := func() {}
		if f.o.Driver == DriverClient {
			c, err := kgo.NewClient(append(QuickFailover(), kgo.SeedBrokers(f.cluster.bootstrap()...))...)
			if err != nil {
				f.close()
				return fmt.Errorf("bench failover: %w", err)
			}
			p.produce, closeClient = p.clientCommit(kadm.NewClient(c), f.committed), c.Close
		}
		f.probes = append(f.probes, p)
		go func() {
			defer closeClient()
			p.run(running)
		}()
	}
	return nil
}

// groupOn is a group that belongs to the partition.
func groupOn(prefix string, partition int32, partitions int) string {
	for i := 0; ; i++ {
		if name := fmt.Sprintf("%s-%d", prefix, i); group.PartitionFor(name, partitions) == partition {
			return name
		}
	}
}

// rawCommit commits the number as the offset, by a prebuilt frame, at whoever leads the group's partition now by what any node
// says.
func (p *probe) rawCommit(topic string) func(context.Context, uint64) (int64, error) {
	frame, at, _ := commitFrame(p.group, topic, 1)
	return func(ctx context.Context, number uint64) (int64, error) {
		binary.BigEndian.PutUint64(frame[at:], number)
		return p.insist(ctx, frame)
	}
}

// clientCommit is a commit by franz-go, which asks brokers for the coordinator.
func (p *probe) clientCommit(admin *kadm.Client, topic string) func(context.Context, uint64) (int64, error) {
	return func(ctx context.Context, number uint64) (int64, error) {
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, int64(number), -1)
		return 0, admin.CommitAllOffsets(ctx, p.group, offsets)
	}
}

// verifyCommits stops the probes and asks for what each group has: the last that was acknowledged, or the one after it, whose
// answer was never awaited.
func (f *failover) verifyCommits(ctx context.Context) error {
	f.stop()
	for _, p := range f.probes {
		<-p.ended
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(f.cluster.bootstrap()...))
	if err != nil {
		return fmt.Errorf("bench failover: %w", err)
	}
	defer client.Close()
	for _, p := range f.probes {
		acks := p.mu.acks
		if len(acks) == 0 {
			return fmt.Errorf("bench failover: group %s never committed: %s", p.group, p.lastError())
		}
		have, err := committedOffset(ctx, client, p.group, f.committed)
		if err != nil {
			return fmt.Errorf("bench failover: %w", err)
		}
		last := int64(acks[len(acks)-1].number)
		if have < last || have > int64(p.tried) {
			return fmt.Errorf("bench failover: LOST: group %s was told that offset %d is committed and tried up to %d; it has %d", p.group, last, p.tried, have)
		}
		f.r.Acked += int64(len(acks))
	}
	f.r.Verified = fmt.Sprintf("%d acknowledged commits; each of %d groups has the last of its own", f.r.Acked, len(f.probes))
	return nil
}

// committedOffset is what a group has committed for partition 0 of the topic.
func committedOffset(ctx context.Context, client *kgo.Client, name, topic string) (int64, error) {
	offsets, err := kadm.NewClient(client).FetchOffsetsForTopics(ctx, name, topic)
	if err != nil {
		return 0, fmt.Errorf("offsets of group %s: %w", name, err)
	}
	o, ok := offsets.Lookup(topic, 0)
	if !ok {
		return 0, errors.Join(fmt.Errorf("group %s has no offset of %s/0", name, topic), o.Err)
	}
	return o.At, o.Err
}
