package bench

import (
	"context"
	"strings"
	"testing"
	"time"

	"chronik/internal/kafka"
	"chronik/internal/record"
)

// TestFollows: a gap is a lost record, unless the topic is compacted; what comes back twice or out of order is wrong in any
// case, and so is a broken batch.
func TestFollows(t *testing.T) {
	b := record.NewBuilder()
	b.Add(1, []byte("k"), []byte("v"))
	batch := record.Batch(b.Build())
	for _, c := range []struct {
		base int64
		gaps bool
		ok   bool
	}{{10, false, true}, {11, false, false}, {9, false, false}, {10, true, true}, {99, true, true}, {9, true, false}} {
		batch.SetBaseOffset(kafka.Offset(c.base))
		if err := follows(batch, 10, c.gaps); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
	batch.SetBaseOffset(10)
	batch[len(batch)-1] ^= 1
	if err := follows(batch, 10, true); err == nil {
		t.Error("a broken batch passes")
	}
}

// TestVerifyCompactedTopic: a compacted topic gets records with keys, and is verified by its offsets; one from which something
// is missing that compaction does not explain is not.
func TestVerifyCompactedTopic(t *testing.T) {
	for _, driver := range []string{DriverRaw, DriverClient} {
		r := patiently(t, func(d time.Duration) (*Report, error) {
			o := small(t, driver)
			o.Duration, o.TopicConfig = d, map[string]string{"cleanup.policy": "compact"}
			return Produce(t.Context(), o)
		}, some)
		if !strings.Contains(r.Verified, "compaction left") {
			t.Errorf("%s: %q", driver, r.Verified)
		}
	}
	o := small(t, DriverRaw)
	o.Topic, o.KeepTopic = "logs", true
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	target, err := prepare(t.Context(), &o)
	if err != nil || target.compact || o.keys {
		t.Fatal(target, err)
	}
	defer func() { _ = target.close(context.Background()) }()
	target.compact = true
	if err := verify(t.Context(), &o, target, &Report{}, []ack{{records: 1, batches: 1}}); err == nil {
		t.Error("a record that was acknowledged and has no offset is not missed")
	}
}
