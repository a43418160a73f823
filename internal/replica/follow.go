package replica

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// batchesMax bounds how many batches of events are handled as one.
const batchesMax = 256

// follow is the manager's loop: it takes the batches that there are, acts on what they touch as the newest of their
// images has it, and says how far it has come.
func (m *Manager) follow(cursor *metadata.Cursor) {
	var next *metadata.Batch
	swept := false
	for m.ctx.Err() == nil {
		w := newWork(m.o.Metadata.Image()) // before the polls: once they find nothing, all up to here is handled
		if next != nil {
			w.add(*next)
			next = nil
		}
		drained := false
		for range batchesMax {
			batch, ok := cursor.Poll()
			if !ok {
				drained = true
				break
			}
			w.add(batch)
		}
		if !drained { // the image read first may be ahead of the events
			w.image = w.last
		}
		w.touch(m.takeRetries()...)
		m.do(w)
		if w.image != nil {
			m.reached(w.image.Offset())
		}
		if !swept {
			swept = true
			m.done.Go(m.sweep)
		}
		if drained {
			next = m.await(cursor)
		}
	}
}

// depose ends leadership that is over before follow comes to it.
func (m *Manager) depose(cursor *metadata.Cursor) {
	for {
		batch, err := cursor.Next(m.ctx)
		if err != nil {
			return
		}
		for _, e := range batch.Events {
			m.deposeBy(e)
		}
	}
}

func (m *Manager) deposeBy(e metadata.Event) {
	switch e := e.(type) {
	case metadata.PartitionLeaderChanged:
		m.partitions.RLock()
		p := m.partitions.byID[kafka.TopicPartition{Topic: e.Topic.ID, Partition: e.Partition.Index}]
		m.partitions.RUnlock()
		if p != nil {
			p.depose(e.Partition)
		}
	case metadata.SnapshotInstalled:
		for d := range metadata.Difference(e.Old, e.New) {
			m.deposeBy(d)
		}
	}
}

// await waits for a batch, or until the loop is to look around.
func (m *Manager) await(cursor *metadata.Cursor) *metadata.Batch {
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	m.mu.Lock()
	if m.mu.kicked {
		m.mu.kicked = false
		m.mu.Unlock()
		return nil
	}
	m.mu.idle = cancel
	m.mu.Unlock()
	batch, err := cursor.Next(ctx)
	m.mu.Lock()
	m.mu.idle, m.mu.kicked = nil, false
	m.mu.Unlock()
	if err != nil {
		if errors.Is(err, metadata.ErrClosed) {
			m.stop()
		}
		return nil
	}
	return &batch
}

// work is what a run of batches touches.
type work struct {
	image   *metadata.Image // to act on
	last    *metadata.Image // of the last batch
	dirty   map[kafka.TopicPartition]struct{}
	configs map[kafka.TopicID]struct{} // topics whose configuration is another
	broker  bool                       // the configuration of brokers is another
	live    bool                       // a broker may be taken into in-sync sets that was not before
}

func newWork(image *metadata.Image) *work {
	return &work{image: image, dirty: map[kafka.TopicPartition]struct{}{}, configs: map[kafka.TopicID]struct{}{}}
}

func (w *work) touch(ids ...kafka.TopicPartition) {
	for _, id := range ids {
		w.dirty[id] = struct{}{}
	}
}

func (w *work) add(batch metadata.Batch) {
	w.last = batch.Image
	if batch.Image.Offset() > w.image.Offset() {
		w.image = batch.Image
	}
	for _, e := range batch.Events {
		w.addEvent(batch.Image, e)
	}
}

