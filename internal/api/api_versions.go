package api

import (
	"context"
	"regexp"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

// softwareName is what KIP-511 lets clients call themselves.
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// features are the cluster's feature levels. None is finalized above 0 yet: transactions and groups are those of level 0.
var features = []string{"group.version", "transaction.version"}

// apiVersions: KIP-35. v3 (KIP-511): the client's name; v5 (KIP-1242): which broker of which cluster it means to reach.
// A version that is not served is answered by the server.
func (h *Handlers) apiVersions(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.ApiVersionsRequest)
	resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
	img := h.Store.Image()
	switch {
	case r.Version >= 3 && (!softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion)):
		resp.ErrorCode = kafka.ErrInvalidRequest.Code
		return ready(resp)
	case r.Version >= 5 && (req.ClusterID != nil && *req.ClusterID != img.ClusterID() ||
		req.NodeID >= 0 && kafka.BrokerID(req.NodeID) != h.NodeID):
		resp.ErrorCode = kafka.ErrRebootstrapRequired.Code
		return ready(resp)
	}
	if r.Version >= 3 && r.Conn != nil {
		r.Conn.SoftwareName, r.Conn.SoftwareVersion = req.ClientSoftwareName, req.ClientSoftwareVersion
	}
	for i := range h.APIs {
		resp.ApiKeys = append(resp.ApiKeys, versionRange(&h.APIs[i]))
	}
	if r.Version >= 4 { // earlier clients do not take a feature whose lowest level is 0
		for _, name := range features {
			f := kmsg.NewApiVersionsResponseSupportedFeature()
			f.Name = name
			resp.SupportedFeatures = append(resp.SupportedFeatures, f)
		}
	}
	resp.FinalizedFeaturesEpoch = int64(img.Offset())
	return ready(resp)
}

func versionRange(k *Key) kmsg.ApiVersionsResponseApiKey {
	v := kmsg.NewApiVersionsResponseApiKey()
	v.ApiKey, v.MinVersion, v.MaxVersion = k.Key, k.MinVersion, k.MaxVersion
	return v
}
