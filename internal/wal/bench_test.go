package wal

import (
	"fmt"
	"sync"
	"testing"

	"chronik/internal/vfs"
)

// Group commit on a real disk: writers that each wait for their record before the next, as connections do.
func BenchmarkGroupCommit(b *testing.B) {
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l, err := Open(Options{FS: vfs.OS{}, Dir: b.TempDir() + "/wal", FilesMax: 1000})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			body := make([]byte, 1024)
			b.SetBytes(int64(len(body)))
			run := func(n int) {
				var wait sync.WaitGroup
				for w := range writers {
					wait.Go(func() {
						heard := make(chan int64, 1)
						s := &Stream{OnDurable: func(end int64) { heard <- end }}
						head := make([]byte, 69)
						for i := range n / writers {
							if _, err := l.Submit(&Entry{Head: head, Body: body, Stream: s, End: int64(i)}); err != nil {
								b.Error(err)
								return
							}
							<-heard
							if w == 0 && i%1000 == 0 {
								l.Release(l.Durable())
							}
						}
					})
				}
				wait.Wait()
			}
			run(writers * 50)
			before := l.Stats()
			b.ReportAllocs()
			b.ResetTimer()
			run(max(b.N, writers))
			b.StopTimer()
			after := l.Stats()
			b.ReportMetric(float64(after.Records-before.Records)/float64(max(after.Groups-before.Groups, 1)), "records/sync")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
