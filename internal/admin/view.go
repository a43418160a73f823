package admin

import (
	"slices"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// ClusterView is the answer of GET /v1/cluster.
type ClusterView struct {
	ClusterID  string           `json:"cluster_id"`
	Node       kafka.BrokerID   `json:"node"`       // who answers
	Controller kafka.BrokerID   `json:"controller"` // -1 if unknown
	Term       uint64           `json:"term"`
	Offset     metadata.Offset  `json:"metadata_offset"` // applied by who answers
	Voters     []kafka.BrokerID `json:"voters"`
	Learners   []kafka.BrokerID `json:"learners"`
	Brokers    []BrokerView     `json:"brokers"`
	Topics     int              `json:"topics"`
	Health
}

// Health counts partitions.
type Health struct {
	Partitions      int `json:"partitions"`
	UnderReplicated int `json:"under_replicated"` // fewer in sync than there are replicas
	UnderMinISR     int `json:"under_min_isr"`    // take no acks=all
	Offline         int `json:"offline"`          // have no leader
}

// BrokerView is one broker of a ClusterView.
type BrokerView struct {
	ID        kafka.BrokerID    `json:"id"`
	State     string            `json:"state"` // live or fenced
	Why       string            `json:"why"`   // what brought it there
	Since     time.Time         `json:"since"`
	Epoch     kafka.BrokerEpoch `json:"epoch"`
	Rack      string            `json:"rack,omitempty"`
	Endpoints []EndpointView    `json:"endpoints"`
	Cluster   string            `json:"cluster_address,omitempty"`
	Voter     bool              `json:"voter"`
	Offset    *metadata.Offset  `json:"metadata_offset,omitempty"` // applied, as far as who answers was told
	Leads     int               `json:"leads"`                     // partitions
	Replicas  int               `json:"replicas"`
	InSync    int               `json:"in_sync"`
}

// EndpointView is an address for clients. Host is empty where a client is told the address that it dialled.
type EndpointView struct {
	Listener string `json:"listener"`
	Host     string `json:"host"`
	Port     int32  `json:"port"`
	TLS      bool   `json:"tls"`
}

// The states of a BrokerView.
const (
	StateLive   = "live"
	StateFenced = "fenced"
)

// clusterView is pure, but for what the cluster says.
func clusterView(c Cluster) ClusterView {
	img, q := c.Image(), c.Quorum()
	v := ClusterView{
		ClusterID: img.ClusterID(), Node: c.Self(), Controller: q.Controller, Term: q.Term, Offset: img.Offset(),
		Voters: orEmpty(q.Voters), Learners: orEmpty(q.Learners), Brokers: []BrokerView{}, Topics: img.TopicCount(),
	}
	health, held := survey(img)
	v.Health = health
	for b := range img.Brokers() {
		view := BrokerView{
			ID: b.ID, State: stateOf(b), Why: b.Reason, Since: b.Since, Epoch: b.Epoch, Rack: b.Rack, Endpoints: []EndpointView{},
			Cluster: b.ClusterAddress, Voter: slices.Contains(q.Voters, b.ID),
		}
		for _, e := range b.Endpoints {
			view.Endpoints = append(view.Endpoints, EndpointView{e.Listener, e.Host, e.Port, e.TLS})
		}
		if offset, ok := q.Applied[b.ID]; ok {
			view.Offset = &offset
		}
		if h := held[b.ID]; h != nil {
			view.Leads, view.Replicas, view.InSync = h.leads, h.replicas, h.inSync
		}
		v.Brokers = append(v.Brokers, view)
	}
	return v
}

func stateOf(b *metadata.Broker) string {
	if b.Fenced {
		return StateFenced
	}
	return StateLive
}

type holdings struct{ leads, replicas, inSync int }

// HealthOf walks all partitions.
func HealthOf(img *metadata.Image) Health {
	h, _ := survey(img)
	return h
}

// survey walks all partitions once.
func survey(img *metadata.Image) (Health, map[kafka.BrokerID]*holdings) {
	var h Health
	held := map[kafka.BrokerID]*holdings{}
	of := func(id kafka.BrokerID) *holdings {
		if held[id] == nil {
			held[id] = &holdings{}
		}
		return held[id]
	}
	for t := range img.Topics() {
		for p := range t.Partitions.All() {
			h.add(img, t, p)
			for _, id := range p.Replicas {
				of(id).replicas++
			}
			for _, id := range p.ISR {
				of(id).inSync++
			}
			if p.Leader != kafka.NoLeader {
				of(p.Leader).leads++
			}
		}
	}
	return h, held
}

func (h *Health) add(img *metadata.Image, t *metadata.Topic, p *metadata.Partition) {
	h.Partitions++
	if len(p.ISR) < len(p.Replicas) {
		h.UnderReplicated++
	}
	if len(p.ISR) < img.MinInsyncReplicas(t, len(p.Replicas)) {
		h.UnderMinISR++
	}
	if p.Leader == kafka.NoLeader {
		h.Offline++
	}
}

// TopicView is a topic of GET /v1/topics.
type TopicView struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	Internal bool              `json:"internal"`
	Replicas int               `json:"replicas"` // of partition 0
	Config   map[string]string `json:"config"`   // what was set on the topic
	Health
}

