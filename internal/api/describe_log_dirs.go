package api

import (
	"cmp"
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
	"chronik/internal/replica"
)

// describeLogDirs (key 35, KIP-113) tells how large this node's replicas are; v2 is flexible, v3 adds an error for all, v4 the
// size of the file system (KIP-827), v5 whether the directory takes no new replicas (KIP-1066). A node has one data directory,
// which takes them.
func (h *Handlers) describeLogDirs(_ context.Context, r *Request) Reply {
	req := r.Body.(*kmsg.DescribeLogDirsRequest)
	return func(context.Context) Response {
		resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
		dir := kmsg.NewDescribeLogDirsResponseDir()
		dir.Dir = h.Static.DataDir
		if abs, err := filepath.Abs(dir.Dir); err == nil {
			dir.Dir = abs
		}
		if total, usable, err := h.Volume(); err == nil {
			dir.TotalBytes, dir.UsableBytes = total, usable
		} else {
			h.Logger.Error("DescribeLogDirs: the size of the file system is unknown", "dir", dir.Dir, "error", err)
			dir.ErrorCode = kafka.CodeOf(err)
			resp.Dirs = append(resp.Dirs, dir)
			return Response{Message: resp}
		}
		asked := askedReplicas(req)
		for _, p := range h.sortedReplicas() {
			if asked != nil && !asked[topicIndex{p.Topic(), p.ID().Partition}] {
				continue
			}
			if n := len(dir.Topics); n == 0 || dir.Topics[n-1].Topic != p.Topic() {
				dir.Topics = append(dir.Topics, kmsg.DescribeLogDirsResponseDirTopic{Topic: p.Topic()})
			}
			t := &dir.Topics[len(dir.Topics)-1]
			t.Partitions = append(t.Partitions, kmsg.DescribeLogDirsResponseDirTopicPartition{Partition: p.ID().Partition, Size: p.Size()})
		}
		resp.Dirs = append(resp.Dirs, dir)
		return Response{Message: resp}
	}
}

func (h *Handlers) sortedReplicas() []*replica.Partition {
	all := h.Replicas.Partitions()
	slices.SortFunc(all, func(a, b *replica.Partition) int {
		return cmp.Or(strings.Compare(a.Topic(), b.Topic()), cmp.Compare(a.ID().Partition, b.ID().Partition))
	})
	return all
}

// askedReplicas are those that the request names; nil for all.
func askedReplicas(req *kmsg.DescribeLogDirsRequest) map[topicIndex]bool {
	if req.Topics == nil {
		return nil
	}
	asked := map[topicIndex]bool{}
	for i := range req.Topics {
		for _, p := range req.Topics[i].Partitions {
			asked[topicIndex{req.Topics[i].Topic, p}] = true
		}
	}
	return asked
}
