package api

import (
	"context"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// listedResources are the types that a ListConfigResources without types asks for; loggers and client metrics have none here.
var listedResources = []int8{int8(kmsg.ConfigResourceTypeTopic), int8(kmsg.ConfigResourceTypeBroker), int8(kmsg.ConfigResourceTypeBrokerLogger),
	16, int8(kmsg.ConfigResourceTypeGroupConfig)}

// listConfigResources names what can have a configuration: v0 client metrics (KIP-714), of which there are none, v1 the other
// types too (KIP-1142): topics and brokers that exist, and groups that were given a configuration.
func (h *Handlers) listConfigResources(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.ListConfigResourcesRequest)
	resp := kmsg.NewPtrListConfigResourcesResponse()
	types := req.ResourceTypes
	switch {
	case r.Version == 0:
		types = nil
	case len(types) == 0:
		types = listedResources
	}
	for _, t := range types {
		if !slices.Contains(listedResources, t) {
			resp.ErrorCode = kafka.ErrUnsupportedVersion.Code
			return ready(resp)
		}
	}
	img := h.Store.Image()
	for _, t := range slices.Compact(slices.Sorted(slices.Values(types))) {
		for _, name := range configResources(img, kmsg.ConfigResourceType(t)) {
			row := kmsg.NewListConfigResourcesResponseConfigResource()
			row.Name, row.Type = name, t
			resp.ConfigResources = append(resp.ConfigResources, row)
		}
	}
	return ready(resp)
}

func configResources(img *metadata.Image, t kmsg.ConfigResourceType) []string {
	var names []string
	switch t {
	case kmsg.ConfigResourceTypeTopic:
		for topic := range img.Topics() {
			names = append(names, topic.Name)
		}
	case kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeBrokerLogger:
		for b := range img.Brokers() {
			names = append(names, strconv.Itoa(int(b.ID)))
		}
	case kmsg.ConfigResourceTypeGroupConfig:
		for r := range img.ConfiguredResources() {
			if r.Type == metadata.GroupResource && len(img.Config(r)) > 0 {
				names = append(names, r.Name)
			}
		}
	}
	return names
}
