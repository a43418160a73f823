package controller

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
)

// testdata/one-node-v1 is the metadata WAL of a node that ran before there were clusters of several: 24 topics created, two
// of them deleted, two starts.
const (
	oldCluster   = "4nc2bdov7E4sIjmQLNHBQg"
	oldDirectory = "issue-3-node-dir"
	oldTopics    = 22
)

// TestOldDataDirectory: a directory of before opens, keeps all it held, and can be the first node of a cluster of three.
func TestOldDataDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 21, 1)
		defer f.close()
		one := f.machines[0]
		if err := one.fs.MkdirAll("/data/metadata"); err != nil {
			t.Fatal(err)
		}
		if err := one.setIdentity([16]byte([]byte(oldDirectory)), oldCluster); err != nil {
			t.Fatal(err)
		}
		names, err := filepath.Glob("testdata/one-node-v1/*.wal")
		if err != nil || len(names) != 2 {
			t.Fatal(names, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			file, err := one.fs.Create("/data/metadata/" + filepath.Base(name))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.WriteAt(data, 0); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
		one.start()
		f.formed()
		check := func(m *machine) {
			t.Helper()
			img := m.controller().Image()
			topic := img.Topic("a-1")
			if img.ClusterID() != oldCluster || img.TopicCount() != oldTopics || topic == nil || topic.ID != (kafka.TopicID{1, 0}) ||
				topic.Partitions.Len() != 3 || topic.Config["retention.ms"] != "1000" || img.Topic("d-1") != nil || !img.WasDeleted(kafka.TopicID{1, 3}) {
				t.Fatalf("node %d: cluster %s, %d topics, a-1 is %+v", m.id, img.ClusterID(), img.TopicCount(), topic)
			}
			if v := img.Config(metadata.Resource{Type: metadata.BrokerResource})["log.cleaner.threads"]; v != "2" {
				t.Fatalf("node %d: the configuration is %q", m.id, v)
			}
			// Two processes had led it before.
			if p := topic.Partitions.At(0); p.LeaderEpoch < 2 {
				t.Fatalf("leader epoch %d", p.LeaderEpoch)
			}
		}
		check(one)
		f.add(2, nil, "node1:9291").start()
		f.add(3, nil, "node1:9291").start()
		f.formed()
		f.voting(1, 2, 3)
		f.converged()
		for _, m := range f.machines {
			check(m)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		first, count, err := one.controller().AllocateProducerIDs(ctx)
		if err != nil || first != 2000 || count != 1000 {
			t.Fatalf("producer IDs from %d, %d of them: %v", first, count, err)
		}
	})
}
