package group

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"chronik/internal/config"
	"chronik/internal/kafka"
)

// On fake time: what nobody uses is gone a while after the last commit, also for a coordinator that loaded the log meanwhile; what is
// committed again stays.
func TestServiceExpiresOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newServiceRig(t)
		r.edit = func(c *config.Config) { c.OffsetsRetention, c.OffsetsRetentionCheck = 7*time.Minute, 10*time.Second }
		r.Service.Close()
		r.start()
		serves := func() {
			t.Helper()
			for _, group := range []string{"once", "again"} {
				if _, err := r.Coordinator(t.Context(), group); err != nil {
					t.Fatal(err)
				}
			}
		}
		serves()
		commit := func(group string) {
			await(t, r.Commit(&Commit{Group: group, Version: 9, Generation: -1, RetentionMillis: -1, Topics: []CommitTopic{
				{Name: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 0, Offset: 5}}},
			}}))
		}
		has := func(group string) bool { return len(await(t, r.Fetch(group, nil))) > 0 }
		commit("once")
		commit("again")
		time.Sleep(4 * time.Minute)
		commit("again")
		r.Service.Close() // a failover
		r.start()
		serves()
		time.Sleep(3*time.Minute - time.Second)
		if !has("once") || !has("again") {
			t.Fatal("expired before its time")
		}
		time.Sleep(time.Second + 10*time.Second) // and until the next check
		if has("once") || !has("again") {
			t.Fatalf("after its time: the group that committed once has offsets: %v, the other: %v", has("once"), has("again"))
		}
		if d := await(t, r.Describe("once", 6)); d.ErrorCode != kafka.ErrGroupIDNotFound.Code {
			t.Errorf("the group that holds nothing: %+v", d)
		}
		time.Sleep(7 * time.Minute)
		if has("again") {
			t.Error("the other never expires")
		}
		r.Service.Close()
		r.start()
		serves()
		if has("once") || has("again") {
			t.Error("expired offsets are back after a failover")
		}
		r.Service.Close()
		_ = r.store.Close()
	})
}
