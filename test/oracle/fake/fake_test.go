package fake

import (
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"chronik/internal/api"
	"chronik/test/oracle/admin"
	"chronik/test/oracle/data"
	"chronik/test/oracle/groups"
	"chronik/test/oracle/pair"
)

func TestAgainstKfake(t *testing.T) {
	for _, c := range []struct {
		name     string
		settings []string
		talk     func(*pair.Side)
		known    []pair.Difference
	}{
		{"admin", nil, admin.Basics, adminKnown},
		{"data", nil, data.Basics, dataKnown},
		{"groups", groups.Settings, groups.Basics, groupsKnown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ours := &pair.Side{Name: "chronik", Addr: pair.Chronik(t, append(c.settings, "node.id=0")), Served: bothServe}
			theirs := &pair.Side{Name: "kfake", Addr: startKfake(t), Served: bothServe, Patience: 3 * time.Second, KeepOpen: true}
			pair.Both(t, theirs, ours, c.talk, c.known)
		})
	}
}

// startKfake runs one broker, whose ID is 0.
func startKfake(t *testing.T) string {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DefaultNumPartitions(1), kfake.ClusterID("kfake"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c.ListenAddrs()[0]
}

// lowest and highest are kfake's versions where they are narrower than ours.
var (
	lowest  = map[int16]int16{0: 3, 23: 3}
	highest = map[int16]int16{2: 10}
)

// bothServe tells whether both servers serve the version.
func bothServe(key, version int16) bool {
	i := slices.IndexFunc(api.Table(), func(k api.Key) bool { return k.Key == key })
	if i < 0 {
		return false
	}
	if high, ok := highest[key]; ok && version > high {
		return false
	}
	return version >= lowest[key]
}
