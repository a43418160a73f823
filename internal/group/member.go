package group

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// member is a member of a classic group.
type member struct {
	id               string
	instance         *string // group.instance.id of a static member (KIP-345)
	clientID         string
	clientHost       string
	rebalanceTimeout int32 // milliseconds
	sessionTimeout   int32 // milliseconds
	protocolType     string
	protocols        []protocol // in order of preference
	assignment       []byte
	join             *JoinPromise // waits for the rebalance
	sync             *SyncPromise // waits for the leader's assignment
	isNew            bool         // has not been told its member ID by a finished join: cannot send heartbeats
}

type protocol struct {
	name     string
	metadata []byte
}

// copyProtocols copies what lies in the request's frame. A name that comes again does not count.
func copyProtocols(in []kmsg.JoinGroupRequestProtocol) []protocol {
	out, seen := make([]protocol, 0, len(in)), make(map[string]struct{}, len(in))
	for i := range in {
		if _, twice := seen[in[i].Name]; !twice {
			seen[in[i].Name] = struct{}{}
			out = append(out, protocol{in[i].Name, bytes.Clone(in[i].Metadata)})
		}
	}
	return out
}

func (mb *member) metadata(protocol string) []byte {
	for i := range mb.protocols {
		if mb.protocols[i].name == protocol {
			return mb.protocols[i].metadata
		}
	}
	return nil
}

func (mb *member) matches(protocols []protocol) bool {
	return slices.EqualFunc(mb.protocols, protocols, func(a, b protocol) bool {
		return a.name == b.name && bytes.Equal(a.metadata, b.metadata)
	})
}

// heartbeatSatisfied says that the member may be silent: it waits for an answer of this coordinator.
func (mb *member) heartbeatSatisfied() bool { return !mb.isNew && (mb.join != nil || mb.sync != nil) }

// subscribedTopics adds the topics of a consumer's subscription. Only its prefix of version 0 is read (version, topics),
// which all later versions keep.
func subscribedTopics(subscription []byte, into map[string]struct{}) bool {
	if len(subscription) < 6 {
		return false
	}
	n := int32(binary.BigEndian.Uint32(subscription[2:]))
	rest := subscription[6:]
	if n < 0 || int(n) > len(rest)/2 {
		return false
	}
	for range n {
		if len(rest) < 2 {
			return false
		}
		size := int(int16(binary.BigEndian.Uint16(rest)))
		if rest = rest[2:]; size < 0 || size > len(rest) {
			return false
		}
		into[string(rest[:size])] = struct{}{}
		rest = rest[size:]
	}
	return true
}
