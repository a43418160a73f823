package api

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// describeConfigs: v1 has sources and synonyms (KIP-226), v3 types and documentation (KIP-569).
func (h *Handlers) describeConfigs(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.DescribeConfigsRequest)
	return func(ctx context.Context) Response {
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		img := h.Store.Image()
		var sure surely
		for i := range req.Resources {
			if t := &req.Resources[i]; t.ResourceType == kmsg.ConfigResourceTypeTopic && img.Topic(t.ResourceName) == nil {
				_ = sure.ask(ctx, h)
				img = h.Store.Image()
				break
			}
		}
		for i := range req.Resources {
			resource := &req.Resources[i]
			rr := kmsg.NewDescribeConfigsResponseResource()
			rr.ResourceType, rr.ResourceName = resource.ResourceType, resource.ResourceName
			entries, err := h.configEntries(img, r.Conn, resource)
			if sure.err != nil && unknown(kafka.CodeOf(err)) {
				err = sure.err
			}
			rr.ErrorCode, rr.ErrorMessage = kafka.CodeOf(err), kafka.Message(err)
			rr.Configs = []kmsg.DescribeConfigsResponseResourceConfig{}
			for _, e := range entries {
				if len(resource.ConfigNames) == 0 || slices.Contains(resource.ConfigNames, e.Key.Name) {
					rr.Configs = append(rr.Configs, configEntry(resource.ResourceType, e, req))
				}
			}
			resp.Resources = append(resp.Resources, rr)
		}
		return Response{Message: resp}
	}
}

// layers are the places that configuration comes from, as of img.
func (h *Handlers) layers(img *metadata.Image) *config.Layers {
	return &config.Layers{
		Start:      h.Static,
		AllBrokers: img.Config(metadata.Resource{Type: metadata.BrokerResource}),
		ThisBroker: img.Config(h.thisBroker()),
	}
}

func (h *Handlers) thisBroker() metadata.Resource {
	return metadata.Resource{Type: metadata.BrokerResource, Name: strconv.Itoa(int(h.NodeID))}
}

func (h *Handlers) configEntries(img *metadata.Image, conn *Conn, resource *kmsg.DescribeConfigsRequestResource) ([]config.Entry, error) {
	var entries []config.Entry
	layers := h.layers(img)
	name := resource.ResourceName
	switch resource.ResourceType {
	case kmsg.ConfigResourceTypeTopic:
		if err := kafka.CheckTopicName(name); err != nil {
			return nil, err
		}
		topic := img.Topic(name)
		if topic == nil {
			return nil, kafka.ErrUnknownTopicOrPartition.With("there is no topic %s", name)
		}
		keys := config.TopicKeys()
		for i := range keys {
			entries = append(entries, topicEntry(img, layers, &keys[i], topic))
		}
		return entries, nil
	case kmsg.ConfigResourceTypeBroker:
		if name != "" {
			if err := h.checkBrokerName(name); err != nil {
				return nil, err
			}
		}
		keys := config.BrokerKeys()
		for i := range keys {
			if name != "" {
				entries = append(entries, withClusterDefault(img, layers.Broker(&keys[i])))
			} else if value, ok := layers.AllBrokers[keys[i].Name]; ok {
				entries = append(entries, config.Entry{Key: &keys[i], Value: value, Set: true, Source: config.FromAllBrokers,
					Synonyms: []config.Synonym{{Name: keys[i].Name, Value: value, Source: config.FromAllBrokers}}})
			}
		}
		if name != "" {
			entries = append(entries, h.told(img, conn)...)
		}
		return entries, nil
	case kmsg.ConfigResourceTypeGroupConfig:
		if name == "" {
			return nil, kafka.ErrInvalidRequest.With("the name of a group must not be empty")
		}
		keys := config.GroupKeys()
		for i := range keys {
			entries = append(entries, layers.Group(&keys[i], img.Config(metadata.Resource{Type: metadata.GroupResource, Name: name})))
		}
		return entries, nil
	}
	return nil, unsupportedResource(resource.ResourceType)
}

func topicEntry(img *metadata.Image, layers *config.Layers, k *config.Key, topic *metadata.Topic) config.Entry {
	return withClusterDefault(img, layers.Topic(k, topic.Config))
}

// withClusterDefault puts in the default of a key that follows the number of brokers, where nobody has set it.
func withClusterDefault(img *metadata.Image, e config.Entry) config.Entry {
	if e.Key.Name != metadata.MinInsyncReplicasKey || e.Source != config.FromDefault {
		return e
	}
	e.Value = strconv.Itoa(img.DefaultMinInsyncReplicas())
	for i := range e.Synonyms {
		if e.Synonyms[i].Source == config.FromDefault {
			e.Synonyms[i].Value = e.Value
		}
	}
	return e
}

func unsupportedResource(t kmsg.ConfigResourceType) error {
	switch t {
	case kmsg.ConfigResourceTypeBrokerLogger, 16:
		return kafka.ErrInvalidRequest.With("configuration of resource type %d is not supported, only topics (2), brokers (4) and groups (32)", t)
	}
	return kafka.ErrInvalidRequest.With("unknown resource type %d", t)
}

// checkBrokerName: a broker answers for itself only.
func (h *Handlers) checkBrokerName(name string) error {
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return kafka.ErrInvalidRequest.With("the broker ID %q is not a number", name)
	}
	if kafka.BrokerID(id) != h.NodeID {
		return kafka.ErrInvalidRequest.With("this is broker %d, not %d", h.NodeID, id)
	}
	return nil
}

func configEntry(resource kmsg.ConfigResourceType, e config.Entry, req *kmsg.DescribeConfigsRequest) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name = e.Key.Name
	if e.Set {
		c.Value = &e.Value
	}
	c.Source, c.IsDefault = kmsg.ConfigSource(e.Source), e.Source == config.FromDefault
	c.ReadOnly = resource == kmsg.ConfigResourceTypeBroker && !e.Key.Dynamic
	c.ConfigType = kmsg.ConfigType(e.Key.Type)
	c.ConfigSynonyms = []kmsg.DescribeConfigsResponseResourceConfigConfigSynonym{}
	if req.IncludeSynonyms {
		for _, s := range e.Synonyms {
			cs := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			cs.Name, cs.Value, cs.Source = s.Name, &s.Value, kmsg.ConfigSource(s.Source)
			c.ConfigSynonyms = append(c.ConfigSynonyms, cs)
		}
	}
	if req.IncludeDocumentation {
		c.Documentation = &e.Key.Doc
	}
	return c
}