// TopicsView is the answer of GET /v1/topics: topics by name, and from where to ask on.
type TopicsView struct {
	Offset metadata.Offset `json:"metadata_offset"`
	Topics []TopicView     `json:"topics"`
	Next   string          `json:"next,omitempty"` // give it as ?after= for more
}

// TopicDetail is the answer of GET /v1/topics/NAME.
type TopicDetail struct {
	TopicView
	MinInsync int             `json:"min_insync_replicas"`
	Detail    []PartitionView `json:"partition_details"`
}

// PartitionView is a partition as the metadata have it.
type PartitionView struct {
	Partition      int32                `json:"partition"`
	Leader         kafka.BrokerID       `json:"leader"` // -1 for none
	LeaderEpoch    kafka.LeaderEpoch    `json:"leader_epoch"`
	PartitionEpoch kafka.PartitionEpoch `json:"partition_epoch"`
	Replicas       []kafka.BrokerID     `json:"replicas"` // the preferred leader first
	ISR            []kafka.BrokerID     `json:"isr"`
	ELR            []kafka.BrokerID     `json:"elr"`
}

func topicView(img *metadata.Image, t *metadata.Topic) TopicView {
	v := TopicView{Name: t.Name, ID: t.ID.String(), Internal: t.Internal, Config: t.Config}
	if v.Config == nil {
		v.Config = map[string]string{}
	}
	for p := range t.Partitions.All() {
		v.add(img, t, p)
		if p.Index == 0 {
			v.Replicas = len(p.Replicas)
		}
	}
	return v
}

func topicsView(img *metadata.Image, after string, limit int) TopicsView {
	v := TopicsView{Offset: img.Offset(), Topics: []TopicView{}}
	for t := range img.Topics() {
		if t.Name <= after {
			continue
		}
		if len(v.Topics) == limit {
			v.Next = v.Topics[limit-1].Name
			break
		}
		v.Topics = append(v.Topics, topicView(img, t))
	}
	return v
}

func topicDetail(img *metadata.Image, t *metadata.Topic) TopicDetail {
	v := TopicDetail{TopicView: topicView(img, t), Detail: []PartitionView{}}
	v.MinInsync = img.MinInsyncReplicas(t, v.Replicas)
	for p := range t.Partitions.All() {
		v.Detail = append(v.Detail, partitionView(p))
	}
	return v
}

func partitionView(p *metadata.Partition) PartitionView {
	return PartitionView{p.Index, p.Leader, p.LeaderEpoch, p.PartitionEpoch, orEmpty(p.Replicas), orEmpty(p.ISR), orEmpty(p.ELR)}
}

// orEmpty is for JSON, where nil would be null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
