package log

import (
	"encoding/binary"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"chronik/internal/record"
	"chronik/internal/vfs"
)

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkClean compacts a log of 256 MiB on the disk: records of 100 bytes, 100 in a batch, of 100,000 keys. MB/s is of the
// log, which is read twice, and MB/cpu-s is that for each second of processor time, which others on the machine do not change.
func BenchmarkClean(b *testing.B) {
	for _, codec := range []record.Codec{record.None, record.LZ4, record.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				l, err := Open(Options{FS: vfs.OS{}, Dir: b.TempDir() + "/p-0", Config: Config{SegmentBytes: 64 << 20}})
				if err == nil {
					err = l.FinishRecovery()
				}
				if err != nil {
					b.Fatal(err)
				}
				rng := rand.New(rand.NewPCG(1, 1))
				value := make([]byte, 80)
				builder := record.NewBuilder()
				raw := int64(0)
				for raw < 256<<20 {
					builder.Reset()
					builder.Codec = codec
					for range 100 {
						for i := range 10 { // half of it random
							binary.LittleEndian.PutUint32(value[8*i:], rng.Uint32())
						}
						builder.Add(1000, binary.BigEndian.AppendUint64(nil, uint64(rng.IntN(100_000))), value)
					}
					raw += int64(builder.Size())
					out, err := builder.AppendTo(nil, l.codecs)
					if err == nil {
						_, err = l.Append(out, 0, record.FromClient)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				o := cleanAll(l, 5000)
				o.MapBytes, o.IOBytes = 128<<20, 512<<10
				b.StartTimer()
				begun, cpu := time.Now(), cpuTime(b)
				r, err := l.Clean(o)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(r.BytesBefore)/1e6/time.Since(begun).Seconds(), "MB/s")
				b.ReportMetric(float64(time.Since(begun).Nanoseconds())/float64(r.RecordsBefore), "ns/record")
				b.ReportMetric(float64(r.BytesAfter)/1e6, "MB-after")
				b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(r.RecordsBefore), "cpu-ns/record")
				b.ReportMetric(float64(r.BytesBefore)/1e6/(cpuTime(b)-cpu).Seconds(), "MB/cpu-s")
				b.StopTimer()
				_ = l.Delete()
				_ = l.Close()
				b.StartTimer()
			}
		})
	}
}
