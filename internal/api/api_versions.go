package api

import (
	"context"
	"regexp"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

// softwareName is what KIP-511 lets clients call themselves.
var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

// features are those of the cluster and their highest level, which is the finalized one: groups of KIP-848 are group.version 1,
// transactions of KIP-890 (transaction.version 1 and 2) are not there yet.
var features = []struct {
	name  string
	level int16
}{{"group.version", 1}, {"transaction.version", 0}}

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
		for _, o := range features {
			f := kmsg.NewApiVersionsResponseSupportedFeature()
			f.Name, f.MaxVersion = o.name, o.level
			resp.SupportedFeatures = append(resp.SupportedFeatures, f)
		}
	}
	for _, o := range features {
		if o.level > 0 {
			f := kmsg.NewApiVersionsResponseFinalizedFeature()
			f.Name, f.MinVersionLevel, f.MaxVersionLevel = o.name, o.level, o.level
			resp.FinalizedFeatures = append(resp.FinalizedFeatures, f)
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
