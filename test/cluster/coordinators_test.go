package cluster

import (
	"testing"
	"time"

	"chronik/internal/bench"
	"chronik/test/node"
)

// A thousand members of one classic group, a connection each: all get a place in one generation, each one of its own, when all
// come at once, when one more comes, and when one leaves.
func TestAThousandMembers(t *testing.T) {
	c := started(t)
	r, err := bench.Members(within(t, 3*time.Minute), bench.MembersOptions{Bootstrap: c.Bootstrap(), Members: 1000, Heartbeat: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("all stable %v after the last of %d joined, %v after one more, %v after one left", r.Storm, r.Members, r.Late, r.Leave)
}

// Groups commit offsets while coordinators, the controller and others are killed with SIGKILL: what a group was told is committed is
// there in the end.
func TestCommitsUnderKills(t *testing.T) {
	for _, driver := range []string{bench.DriverRaw, bench.DriverClient} {
		r, err := bench.Failover(within(t, 5*time.Minute), bench.FailoverOptions{
			Binary: node.Binary(t), Dir: t.TempDir(), Commits: true, Driver: driver, Count: 6,
		})
		if err != nil {
			t.Fatalf("%s: %v", driver, err)
		}
		t.Logf("%s: commits again after %v (median), %v (worst); %s", driver, r.Median, r.Worst, r.Verified)
	}
}
