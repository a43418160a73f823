package group

import (
	"fmt"
	"runtime"
	"testing"

	"chronik/internal/coordinator"
)

// A node may keep 10,000 groups that nobody is a member of, with 10 offsets each: what the replay of their log leaves in memory.
func TestMemoryOfManyGroups(t *testing.T) {
	const groups, offsets = 10_000, 10
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	m := replayed(t, nil, Limits{MaxSize: 10})
	for g := range groups {
		id := fmt.Sprintf("consumers-of-an-application-%05d", g)
		empty := newClassic(id, 1)
		empty.protocolType, empty.generation = consumerProtocol, 7
		records := []coordinator.Record{groupRecord(empty)}
		for p := range int32(offsets) {
			records = append(records, offsetRecord(id, fmt.Sprint("topic-with-a-name-", p/2), &committed{partition: p, offset: 1, expireTime: -1}))
		}
		for _, rec := range records {
			if err := m.Replay(coordinator.Replayed{Record: rec}); err != nil {
				t.Fatal(err)
			}
		}
	}
	used := heap() - before
	t.Logf("%d groups with %d offsets each take %.1f MB", len(m.groups), offsets, float64(used)/1e6)
	if len(m.groups) != groups || used > 60e6 {
		t.Errorf("%d groups take %d bytes", len(m.groups), used)
	}
	runtime.KeepAlive(m)
}