func (w *work) addEvent(image *metadata.Image, e metadata.Event) {
	switch e := e.(type) {
	case metadata.TopicDeleted:
		for i := range e.Topic.Partitions.Len() {
			w.touch(kafka.TopicPartition{Topic: e.Topic.ID, Partition: int32(i)})
		}
	case metadata.PartitionAssigned:
		w.touch(kafka.TopicPartition{Topic: e.Topic.ID, Partition: e.Partition.Index})
	case metadata.PartitionLeaderChanged:
		w.touch(kafka.TopicPartition{Topic: e.Topic.ID, Partition: e.Partition.Index})
	case metadata.ISRUpdated:
		w.touch(kafka.TopicPartition{Topic: e.Topic.ID, Partition: e.Partition.Index})
	case metadata.ConfigChanged:
		switch e.Resource.Type {
		case metadata.TopicResource:
			if t := image.Topic(e.Resource.Name); t != nil {
				w.configs[t.ID] = struct{}{}
			}
		case metadata.BrokerResource:
			w.broker = true
		}
	case metadata.BrokerRegistered, metadata.BrokerRemoved: // defaults follow the number of brokers
		w.broker, w.live = true, true
	case metadata.BrokerUnfenced, metadata.BrokerStateChanged: // it may be admitted again
		w.live = true
	case metadata.SnapshotInstalled:
		w.broker, w.live = true, true
		for d := range metadata.Difference(e.Old, e.New) {
			w.addEvent(e.New, d)
		}
	}
}

// do makes the touched partitions agree with w.image, many at a time.
func (m *Manager) do(w *work) {
	if w.broker {
		m.reloadConfig(w.image)
		for _, p := range m.all() {
			w.configs[p.id.Topic] = struct{}{}
		}
	}
	for id := range w.configs {
		if t := w.image.TopicByID(id); t != nil {
			for i := range t.Partitions.Len() {
				w.touch(kafka.TopicPartition{Topic: id, Partition: int32(i)})
			}
		}
	}
	ids := slices.SortedFunc(maps.Keys(w.dirty), compareIDs)
	var kept, gone []kafka.TopicPartition
	for _, id := range ids {
		if meta := w.image.Partition(id); meta != nil && slices.Contains(meta.Replicas, m.o.Broker) {
			kept = append(kept, id)
			continue
		}
		m.forget(id, w.image.TopicByID(id.Topic) != nil)
		if m.beginRemoving(id) {
			gone = append(gone, id)
		}
	}
	m.eachAtOnce(kept, func(id kafka.TopicPartition) {
		_, reconfigure := w.configs[id.Topic]
		m.settle(w.image, id, reconfigure)
	})
	if w.live && m.replicates {
		m.review()
	}
	if len(gone) > 0 { // removing files takes its time, and nobody has to wait for it
		m.done.Go(func() { m.eachAtOnce(gone, m.remove) })
	}
}

// eachAtOnce runs f for all, many at a time, and returns when all are done.
func (m *Manager) eachAtOnce(ids []kafka.TopicPartition, f func(kafka.TopicPartition)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(m.o.Concurrency, len(ids)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(ids); i = next.Add(1) - 1 {
				f(ids[i])
			}
		})
	}
	workers.Wait()
}

// settle makes a partition of this node agree with the image. Concurrent calls are for different partitions.
func (m *Manager) settle(image *metadata.Image, id kafka.TopicPartition, reconfigure bool) {
	m.partitions.RLock()
	p := m.partitions.byID[id]
	m.partitions.RUnlock()
	topic, meta := image.TopicByID(id.Topic), image.Partition(id)
	var err error
	if p == nil && m.isRemoving(id) {
		m.retryLater(id) // it begins anew once what it was is gone
		return
	}
	if p == nil {
		p, err = m.create(id, topic.Name, m.resolve(image, topic, meta))
	} else if reconfigure {
		c := m.resolve(image, topic, meta)
		m.store.reconfigure(id, c)
		p.reconfigure(c)
	}
	if err == nil {
		err = p.apply(m.ctx, meta)
	}
	if err != nil && m.ctx.Err() == nil {
		m.log.Error("a partition could not be made to agree with the metadata; trying again",
			"partition", id, "error", err, "after", retryDelay)
		m.retryLater(id)
	}
}

func (m *Manager) create(id kafka.TopicPartition, topic string, c config.Topic) (*Partition, error) {
	d, err := m.store.create(id, c)
	if err != nil {
		return nil, err
	}
	p := newPartition(id, topic, d, c, m.node)
	m.partitions.Lock()
	m.partitions.byID[id] = p
	m.partitions.Unlock()
	return p, nil
}

