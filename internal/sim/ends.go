package sim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// ends are how far clients know partitions to be committed, by what they were told: acknowledgements, records, and answers
// to ListOffsets.
type ends struct {
	mu    sync.Mutex
	known map[partition][]knownEnd // ascending in both
}

type knownEnd struct {
	at  time.Time
	end int64
	by  string
}

// tell notes that everything below an offset is committed.
func (e *ends) tell(p partition, end int64, by string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known == nil {
		e.known = map[partition][]knownEnd{}
	}
	if all := e.known[p]; len(all) == 0 || all[len(all)-1].end < end {
		e.known[p] = append(all, knownEnd{time.Now(), end, by})
	}
}

// before is what was known at a moment.
func (e *ends) before(p partition, at time.Time) (last knownEnd) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.known[p] {
		if k.at.After(at) {
			break
		}
		last = k
	}
	return last
}

// staleMax is for how long a leader that was deposed may still answer: its lease (broker.lease.ms).
const staleMax = 2 * time.Second

// askEnds asks for the ends of all partitions, again and again. A leader tells its high watermark only once that has reached
// the start of its epoch (KIP-207), so no answer is below what anybody was told before: invariant 3. What was told within the
// last lease does not count: a deposed leader may not know it.
func (w *workload) askEnds(_ int, rng *rand.Rand) {
	client, err := w.client()
	if err != nil {
		w.fail("who asks for ends: %v", err)
		return
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for w.ctx.Err() == nil {
		asked := time.Now()
		ctx, cancel := context.WithTimeout(w.ctx, 3*time.Second)
		listed, err := admin.ListEndOffsets(ctx, topic)
		cancel()
		if err == nil {
			listed.Each(func(o kadm.ListedOffset) {
				if o.Err != nil {
					return
				}
				p := partition{o.Topic, o.Partition}
				if k := w.history.ends.before(p, asked.Add(-staleMax)); o.Offset < k.end {
					w.fail("invariant 3: %s ends at %d, says a leader; %v before it was asked, %s knew of %d", p, o.Offset, asked.Sub(k.at), k.by, k.end)
				}
				w.history.ends.tell(p, o.Offset, "who asks for ends")
			})
		} else {
			w.trace.note("who asks for ends: %v", err)
		}
		w.sleep(between(rng, 20*time.Millisecond, 300*time.Millisecond))
	}
}
