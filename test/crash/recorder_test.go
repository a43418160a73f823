package crash

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recorder produces numbered lines of text and keeps, of every ack, partition, offset and hash.
type recorder struct {
	lines, bytes int64
	err          error
	acks         atomic.Int64 // bytes of the values that were acknowledged
	kills        atomic.Int64 // of the node meanwhile
	doubtful     atomic.Bool  // acks that come now prove nothing
	doubts       atomic.Int64 // times that it became so

	mu     sync.Mutex
	acked  [partitions][]uint64 // hash by offset, 0 where no ack came
	line   [partitions][]uint32 // which line it was
	doubt  [partitions][]bool   // acknowledged while doubtful
	twice  []string             // offsets that two lines were acknowledged at
	gone   int64                // of these, the first in doubt
	errors []error
}

var hashSeed = maphash.MakeSeed()

func hash(b []byte) uint64 { return maphash.Bytes(hashSeed, b) | 1 }

// await returns once the acks have reached so many bytes; false if the producer has ended, or has stopped.
func (r *recorder) await(ended <-chan struct{}, acks int64) bool {
	last, since := r.acks.Load(), time.Now()
	for r.acks.Load() < acks {
		if now := r.acks.Load(); now != last {
			last, since = now, time.Now()
		} else if time.Since(since) > 3*time.Minute {
			return false
		}
		select {
		case <-ended:
			return false
		case <-time.After(time.Millisecond):
		}
	}
	select {
	case <-ended:
		return false
	default:
		return true
	}
}

// produce sends limit bytes of text, or more until the node was killed so often, with acks=all and waits for every ack.
func (r *recorder) produce(ctx context.Context, addr string, limit, kills int64) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("text"), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(2*time.Millisecond), kgo.MaxBufferedRecords(200_000), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.AlwaysRetryEOF(), // a broker that dies right after it accepted a connection is no TLS listener
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		return err
	}
	defer client.Close()
	more := func() bool { return (r.bytes < limit || r.kills.Load() < kills) && ctx.Err() == nil }
	for more() {
		before := r.bytes
		err := text(func(line []byte) bool {
			value := append(strconv.AppendInt(nil, r.lines, 10), ':')
			value = append(value, line...)
			client.Produce(ctx, &kgo.Record{Value: value, Partition: int32(r.lines % partitions)}, r.ack)
			r.lines++
			r.bytes += int64(len(value))
			return more()
		})
		if err != nil {
			return err
		}
		if r.bytes == before {
			return fmt.Errorf("found no text on this machine")
		}
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.errors) > 0 {
		return fmt.Errorf("%d records were not acknowledged, the first: %w", len(r.errors), r.errors[0])
	}
	return nil
}

func (r *recorder) ack(rec *kgo.Record, err error) {
	doubtful := r.doubtful.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.errors = append(r.errors, err)
		return
	}
	r.acks.Add(int64(len(rec.Value)))
	list := &r.acked[rec.Partition]
	for int64(len(*list)) <= rec.Offset {
		*list = append(*list, 0)
		r.line[rec.Partition] = append(r.line[rec.Partition], 0)
		r.doubt[rec.Partition] = append(r.doubt[rec.Partition], false)
	}
	number, _, _ := bytes.Cut(rec.Value, []byte(":"))
	line, _ := strconv.ParseUint(string(number), 10, 32) // the recorder made it
	switch {
	case (*list)[rec.Offset] == 0:
	case r.doubt[rec.Partition][rec.Offset]:
		r.gone++
	case len(r.twice) < 100_000:
		r.twice = append(r.twice, fmt.Sprintf("%s: partition %d offset %d for line %d, and before for line %d",
			time.Now().Format("15:04:05.000"), rec.Partition, rec.Offset, line, r.line[rec.Partition][rec.Offset]))
	}
	r.doubt[rec.Partition][rec.Offset] = doubtful
	(*list)[rec.Offset], r.line[rec.Partition][rec.Offset] = hash(rec.Value), uint32(line)
}

// verify consumes everything.
func (r *recorder) verify(t *testing.T, ctx context.Context, addr string) {
	t.Helper()
	client := newClient(t, addr, kgo.ConsumeTopics("text"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxPartitionBytes(8<<20))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	seen := make([]bool, r.lines)
	var next, last [partitions]int64
	for p := range last {
		last[p] = -1
	}
	checked, acks, doubts := int64(0), int64(0), int64(0)
	for p := range r.acked {
		for o, h := range r.acked[p] {
			switch {
			case h == 0:
			case r.doubt[p][o]:
				doubts++
			default:
				acks++
			}
		}
	}
	if doubts+r.gone > 0 {
		t.Logf("%d lines were acknowledged while the power was cut; others have the offsets of %d of them", doubts+r.gone, r.gone)
	}
	if acks+doubts+r.gone != r.lines {
		for _, what := range r.twice[:min(len(r.twice), 5)] {
			t.Log("acknowledged twice: " + what)
		}
		t.Errorf("%d of %d lines were acknowledged at an offset of their own", acks+doubts+r.gone, r.lines)
	}
	for checked < acks {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d acknowledged records: %v", checked, acks, err)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			p := rec.Partition
			if rec.Offset != next[p] {
				t.Fatalf("partition %d: offset %d follows %d", p, rec.Offset, next[p]-1)
			}
			next[p]++
			number, _, _ := bytes.Cut(rec.Value, []byte(":"))
			line, err := strconv.ParseInt(string(number), 10, 64)
			if err != nil || line >= r.lines {
				t.Fatalf("partition %d offset %d holds a record that nobody sent: %.60q", p, rec.Offset, rec.Value)
			}
			if seen[line] {
				t.Fatalf("line %d is stored twice, the second time at partition %d offset %d", line, p, rec.Offset)
			}
			seen[line] = true
			if line <= last[p] {
				t.Fatalf("partition %d offset %d: line %d follows line %d", p, rec.Offset, line, last[p])
			}
			last[p] = line
			if rec.Offset < int64(len(r.acked[p])) && r.acked[p][rec.Offset] != 0 && !r.doubt[p][rec.Offset] {
				if r.acked[p][rec.Offset] != hash(rec.Value) {
					t.Fatalf("partition %d offset %d holds other bytes than were acknowledged: %.60q", p, rec.Offset, rec.Value)
				}
				checked++
			}
		})
	}
	t.Logf("%d acknowledged records came back", checked)
}

// text calls visit for each line of the documentation and source on this machine until it says stop.
func text(visit func(line []byte) bool) error {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return err
	}
	goroot := strings.TrimSpace(string(out))
	for _, root := range []string{filepath.Join(goroot, "src"), filepath.Join(goroot, "doc"), "/usr/share/doc", "/usr/share/perl"} {
		stop := false
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || stop || !d.Type().IsRegular() || filepath.Ext(path) == ".gz" {
				return nil // what cannot be read is not needed
			}
			f, err := os.Open(path)
			if err != nil {
				return nil
			}
			defer func() { _ = f.Close() }()
			for lines := bufio.NewScanner(f); lines.Scan(); {
				if !visit(lines.Bytes()) {
					stop = true
					return fs.SkipAll
				}
			}
			return nil
		})
		if err != nil || stop {
			return err
		}
	}
	return nil
}
