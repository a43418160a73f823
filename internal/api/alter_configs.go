package api

import (
	"context"
	"errors"
	"maps"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/config"
	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// alterConfigs replaces all that was set on a resource; v2 is flexible.
func (h *Handlers) alterConfigs(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.AlterConfigsRequest)
	return func(ctx context.Context) Response {
		ctx, cancel := h.within(ctx, alterConfigsWait)
		defer cancel()
		resp := req.ResponseKind().(*kmsg.AlterConfigsResponse)
		count := map[resourceKey]int{}
		for i := range req.Resources {
			count[resourceKey{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
		}
		for i := range req.Resources {
			t := &req.Resources[i]
			key := resourceKey{t.ResourceType, t.ResourceName}
			change := &configChange{h: h, key: key, replace: true, validateOnly: req.ValidateOnly, reason: reason(r, "AlterConfigs")}
			for _, c := range t.Configs {
				change.operations = append(change.operations, configOperation{c.Name, kmsg.IncrementalAlterConfigOpSet, c.Value})
			}
			err := change.run(ctx, count[key] > 1)
			rr := kmsg.NewAlterConfigsResponseResource()
			rr.ResourceType, rr.ResourceName = t.ResourceType, t.ResourceName
			rr.ErrorCode, rr.ErrorMessage = kafka.CodeOf(err), kafka.Message(err)
			resp.Resources = append(resp.Resources, rr)
		}
		return Response{Message: resp}
	}
}

// alterConfigsWait bounds a request to change configurations, of however many resources, in milliseconds: it carries no time of
// its own.
const alterConfigsWait = 30_000

type resourceKey struct {
	kind kmsg.ConfigResourceType
	name string
}

// configChange is a change of one resource, by either API.
type configChange struct {
	h            *Handlers
	key          resourceKey
	operations   []configOperation
	replace      bool
	validateOnly bool
	reason       string
}

type configOperation struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value *string
}

// alterAttempts is how often a change is computed anew because somebody else has changed the same resource meanwhile.
const alterAttempts = 10

// run checks the change and commits it. The answer comes once it is in force on this node.
func (c *configChange) run(ctx context.Context, duplicate bool) error {
	if duplicate {
		return kafka.ErrInvalidRequest.With("the resource %q is named more than once", c.key.name)
	}
	if err := c.checkForm(); err != nil {
		return err
	}
	var sure surely
	if c.key.kind == kmsg.ConfigResourceTypeTopic && c.h.Store.Image().Topic(c.key.name) == nil {
		_ = sure.ask(ctx, c.h)
	}
	var err error
	for range alterAttempts {
		if err = c.commit(ctx); !errors.Is(err, kafka.ErrInvalidUpdateVersion) {
			break
		}
	}
	if sure.err != nil && unknown(kafka.CodeOf(err)) {
		err = sure.err
	}
	if err == nil && !c.validateOnly {
		err = c.h.inForce(ctx)
	}
	return c.h.outcome("change of configuration of "+c.key.name, err)
}

// commit computes the change on the image of now and hands it to the controller, which refuses it with
// INVALID_UPDATE_VERSION where the resource is another by then.
func (c *configChange) commit(ctx context.Context) error {
	img := c.h.Store.Image()
	resource := metadata.Resource{Type: metadata.ResourceType(c.key.kind), Name: c.key.name}
	current := img.Config(resource)
	var next map[string]string
	var err error
	switch c.key.kind {
	case kmsg.ConfigResourceTypeTopic:
		if next, err = c.apply(current, config.TopicKey); err == nil {
			err = c.checkTopic(img, next)
		}
	case kmsg.ConfigResourceTypeBroker:
		if next, err = c.apply(current, config.BrokerKey); err == nil {
			err = c.checkBroker(img, next)
		}
	case kmsg.ConfigResourceTypeGroupConfig:
		if next, err = c.apply(current, config.GroupKey); err == nil {
			err = c.checkGroup(next)
		}
	default:
		err = unsupportedResource(c.key.kind)
	}
	if err != nil {
		return err
	}
	cmd := metadata.SetConfig{Resource: resource, Values: difference(current, next), Base: img.Offset(), Reason: c.reason}
	return c.h.Store.SetConfig(ctx, cmd, c.validateOnly)
}

// checkForm is for what is wrong whatever the resource.
func (c *configChange) checkForm() error {
	seen := map[string]bool{}
	for _, o := range c.operations {
		if seen[o.name] {
			return kafka.ErrInvalidRequest.With("the key %s is given twice", o.name)
		}
		seen[o.name] = true
		if o.op < kmsg.IncrementalAlterConfigOpSet || o.op > kmsg.IncrementalAlterConfigOpSubtract {
			return kafka.ErrInvalidRequest.With("the key %s has the unknown operation %d", o.name, o.op)
		}
		if o.value == nil && o.op != kmsg.IncrementalAlterConfigOpDelete {
			return kafka.ErrInvalidRequest.With("the key %s has no value", o.name)
		}
	}
	return nil
}

// apply is the resource's configuration after the operations.
func (c *configChange) apply(current map[string]string, find func(string) *config.Key) (map[string]string, error) {
	next := map[string]string{}
	if !c.replace {
		maps.Copy(next, current)
	}
	for _, o := range c.operations {
		switch o.op {
		case kmsg.IncrementalAlterConfigOpSet:
			next[o.name] = *o.value
		case kmsg.IncrementalAlterConfigOpDelete:
			delete(next, o.name)
		default:
			k := find(o.name)
			if k != nil && k.Type != config.List {
				return nil, kafka.ErrInvalidConfig.With("%s is not a list: it cannot be appended to or subtracted from", o.name)
			}
			next[o.name] = alterList(k, next, o)
		}
	}
	return next, nil
}

// checkTopic: first the configuration, then whether there is such a topic, as in Kafka.
func (c *configChange) checkTopic(img *metadata.Image, next map[string]string) error {
	if c.key.name == "" {
		return kafka.ErrInvalidRequest.With("a topic's configuration needs the topic's name; defaults for all topics are set on brokers")
	}
	if err := kafka.CheckTopicName(c.key.name); err != nil {
		return err
	}
	topic := img.Topic(c.key.name)
	internal := kafka.IsInternalTopic(c.key.name)
	if err := c.h.Config.Load().CheckTopic(next, internal); err != nil {
		return kafka.ErrInvalidConfig.With("topic %s: %v", c.key.name, err)
	}
	if topic == nil {
		return kafka.ErrUnknownTopicOrPartition.With("there is no topic %s", c.key.name)
	}
	return nil
}

// checkBroker: what was set before may have become unknown since; only what is set now is judged key by key. Kafka
// answers bad values of brokers with INVALID_REQUEST.
func (c *configChange) checkBroker(img *metadata.Image, next map[string]string) error {
	if c.key.name != "" {
		if err := c.h.checkBrokerName(c.key.name); err != nil {
			return err
		}
	}
	for _, o := range c.operations {
		if o.op == kmsg.IncrementalAlterConfigOpDelete {
			continue
		}
		k := config.BrokerKey(o.name)
		if k == nil {
			return kafka.ErrInvalidConfig.With("%v", config.CheckBroker(o.name, ""))
		}
		if !k.Dynamic {
			return kafka.ErrInvalidRequest.With("%s cannot be changed while the broker runs; set it at start", o.name)
		}
		if err := k.Check(next[o.name]); err != nil {
			return kafka.ErrInvalidRequest.With("%s: %v", o.name, err)
		}
	}
	allBrokers, thisBroker := img.Config(metadata.Resource{Type: metadata.BrokerResource}), img.Config(c.h.thisBroker())
	if c.key.name == "" {
		allBrokers = next
	} else {
		thisBroker = next
	}
	if _, err := c.h.Static.WithDynamic(allBrokers, thisBroker); err != nil {
		return kafka.ErrInvalidRequest.With("%v", err)
	}
	return nil
}

// checkGroup: a group need not exist to have a configuration, as in Kafka.
func (c *configChange) checkGroup(next map[string]string) error {
	if c.key.name == "" {
		return kafka.ErrInvalidRequest.With("a group's configuration needs the group's name; defaults for all groups are set on brokers")
	}
	if err := c.h.Config.Load().CheckGroup(next); err != nil {
		return kafka.ErrInvalidConfig.With("group %s: %v", c.key.name, err)
	}
	return nil
}

// difference is what turns current into next.
func difference(current, next map[string]string) map[string]*string {
	values := map[string]*string{}
	for name, value := range next {
		if old, ok := current[name]; !ok || old != value {
			values[name] = &value
		}
	}
	for name := range current {
		if _, ok := next[name]; !ok {
			values[name] = nil
		}
	}
	return values
}

// inForce returns once what the metadata says of configuration is acted on here.
func (h *Handlers) inForce(ctx context.Context) error {
	if err := h.RefreshConfig(); err != nil {
		return err
	}
	return h.settle(ctx)
}

// RefreshConfig puts the brokers' configuration in force that the metadata has now.
func (h *Handlers) RefreshConfig() error {
	img := h.Store.Image()
	now, err := h.Static.WithDynamic(img.Config(metadata.Resource{Type: metadata.BrokerResource}), img.Config(h.thisBroker()))
	if err != nil {
		return err
	}
	h.Config.Advance(int64(img.Offset()), now)
	return nil
}