// forget ends service of a partition that this node has no more: its topic was deleted, or it moved elsewhere.
func (m *Manager) forget(id kafka.TopicPartition, moved bool) {
	m.partitions.Lock()
	p := m.partitions.byID[id]
	delete(m.partitions.byID, id)
	m.partitions.Unlock()
	switch {
	case p == nil:
	case moved:
		p.leave(kafka.ErrNotLeaderOrFollower)
	default:
		p.leave(kafka.ErrUnknownTopicOrPartition.With("topic %s was deleted", p.topic))
	}
}

// remove frees the disk of a partition that was forgotten. If the node stops first, the next start does it.
func (m *Manager) remove(id kafka.TopicPartition) {
	defer m.endRemoving(id)
	if err := m.store.remove(m.ctx, id); err != nil && m.ctx.Err() == nil {
		m.log.Error("the files of a partition could not be removed; trying again", "partition", id, "error", err, "after", retryDelay)
		m.retryLater(id)
	}
}

// beginRemoving is false where that is under way.
func (m *Manager) beginRemoving(id kafka.TopicPartition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, under := m.mu.removing[id]
	m.mu.removing[id] = struct{}{}
	return !under
}

func (m *Manager) isRemoving(id kafka.TopicPartition) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, under := m.mu.removing[id]
	return under
}

func (m *Manager) endRemoving(id kafka.TopicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.removing, id)
}

// sweep deletes partitions on the disk whose topic is gone: it was deleted while this node was down. The image of a node
// that has just started may be old, so nothing is taken for gone before a barrier. What is on the disk is listed before that: what
// is made meanwhile is in no older image.
func (m *Manager) sweep() {
	listed := m.store.partitions()
	if err := m.o.Metadata.Barrier(m.ctx); err != nil {
		if m.ctx.Err() == nil {
			m.log.Warn("cannot tell which partitions on the disk belong to deleted topics; they stay until the next start", "error", err)
		}
		return
	}
	image := m.o.Metadata.Image()
	for _, id := range listed {
		if m.ctx.Err() != nil || image.TopicByID(id.Topic) != nil {
			continue
		}
		m.log.Info("deleting a partition whose topic was deleted while this node was down", "partition", id)
		if err := m.store.remove(m.ctx, id); err != nil {
			m.log.Error("deleting a partition of a deleted topic failed; the next start tries again", "partition", id, "error", err)
		}
	}
}

func (m *Manager) retryLater(id kafka.TopicPartition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return
	}
	m.mu.retry = append(m.mu.retry, id)
	if m.mu.timer == nil {
		m.mu.timer = m.o.Clock.AfterFunc(retryDelay, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.mu.timer = nil
			m.kickLocked()
		})
	}
}

// takeRetries returns what is to be tried again, once its time has come.
func (m *Manager) takeRetries() []kafka.TopicPartition {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.timer != nil {
		return nil
	}
	ids := m.mu.retry
	m.mu.retry = nil
	return ids
}

func (m *Manager) reloadConfig(image *metadata.Image) {
	all := image.Config(metadata.Resource{Type: metadata.BrokerResource})
	own := image.Config(metadata.Resource{Type: metadata.BrokerResource, Name: strconv.Itoa(int(m.o.Broker))})
	c, err := m.o.Config.WithDynamic(all, own)
	if err != nil {
		m.log.Error("the brokers' dynamic configuration is not applied to topics", "error", err)
		return
	}
	m.config = c
}

// resolve is the configuration of a partition: the topic's, with a min.insync.replicas that follows the number of
// brokers where nobody has set it.
func (m *Manager) resolve(image *metadata.Image, t *metadata.Topic, p *metadata.Partition) config.Topic {
	c, err := m.config.ResolveTopic(t.Config)
	if err != nil {
		m.log.Error("a topic's configuration is not applied; it runs with the defaults", "topic", t.Name, "error", err)
		c = m.config.Topic
	}
	c.MinInsyncReplicas = max(c.MinInsyncReplicas, int32(image.MinInsyncReplicas(t, len(p.Replicas))))
	return c
}

func compareIDs(a, b kafka.TopicPartition) int {
	if c := slices.Compare(a.Topic[:], b.Topic[:]); c != 0 {
		return c
	}
	return int(a.Partition) - int(b.Partition)
}
