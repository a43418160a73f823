package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// administer creates and deletes topics and changes a configuration, and remembers what was acknowledged (21).
func (w *workload) administer(_ int, rng *rand.Rand) {
	client, err := w.client()
	if err != nil {
		w.fail("administrator: %v", err)
		return
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	admin.SetTimeoutMillis(3000)
	var names []string
	for i := 0; w.ctx.Err() == nil; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		switch {
		case len(names) == 0 || rng.IntN(2) == 0:
			name := fmt.Sprintf("%s%d", extraPrefix, i)
			names = append(names, name)
			w.createTopic(ctx, admin, name)
		case rng.IntN(3) == 0:
			at := rng.IntN(len(names))
			w.deleteTopic(ctx, admin, names[at])
			names = append(names[:at], names[at+1:]...)
		default:
			w.configure(ctx, admin, i)
		}
		cancel()
		w.sleep(between(rng, 50*time.Millisecond, 2*time.Second))
	}
}

func (w *workload) createTopic(ctx context.Context, admin *kadm.Client, name string) {
	h := w.history
	h.mark(h.mu.unknown, name, true)
	resp, err := admin.CreateTopic(ctx, 2, 3, nil, name)
	if err == nil {
		err = resp.Err
	}
	w.trace.note("administrator: create %s: %v", name, err)
	if err == nil || errors.Is(err, kerr.TopicAlreadyExists) { // the client tries again by itself, under the same name
		h.mark(h.mu.unknown, name, false)
		h.mark(h.mu.created, name, true)
	}
}

func (w *workload) deleteTopic(ctx context.Context, admin *kadm.Client, name string) {
	h := w.history
	h.mark(h.mu.unknown, name, true)
	resp, err := admin.DeleteTopic(ctx, name)
	if err == nil {
		err = resp.Err
	}
	w.trace.note("administrator: delete %s: %v", name, err)
	if err == nil {
		h.mark(h.mu.unknown, name, false)
		h.mark(h.mu.created, name, false)
		h.mark(h.mu.deleted, name, true)
	}
}

// extraPrefix begins the names of the topics that come and go.
const extraPrefix = "extra-"

// configKey is a configuration that changes nothing that the run could notice.
const configKey = "retention.ms"

func configValue(i int) string { return strconv.Itoa(1_000_000_000 + i) }

// configure sets a value that grows; what is in force in the end is one that was set no earlier than the last one that was
// acknowledged.
func (w *workload) configure(ctx context.Context, admin *kadm.Client, i int) {
	value := configValue(i)
	resp, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: configKey, Value: &value}}, topic)
	if err == nil && len(resp) == 1 {
		err = resp[0].Err
	}
	w.trace.note("administrator: %s=%s: %v", configKey, value, err)
	if err == nil {
		w.mu.Lock()
		w.configAcked = i
		w.mu.Unlock()
	}
}

// commitOffsets commits growing offsets of a group without members, and fetches them: what is fetched is no older than
// what was acknowledged before, and no younger than what was sent (15).
func (w *workload) commitOffsets(_ int, rng *rand.Rand) {
	client, err := w.client()
	if err != nil {
		w.fail("committer: %v", err)
		return
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	acked := int64(-1)
	for i := int64(0); w.ctx.Err() == nil; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: i, LeaderEpoch: -1})
		resp, err := admin.CommitOffsets(ctx, groupName, offsets)
		if err == nil {
			err = resp.Error()
		}
		if err == nil {
			acked = i
		}
		w.checkOffset(ctx, admin, acked, i)
		cancel()
		w.sleep(between(rng, 50*time.Millisecond, 500*time.Millisecond))
	}
	w.mu.Lock()
	w.offsetAcked = acked
	w.mu.Unlock()
}

const groupName = "g"

func (w *workload) checkOffset(ctx context.Context, admin *kadm.Client, atLeast, atMost int64) (known bool) {
	fetched, err := admin.FetchOffsets(ctx, groupName)
	if err != nil {
		return false
	}
	at := int64(-1)
	if o, ok := fetched.Lookup(topic, 0); ok {
		if o.Err != nil {
			return false
		}
		at = o.At
	}
	if at < atLeast || at > atMost {
		w.fail("invariant 15: group %s is told that it committed offset %d; %d was acknowledged, %d was the last sent", groupName, at, atLeast, atMost)
	}
	return true
}

func (h *history) mark(set map[string]bool, name string, on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if on {
		set[name] = true
	} else {
		delete(set, name)
	}
}
