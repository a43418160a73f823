package controller

import (
	"maps"
	"slices"
	"strconv"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	pb "chronik/internal/metadata/metadatapb"
)

// configValueMax is the longest value in bytes, that of Kafka's strings.
const configValueMax = 32767

// setConfig writes what differs. A change of min.insync.replicas that makes an in-sync set large enough clears its eligible
// leaders in the same records (KIP-966): the watermark may move without them from then on.
func (s state) setConfig(c metadata.SetConfig) (decision, error) {
	if err := s.checkResource(c.Resource); err != nil {
		return decision{}, err
	}
	if at := s.image.ConfigChangedAt(c.Resource); c.Base > 0 && at > c.Base {
		return decision{}, kafka.ErrInvalidUpdateVersion.With("the configuration of %q changed at metadata offset %d, after offset %d "+
			"that the change was computed on; look again", c.Resource.Name, at, c.Base)
	}
	before := s.image.Config(c.Resource)
	m := &pb.ConfigChanged{ResourceType: int32(c.Resource.Type), ResourceName: c.Resource.Name}
	for _, key := range slices.Sorted(maps.Keys(c.Values)) {
		value := c.Values[key]
		old, had := before[key]
		switch {
		case value == nil && had:
			m.Removed = append(m.Removed, key)
		case value != nil && (!had || old != *value):
			if err := s.checkConfig(key, *value); err != nil {
				return decision{}, err
			}
			m.Set = append(m.Set, &pb.ConfigEntry{Key: key, Value: *value})
		}
	}
	if c.Replace {
		for _, key := range slices.Sorted(maps.Keys(before)) {
			if _, named := c.Values[key]; !named {
				m.Removed = append(m.Removed, key)
			}
		}
	}
	if len(m.Set) == 0 && len(m.Removed) == 0 {
		return decision{}, nil
	}
	d := decision{records: []*pb.Record{{
		Reason: because(c.Reason, "configuration changed"),
		Kind:   &pb.Record_ConfigChanged{ConfigChanged: m},
	}}}
	changed := func(e *pb.ConfigEntry) bool { return e.GetKey() == metadata.MinInsyncReplicasKey }
	if slices.ContainsFunc(m.Set, changed) || slices.Contains(m.Removed, metadata.MinInsyncReplicasKey) {
		d.records = append(d.records, s.clearELR(d.records[0])...)
	}
	return d, nil
}

// clearELR is the changes of partitions whose in-sync set is large enough once the configuration has changed.
func (s state) clearELR(config *pb.Record) []*pb.Record {
	after, _ := s.image.Apply(s.image.Offset()+1, &pb.Entry{Records: []*pb.Record{config}})
	var records []*pb.Record
	for topic := range after.Topics() {
		for p := range topic.Partitions.All() {
			if len(p.ELR) == 0 {
				continue
			}
			ch := change(topic, p, "min.insync.replicas changed")
			if r := ch.record(after); r != nil {
				records = append(records, r)
			}
		}
	}
	return records
}

func (s state) checkResource(r metadata.Resource) error {
	switch r.Type {
	case metadata.TopicResource:
		if s.image.Topic(r.Name) == nil {
			return kafka.ErrUnknownTopicOrPartition.With("there is no topic %q", r.Name)
		}
	case metadata.BrokerResource:
		if r.Name == "" {
			return nil
		}
		if id, err := strconv.ParseInt(r.Name, 10, 32); err != nil || id < 0 {
			return kafka.ErrInvalidRequest.With("%q is not the ID of a broker, nor empty for the default of all", r.Name)
		}
	case metadata.GroupResource:
		if r.Name == "" || !validText(r.Name) {
			return kafka.ErrInvalidRequest.With("%q is not the name of a group", r.Name)
		}
	default:
		return kafka.ErrInvalidRequest.With("resources of type %d hold no configuration", r.Type)
	}
	return nil
}

// checkConfig checks what a record can hold; what a value means was checked by the caller.
func (s state) checkConfig(key, value string) error {
	if key == "" || !validText(key, value) || len(key) > configValueMax || len(value) > configValueMax {
		return kafka.ErrInvalidConfig.With("configuration key %.100q: key or value is empty, not UTF-8 or above %d bytes", key, configValueMax)
	}
	return nil
}
