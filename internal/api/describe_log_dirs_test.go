package api

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/kafka"
)

func TestDescribeLogDirs(t *testing.T) {
	c := newData(t, "data=/data")
	orders := c.create("orders", 2)
	c.create("empty", 1)
	batch := batchOf(nil, strings.Repeat("x", 1000))
	wantError(t, "produce", c.produceOne(orders, -1, batch).ErrorCode, nil)
	c.Volume = func() (int64, int64, error) { return 7000, 5000, nil }
	describe := func(version int16, topics ...kmsg.DescribeLogDirsRequestTopic) string {
		req := kmsg.NewPtrDescribeLogDirsRequest()
		req.Topics = topics
		resp := call[*kmsg.DescribeLogDirsResponse](c.cluster, version, req)
		if len(resp.Dirs) != 1 || resp.ErrorCode != 0 || resp.Dirs[0].ErrorCode != 0 || !filepath.IsAbs(resp.Dirs[0].Dir) {
			t.Fatalf("v%d: %+v", version, resp)
		}
		if d := resp.Dirs[0]; version < 4 && (d.TotalBytes != -1 || d.UsableBytes != -1) || version >= 4 && (d.TotalBytes != 7000 || d.UsableBytes != 5000) || d.IsCordoned {
			t.Errorf("v%d: %d of %d bytes left, cordoned %t", version, d.UsableBytes, d.TotalBytes, d.IsCordoned)
		}
		var got []string
		for _, topic := range resp.Dirs[0].Topics {
			for _, p := range topic.Partitions {
				got = append(got, fmt.Sprintf("%s-%d %d", topic.Topic, p.Partition, p.Size))
				if p.OffsetLag != 0 || p.IsFuture {
					t.Errorf("v%d: %+v", version, p)
				}
			}
		}
		return strings.Join(got, ", ")
	}
	every(c.cluster, 35, func(v int16) {
		if got, want := describe(v), fmt.Sprintf("empty-0 0, orders-0 %d, orders-1 0", len(batch)); got != want {
			t.Errorf("v%d: %s, want %s", v, got, want)
		}
	})
	if got := describe(3, kmsg.DescribeLogDirsRequestTopic{Topic: "orders", Partitions: []int32{1, 7}}, kmsg.DescribeLogDirsRequestTopic{Topic: "none"}); got != "orders-1 0" {
		t.Errorf("some of them: %s", got)
	}
	if got := describe(3, kmsg.DescribeLogDirsRequestTopic{Topic: "none"}); got != "" {
		t.Errorf("none of them: %s", got)
	}
	c.Volume = func() (int64, int64, error) {
		return 0, 0, kafka.ErrKafkaStorageError.With("statfs /data: input/output error")
	}
	req := kmsg.NewPtrDescribeLogDirsRequest()
	resp := call[*kmsg.DescribeLogDirsResponse](c.cluster, 4, req)
	if len(resp.Dirs) != 1 || len(resp.Dirs[0].Topics) != 0 {
		t.Fatalf("a volume that cannot be asked: %+v", resp)
	}
	wantError(t, "a volume that cannot be asked", resp.Dirs[0].ErrorCode, kafka.ErrKafkaStorageError)
}
