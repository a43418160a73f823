package controller

import (
	"fmt"
	"testing"

	"chronik/internal/kafka"
	"chronik/internal/metadata"
	"chronik/internal/vfs"
)

func BenchmarkChanges(b *testing.B) {
	for _, parallel := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			c, err := Open(Options{FS: vfs.OS{}, Dir: b.TempDir() + "/metadata", NodeID: 1, Directory: directory})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { mustClose(b, c) }()
			register(b, c, 1)
			b.SetParallelism(parallel / 2)
			b.ResetTimer()
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					create(b, c, "t"+kafka.NewTopicID().Hex(), 1)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

// BenchmarkThousandTopics creates 1,000 topics in requests of 50.
func BenchmarkThousandTopics(b *testing.B) {
	for b.Loop() {
		c, err := Open(Options{FS: vfs.OS{}, Dir: b.TempDir() + "/metadata", NodeID: 1, Directory: directory})
		if err != nil {
			b.Fatal(err)
		}
		register(b, c, 1)
		for i := range 20 {
			var topics []metadata.CreateTopic
			for k := range 50 {
				topics = append(topics, metadata.CreateTopic{Name: fmt.Sprintf("t-%d-%d", i, k), Partitions: 3, ReplicationFactor: -1})
			}
			for _, r := range c.CreateTopics(within(b), topics, false) {
				if r.Err != nil {
					b.Fatal(r.Err)
				}
			}
		}
		mustClose(b, c)
	}
}

// BenchmarkStart is from nothing to a registered broker, and with 10,000 partitions.
func BenchmarkStart(b *testing.B) {
	b.Run("empty", func(b *testing.B) {
		for b.Loop() {
			c, err := Open(Options{FS: vfs.OS{}, Dir: b.TempDir() + "/metadata", NodeID: 1, Directory: directory})
			if err != nil {
				b.Fatal(err)
			}
			register(b, c, 1)
			b.StopTimer()
			mustClose(b, c)
			b.StartTimer()
		}
	})
	b.Run("10000 partitions", func(b *testing.B) {
		dir := b.TempDir() + "/metadata"
		open := func() *Controller {
			c, err := Open(Options{FS: vfs.OS{}, Dir: dir, NodeID: 1, Directory: directory})
			if err != nil {
				b.Fatal(err)
			}
			return c
		}
		c := open()
		register(b, c, 1)
		for i := range 100 {
			create(b, c, fmt.Sprint("t", i), 100)
		}
		mustClose(b, c)
		incarnation := byte(1)
		for b.Loop() {
			incarnation++
			c := open()
			register(b, c, incarnation)
			b.StopTimer()
			mustClose(b, c)
			b.StartTimer()
		}
	})
}
