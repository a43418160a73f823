package api

import (
	"context"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/config"
	"chronik/internal/kafka"
)

// incrementalAlterConfigs: KIP-339; v1 is flexible.
func (h *Handlers) incrementalAlterConfigs(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.IncrementalAlterConfigsRequest)
	return func(ctx context.Context) Response {
		ctx, cancel := h.within(ctx, alterConfigsWait)
		defer cancel()
		resp := req.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
		count := map[resourceKey]int{}
		for i := range req.Resources {
			count[resourceKey{req.Resources[i].ResourceType, req.Resources[i].ResourceName}]++
		}
		for i := range req.Resources {
			t := &req.Resources[i]
			key := resourceKey{t.ResourceType, t.ResourceName}
			change := &configChange{h: h, key: key, validateOnly: req.ValidateOnly, reason: reason(r, "IncrementalAlterConfigs")}
			for _, c := range t.Configs {
				change.operations = append(change.operations, configOperation{c.Name, c.Op, c.Value})
			}
			err := change.run(ctx, count[key] > 1)
			rr := kmsg.NewIncrementalAlterConfigsResponseResource()
			rr.ResourceType, rr.ResourceName = t.ResourceType, t.ResourceName
			rr.ErrorCode, rr.ErrorMessage = kafka.CodeOf(err), kafka.Message(err)
			resp.Resources = append(resp.Resources, rr)
		}
		return Response{Message: resp}
	}
}

// alterList appends to a list what it does not have, or takes away what it has. A list that was not set starts as the
// key's default.
func alterList(k *config.Key, current map[string]string, o configOperation) string {
	value, ok := current[o.name]
	if !ok && k != nil {
		value = k.Default
	}
	elements := config.SplitList(value)
	for _, e := range config.SplitList(*o.value) {
		i := slices.Index(elements, e)
		switch {
		case o.op == kmsg.IncrementalAlterConfigOpAppend && i < 0:
			elements = append(elements, e)
		case o.op == kmsg.IncrementalAlterConfigOpSubtract && i >= 0:
			elements = slices.Delete(elements, i, i+1)
		}
	}
	return strings.Join(elements, ",")
}
