package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topic is the one that records go to.
const topic = "t"

// workload is the clients of a run.
type workload struct {
	*cluster
	history     *history
	ctx         context.Context // ends with the safety phase
	cancel      context.CancelFunc
	running     sync.WaitGroup
	acked       int
	configAcked int
	offsetAcked int64
	kv          compacted
	mu          sync.Mutex
}

func newWorkload(c *cluster, h *history) *workload {
	w := &workload{cluster: c, history: h}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	return w
}

// start lets all clients loose.
func (w *workload) start() {
	for id := 1; id <= w.plan.producers; id++ {
		w.spawn(id, w.produce)
	}
	for id := 1; id <= 2; id++ {
		w.spawn(id, w.consume)
	}
	w.spawn(1, w.administer)
	w.spawn(1, w.commitOffsets)
	w.spawn(1, w.setKeys)
	w.spawn(2, w.scanSlowly)
	w.spawn(1, w.askEnds)
}

func (w *workload) spawn(id int, run func(id int, rng *rand.Rand)) {
	n := len(w.plan.faults) + id // any number that is this client's own would do
	w.running.Go(func() { run(id, rand.New(rand.NewPCG(w.plan.seed, uint64(n)+5000))) })
}

// stop ends the clients; those that wait for an answer get some time.
func (w *workload) stop(limit time.Duration) {
	w.cancel()
	stuck := time.AfterFunc(limit, func() { w.fail("clients have not ended %v after everything healed", limit) })
	w.running.Wait()
	stuck.Stop()
}

// produce sends records with acks=all, one at a time or a few, and remembers what became of each. Producers are
// idempotent: a record is there once at most, in the order of sending.
func (w *workload) produce(id int, rng *rand.Rand) {
	client, err := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0), kgo.UnknownTopicRetries(100))
	if err != nil {
		w.fail("producer %d: %v", id, err)
		return
	}
	defer client.Close()
	for number := 0; w.ctx.Err() == nil; {
		p := partition{topic, rng.Int32N(int32(w.plan.partitions))}
		var batch []*kgo.Record
		var all []*sent
		for range 1 + rng.IntN(4) {
			number++
			s := &sent{value: value(id, number, rng), producer: id, number: number}
			all = append(all, s)
			batch = append(batch, &kgo.Record{Topic: p.topic, Partition: p.number, Value: []byte(s.value)})
			w.history.sending(p, s)
		}
		for i, r := range client.ProduceSync(context.Background(), batch...) {
			if r.Err != nil {
				w.trace.note("producer %d: record %d: %v", id, all[i].number, r.Err)
				continue
			}
			// Results come in the order of completion; the record itself tells which it is.
			for j, b := range batch {
				if b == r.Record {
					w.history.acked(p, all[j], r.Record.Offset)
				}
			}
			w.mu.Lock()
			w.acked++
			w.mu.Unlock()
		}
		w.sleep(between(rng, time.Millisecond, 60*time.Millisecond))
	}
}

// value is a record's content: who sent it, and filling, at times much.
func value(producer, number int, rng *rand.Rand) string {
	size := rng.IntN(300)
	if rng.IntN(100) == 0 {
		size = rng.IntN(400 << 10)
	}
	return fmt.Sprintf("p%d-%d|", producer, number) + strings.Repeat(string(rune('a'+number%26)), size)
}

func (w *workload) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.ctx.Done():
	}
}

// consume reads all partitions from the start, again and again.
func (w *workload) consume(id int, rng *rand.Rand) {
	for w.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(w.ctx, between(rng, 5*time.Second, 30*time.Second))
		w.reader(fmt.Sprintf("consumer %d", id), rng.IntN(2) == 0, rng).run(ctx)
		cancel()
	}
}

// reader follows all partitions of the topic and checks that it reads without gap and without going back (17), and nothing
// above the high watermark (3).
type reader struct {
	*workload
	name   string
	client *kgo.Client
	next   map[partition]int64
	values map[partition][]string // what was read, from offset 0 on
	full   bool                   // keep values
	// What is read may be compacted: offsets may be missing.
	compacted bool
	seen      func(p partition, r *kgo.Record) // may be nil
}

func (w *workload) reader(name string, byRack bool, rng *rand.Rand) *reader {
	r := &reader{workload: w, name: name, next: map[partition]int64{}, values: map[partition][]string{}}
	starts := map[int32]kgo.Offset{}
	for p := range int32(w.plan.partitions) {
		starts[p] = kgo.NewOffset().At(0)
	}
	opts := []kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(500 * time.Millisecond), kgo.KeepRetryableFetchErrors(),
	}
	if byRack { // reads from the follower of its rack
		opts = append(opts, kgo.Rack(fmt.Sprintf("rack%d", 1+rng.IntN(w.plan.nodes))))
		r.name += " by rack"
	}
	var err error
	if r.client, err = w.client(opts...); err != nil {
		w.fail("%s: %v", name, err)
	}
	return r
}

func (r *reader) run(ctx context.Context) {
	if r.client == nil {
		return
	}
	defer r.client.Close()
	for ctx.Err() == nil {
		r.poll(ctx)
	}
}

func (r *reader) poll(ctx context.Context) {
	if fetches := r.client.PollFetches(ctx); ctx.Err() == nil {
		r.take(fetches)
	}
}

// has tells whether everything below the ends of the partitions was read; there are ends.
func (r *reader) has(ends []int64) bool {
	for p := range r.next {
		if ends == nil || r.next[p] < ends[p.number] {
			return false
		}
	}
	return ends != nil
}

// take checks what came. Errors of the client's own are those of a node that is away.
func (r *reader) take(fetches kgo.Fetches) {
	fetches.EachError(func(topic string, p int32, err error) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return
		}
		var lost *kgo.ErrDataLoss
		if errors.Is(err, kerr.OffsetOutOfRange) || errors.As(err, &lost) {
			r.fail("invariant 17: %s is told at offset %d of %s-%d: %v", r.name, r.next[partition{topic, p}], topic, p, err)
		}
	})
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		p := partition{f.Topic, f.Partition}
		if n := len(f.Records); f.Err == nil && n > 0 && (f.HighWatermark <= f.Records[n-1].Offset || f.LastStableOffset > f.HighWatermark) {
			r.fail("invariant 3: %s is given offset %d of %s with high watermark %d and last stable offset %d", r.name, f.Records[n-1].Offset, p, f.HighWatermark, f.LastStableOffset)
		}
		for _, record := range f.Records {
			if record.Offset != r.next[p] && !(r.compacted && record.Offset > r.next[p]) {
				r.fail("invariant 17: %s reads offset %d of %s where %d is next", r.name, record.Offset, p, r.next[p])
			}
			what := seen{string(record.Value), record.LeaderEpoch, r.name}
			if r.compacted {
				what.value = contents(record)
			}
			r.history.at(p, record.Offset, what)
			r.history.ends.tell(p, record.Offset+1, r.name)
			if r.seen != nil {
				r.seen(p, record)
			}
			r.next[p] = record.Offset + 1
			if r.full {
				r.values[p] = append(r.values[p], string(record.Value))
			}
		}
	})
}
