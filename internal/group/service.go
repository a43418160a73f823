package group

import (
	"context"
	"crypto/rand"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/clock"
	"chronik/internal/config"
	"chronik/internal/coordinator"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// Options are what a Service needs; all are required.
type Options struct {
	NodeID kafka.BrokerID
	Store  metadata.Store
	// Open finds the log of a partition that this node leads in the epoch; see OnReplicas.
	Open   func(ctx context.Context, id kafka.TopicPartition, epoch kafka.LeaderEpoch) (coordinator.Log, error)
	Config *config.Live
	Clock  clock.Clock
	Logger *slog.Logger
}

// Service is the node's group coordinator: the shards of __consumer_offsets that this node leads. Its methods queue an
// operation in the order of the calls and do not wait; what they return is awaited on the write side of a connection.
type Service struct {
	o          Options
	rt         *coordinator.Runtime[*Machine]
	ctx        context.Context
	cancel     context.CancelFunc
	done       sync.WaitGroup
	now        atomic.Pointer[bounds]
	unheard    unheard
	rebalances rebalanceCounters
}

// NewService makes a service; Start begins its work.
func NewService(o Options) *Service {
	s := &Service{o: o}
	s.unheard.of = make(map[int32]*changedTopics)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.rt = coordinator.New(coordinator.Options[*Machine]{
		Topic: kafka.OffsetsTopic,
		New: func(partition int32) *Machine {
			m := New(s.limits, rand.Text, o.Logger.With("partition", partition))
			m.loaded = func() { s.loaded(partition) }
			m.rebalances = &s.rebalances
			m.SetTopics(s.topics)
			return m
		},
		Open: s.open, Clock: o.Clock, Logger: o.Logger,
		BatchBytes:    func() int { return min(s.bounds().batch, coordinator.BatchBytesMax) },
		BatchMax:      func() int { return s.bounds().batch },
		CommitTimeout: func() time.Duration { return o.Config.Load().OffsetsCommitTimeout },
	})
	return s
}

// recordOverhead is what a batch needs beside the one record in it.
const recordOverhead = 256

// bounds are what the configuration of __consumer_offsets allows; resolved once for each version of it.
type bounds struct {
	config *config.Config
	topic  *metadata.Topic
	record int // bytes of the largest record
	batch  int // bytes of the largest batch
}

func (s *Service) bounds() *bounds {
	c, topic := s.o.Config.Load(), s.o.Store.Image().Topic(kafka.OffsetsTopic)
	if b := s.now.Load(); b != nil && b.config == c && b.topic == topic {
		return b
	}
	largest := int(c.Topic.MaxMessageBytes)
	if topic != nil {
		if resolved, err := c.ResolveTopic(topic.Config); err == nil {
			largest = int(resolved.MaxMessageBytes)
		}
	}
	b := &bounds{config: c, topic: topic, record: largest - recordOverhead, batch: largest}
	s.now.Store(b)
	return b
}

func (s *Service) limits() Limits {
	c := s.o.Config.Load()
	return Limits{
		MinSessionTimeout: c.GroupMinSessionTimeout, MaxSessionTimeout: c.GroupMaxSessionTimeout,
		InitialRebalanceDelay: c.GroupInitialRebalanceWait, MaxSize: c.GroupMaxSize,
		OffsetsRetention: c.OffsetsRetention, OffsetsRetentionCheck: c.OffsetsRetentionCheck,
		OffsetMetadataMax: c.OffsetMetadataMaxBytes, RecordMaxBytes: s.bounds().record, Consumer: s.consumerLimits,
	}
}

func (s *Service) open(ctx context.Context, partition int32, epoch kafka.LeaderEpoch) (coordinator.Log, error) {
	topic := s.o.Store.Image().Topic(kafka.OffsetsTopic)
	if topic == nil {
		return nil, kafka.ErrUnknownTopicOrPartition.With("there is no topic %s", kafka.OffsetsTopic)
	}
	return s.o.Open(ctx, topic.TopicPartition(partition), epoch)
}

// Start follows the metadata until Close.
func (s *Service) Start() {
	s.done.Add(1)
	go func() {
		defer s.done.Done()
		s.follow()
	}()
}

// Close unloads all groups and returns when every goroutine has ended.
func (s *Service) Close() {
	s.cancel()
	s.rt.Close() // no shard loads any more, so that nobody is added to done
	s.done.Wait()
}

// loaded looks, once a shard serves, for offsets of topics that were deleted while nobody coordinated its groups. The
// barrier comes after the load: this node then knows every topic that the replayed offsets can be of.
func (s *Service) loaded(partition int32) {
	s.done.Go(func() {
		if err := s.o.Store.Barrier(s.ctx); err != nil {
			return // they stay, and are not given out for a topic with another ID
		}
		s.rt.WaitServing(s.ctx, partition)
		s.rt.Tell(partition, func(m *Machine, tx *coordinator.Tx) {
			img := s.o.Store.Image()
			m.DropDeleted(tx, func(id kafka.TopicID) bool { return img.TopicByID(id) != nil })
		}, func() {})
	})
}

func (s *Service) follow() {
	cursor := s.o.Store.Subscribe("groups", 0)
	defer cursor.Close()
	for {
		batch, err := cursor.Next(s.ctx)
		if err != nil {
			return
		}
		var changed changedTopics
		for _, e := range batch.Events {
			s.apply(e)
			changed.note(e)
		}
		s.topicsChanged(&changed)
	}
}

func (s *Service) apply(e metadata.Event) {
	switch e := e.(type) {
	case metadata.SnapshotInstalled:
		for one := range metadata.Difference(e.Old, e.New) {
			s.apply(one)
		}
	case metadata.PartitionAssigned:
		s.led(e.Topic, e.Partition)
	case metadata.PartitionLeaderChanged:
		s.led(e.Topic, e.Partition)
	case metadata.TopicDeleted:
		s.topicDeleted(e.Topic)
	}
}

func (s *Service) led(topic *metadata.Topic, p *metadata.Partition) {
	switch {
	case topic.Name != kafka.OffsetsTopic:
	case p.Leader == s.o.NodeID:
		s.rt.Elect(p.Index, p.LeaderEpoch)
	default:
		s.rt.Resign(p.Index, p.LeaderEpoch)
	}
}

func (s *Service) topicDeleted(topic *metadata.Topic) {
	if topic.Name == kafka.OffsetsTopic {
		for _, p := range s.rt.Led() {
			s.rt.Resign(p, math.MaxInt32)
		}
	}
}

// partition is the partition of __consumer_offsets that a group belongs to, as the metadata have it now. Where the events that
// say who leads it are still to be read, it is elected or resigns here: after a barrier, an operation finds what the image
// says.
func (s *Service) partition(group string) (*metadata.Partition, error) {
	topic := s.o.Store.Image().Topic(kafka.OffsetsTopic)
	if topic == nil || topic.Partitions.Len() == 0 {
		return nil, coordinator.Elsewhere("there is no topic %s yet: ask for the coordinator", kafka.OffsetsTopic)
	}
	p := topic.Partitions.At(PartitionFor(group, topic.Partitions.Len()))
	s.led(topic, p)
	return p, nil
}

// PartitionFor is the partition of __consumer_offsets that a group belongs to, as Kafka has it: the absolute value of Java's
// String.hashCode, modulo the number of partitions.
func PartitionFor(group string, partitions int) int32 {
	h := javaHash(group)
	if h == math.MinInt32 {
		h = 0
	}
	if h < 0 {
		h = -h
	}
	return h % int32(partitions)
}

func javaHash(s string) int32 {
	var h int32
	for _, r := range s {
		if r >= 0x10000 {
			h = 31*h + int32(0xd800+(r-0x10000)>>10)
			r = 0xdc00 + (r-0x10000)&0x3ff
		}
		h = 31*h + r
	}
	return h
}

// LeaderOf is the broker that coordinates a group as the metadata have it; NoLeader if there is none.
func (s *Service) LeaderOf(group string) kafka.BrokerID {
	p, err := s.partition(group)
	if err != nil {
		return kafka.NoLeader
	}
	return p.Leader
}

func do[R any](s *Service, group string, op func(m *Machine, tx *coordinator.Tx, p *coordinator.Promise[R])) *coordinator.Promise[R] {
	p, err := s.partition(group)
	if err != nil {
		return refused[R](err)
	}
	return coordinator.Do(s.rt, p.Index, op)
}

func refused[R any](err error) *coordinator.Promise[R] {
	p := coordinator.NewPromise[R]()
	p.Fail(err)
	return p
}

// answering is do for an operation that is over when it returns.
func answering[R any](s *Service, group string, op func(m *Machine, tx *coordinator.Tx) (R, error)) *coordinator.Promise[R] {
	return do(s, group, func(m *Machine, tx *coordinator.Tx, p *coordinator.Promise[R]) {
		if v, err := op(m, tx); err != nil {
			coordinator.Refuse(tx, p, err)
		} else {
			coordinator.Answer(tx, p, v)
		}
	})
}

// Join queues a JoinGroup. The request's frame is free for others when it returns.
func (s *Service) Join(r *JoinRequest) *JoinPromise {
	if r.Group == "" {
		p := coordinator.NewPromise[*kmsg.JoinGroupResponse]()
		p.Resolve(joinError(r.MemberID, kafka.ErrInvalidGroupID))
		return p
	}
	r.Prepare()
	return do(s, r.Group, func(m *Machine, tx *coordinator.Tx, p *JoinPromise) { m.Join(tx, r, p) })
}

// Sync queues a SyncGroup. The request's frame is free for others when it returns.
func (s *Service) Sync(r *SyncRequest) *SyncPromise {
	if r.Group == "" {
		return refused[*kmsg.SyncGroupResponse](kafka.ErrInvalidGroupID)
	}
	r.Prepare()
	return do(s, r.Group, func(m *Machine, tx *coordinator.Tx, p *SyncPromise) { m.Sync(tx, r, p) })
}

// Heartbeat queues a Heartbeat.
func (s *Service) Heartbeat(r *kmsg.HeartbeatRequest) *coordinator.Promise[struct{}] {
	if r.Group == "" {
		return refused[struct{}](kafka.ErrInvalidGroupID)
	}
	return answering(s, r.Group, func(m *Machine, tx *coordinator.Tx) (struct{}, error) { return struct{}{}, m.Heartbeat(tx, r) })
}

// Leave queues a LeaveGroup.
func (s *Service) Leave(r *kmsg.LeaveGroupRequest) *coordinator.Promise[[]kmsg.LeaveGroupResponseMember] {
	if r.Group == "" {
		return refused[[]kmsg.LeaveGroupResponseMember](kafka.ErrInvalidGroupID)
	}
	return answering(s, r.Group, func(m *Machine, tx *coordinator.Tx) ([]kmsg.LeaveGroupResponseMember, error) { return m.Leave(tx, r) })
}

// Commit queues an OffsetCommit.
func (s *Service) Commit(r *Commit) *coordinator.Promise[[][]int16] {
	return answering(s, r.Group, func(m *Machine, tx *coordinator.Tx) ([][]int16, error) { return m.Commit(tx, r) })
}

// Fetch queues an OffsetFetch of one group; see Machine.Fetch.
func (s *Service) Fetch(group string, topics []FetchTopic) *coordinator.Promise[[]FetchedTopic] {
	return answering(s, group, func(m *Machine, _ *coordinator.Tx) ([]FetchedTopic, error) { return m.Fetch(group, topics), nil })
}

// DeleteOffsets queues an OffsetDelete.
func (s *Service) DeleteOffsets(group string, topics []FetchTopic) *coordinator.Promise[[][]int16] {
	if group == "" {
		return refused[[][]int16](kafka.ErrInvalidGroupID)
	}
	return answering(s, group, func(m *Machine, tx *coordinator.Tx) ([][]int16, error) { return m.DeleteOffsets(tx, group, topics) })
}

// Describe queues a description of one group.
func (s *Service) Describe(group string, version int16) *coordinator.Promise[kmsg.DescribeGroupsResponseGroup] {
	return answering(s, group, func(m *Machine, _ *coordinator.Tx) (kmsg.DescribeGroupsResponseGroup, error) {
		return m.Describe(group, version), nil
	})
}

// Delete queues the deletion of one group.
func (s *Service) Delete(group string) *coordinator.Promise[struct{}] {
	return answering(s, group, func(m *Machine, tx *coordinator.Tx) (struct{}, error) { return struct{}{}, m.Delete(tx, group) })
}

// List queues a list of the groups that this node coordinates, one promise for each partition.
func (s *Service) List(states, types []string) []*coordinator.Promise[[]kmsg.ListGroupsResponseGroup] {
	var all []*coordinator.Promise[[]kmsg.ListGroupsResponseGroup]
	for _, p := range s.rt.Led() {
		all = append(all, coordinator.Do(s.rt, p,
			func(m *Machine, tx *coordinator.Tx, p *coordinator.Promise[[]kmsg.ListGroupsResponseGroup]) {
				coordinator.Answer(tx, p, m.List(states, types))
			}))
	}
	return all
}

// servingMax is how long Coordinator waits for groups that this node is about to serve.
const servingMax = 2 * time.Second

// Coordinator finds the broker that coordinates a group. It makes __consumer_offsets if there is none, and where this
// node is the coordinator it waits until the group can be used, both bounded; COORDINATOR_NOT_AVAILABLE if nobody is.
// It waits, so it belongs on the write side.
func (s *Service) Coordinator(ctx context.Context, group string) (kafka.BrokerID, error) {
	p, err := s.partition(group)
	if err != nil {
		if err := s.createTopic(ctx); err != nil {
			return kafka.NoLeader, err
		}
		if p, err = s.partition(group); err != nil {
			return kafka.NoLeader, kafka.ErrCoordinatorNotAvailable.With("%v", err)
		}
	}
	if p.Leader == kafka.NoLeader {
		return p.Leader, kafka.ErrCoordinatorNotAvailable.With("partition %d of %s has no leader", p.Index, kafka.OffsetsTopic)
	}
	if p.Leader == s.o.NodeID {
		ctx, cancel := context.WithCancel(ctx)
		timer := s.o.Clock.AfterFunc(servingMax, cancel)
		s.rt.WaitServing(ctx, p.Index)
		timer.Stop()
		cancel()
	}
	return p.Leader, nil
}
