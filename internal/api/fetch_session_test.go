package api

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"chronik/internal/kafka"
)

var sessionStart = time.Unix(1_700_000_000, 0)

func sessionRequest(id, epoch int32, partitions ...int32) *fetchRequest {
	r := &fetchRequest{version: 12, sessionID: id, sessionEpoch: epoch}
	for _, p := range partitions {
		e := fetchEntry{key: fetchKey{name: "t", partition: p}, topic: "t"}
		e.clear()
		e.highWatermark, e.logStart = 0, 0
		r.entries = append(r.entries, e)
	}
	return r
}

// incremental runs an incremental request to its end; results sets what became of each partition.
func incremental(t *testing.T, c *fetchSessions, r *fetchRequest, results func(e *fetchEntry)) (order string, sent string, err error) {
	t.Helper()
	var entries []fetchEntry
	s, err := c.resume(r, sessionLimits{10, 100}, sessionStart, func(p *sessionPartition) {
		order += fmt.Sprint(p.key.partition)
		e := fetchEntry{key: p.key, topic: p.topic, fetchParams: p.fetchParams}
		e.clear()
		e.highWatermark, e.logStart = 0, 0
		if results != nil {
			results(&e)
		}
		entries = append(entries, e)
	})
	if err != nil || s == nil {
		return order, "", err
	}
	err = c.finish(s, r, entries)
	for i := range entries {
		if !entries[i].unchanged {
			sent += fmt.Sprint(entries[i].key.partition)
		}
	}
	return order, sent, err
}

func TestSessionAnswersOnlyWhatChanged(t *testing.T) {
	var c fetchSessions
	r := sessionRequest(0, 0, 0, 1, 2)
	id := c.create(r, r.entries, sessionLimits{10, 100}, sessionStart)
	if id <= 0 {
		t.Fatalf("session %d", id)
	}
	if order, sent, err := incremental(t, &c, sessionRequest(id, 1), nil); order != "012" || sent != "" || err != nil {
		t.Fatalf("order %q, sent %q, %v", order, sent, err)
	}
	data := func(e *fetchEntry) {
		if e.key.partition == 0 {
			e.size, e.highWatermark = 10, 4
		}
	}
	if _, sent, _ := incremental(t, &c, sessionRequest(id, 2), data); sent != "0" {
		t.Fatalf("sent %q", sent)
	}
	// What was served stands last now; it has a watermark that was told already, and records again.
	if order, sent, _ := incremental(t, &c, sessionRequest(id, 3), data); order != "120" || sent != "0" {
		t.Fatalf("order %q, sent %q", order, sent)
	}
	failed := func(e *fetchEntry) {
		data(e)
		e.size = 0
		if e.key.partition == 1 {
			e.fail(kafka.ErrNotLeaderOrFollower)
		}
	}
	if _, sent, _ := incremental(t, &c, sessionRequest(id, 4), failed); sent != "1" {
		t.Fatalf("sent %q", sent)
	}
	if _, sent, _ := incremental(t, &c, sessionRequest(id, 5), failed); sent != "1" {
		t.Fatalf("an error is told each time; sent %q", sent)
	}
	well := func(e *fetchEntry) { data(e); e.size = 0 }
	if _, sent, _ := incremental(t, &c, sessionRequest(id, 6), well); sent != "1" {
		t.Fatalf("the end of an error is told; sent %q", sent)
	}
	start := func(e *fetchEntry) { well(e); e.logStart = 2 }
	if _, sent, _ := incremental(t, &c, sessionRequest(id, 7), start); sent != "120" {
		t.Fatalf("another log start is told; sent %q", sent)
	}
}

func TestSessionPartitionsComeAndGo(t *testing.T) {
	var c fetchSessions
	r := sessionRequest(0, 0, 0, 1)
	id := c.create(r, r.entries, sessionLimits{10, 100}, sessionStart)
	add := sessionRequest(id, 1, 5)
	add.entries[0].from = 44
	add.forgotten = []fetchKey{{name: "t", partition: 0}, {name: "other", partition: 9}}
	seen := kafka.Offset(0)
	order, sent, err := incremental(t, &c, add, func(e *fetchEntry) {
		if e.key.partition == 5 {
			seen = e.from
		}
	})
	if order != "15" || sent != "5" || err != nil || seen != 44 || c.mu.partitions != 2 {
		t.Fatalf("order %q, sent %q, %v, from %d, %d partitions in the cache", order, sent, err, seen, c.mu.partitions)
	}
	last := sessionRequest(id, 2)
	last.forgotten = []fetchKey{{name: "t", partition: 1}, {name: "t", partition: 5}}
	if _, _, err := incremental(t, &c, last, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := incremental(t, &c, sessionRequest(id, 3), nil); !errors.Is(err, kafka.ErrFetchSessionIDNotFound) || c.mu.partitions != 0 {
		t.Fatalf("an empty session is closed: %v, %d partitions", err, c.mu.partitions)
	}
}

func TestSessionErrors(t *testing.T) {
	var c fetchSessions
	r := sessionRequest(0, 0, 0)
	id := c.create(r, r.entries, sessionLimits{10, 100}, sessionStart)
	byID := sessionRequest(id, 1)
	byID.topicIDs = true
	for _, test := range []struct {
		r    *fetchRequest
		want error
	}{
		{sessionRequest(id+1, 1), kafka.ErrFetchSessionIDNotFound},
		{sessionRequest(id, 2), kafka.ErrInvalidFetchSessionEpoch},
		{byID, kafka.ErrFetchSessionTopicIDError},
		{sessionRequest(id, 1), nil}, // none of them used the session up
		{sessionRequest(id, 1), kafka.ErrInvalidFetchSessionEpoch},
	} {
		if _, _, err := incremental(t, &c, test.r, nil); !errors.Is(err, test.want) && err != test.want {
			t.Errorf("session %d epoch %d: got %v, want %v", test.r.sessionID, test.r.sessionEpoch, err, test.want)
		}
	}
	// A request that overtakes another one: the older is not answered any more.
	s, err := c.resume(sessionRequest(id, 2), sessionLimits{10, 100}, sessionStart, func(*sessionPartition) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := incremental(t, &c, sessionRequest(id, 3), nil); err != nil {
		t.Fatal(err)
	}
	if err := c.finish(s, sessionRequest(id, 2), nil); !errors.Is(err, kafka.ErrInvalidFetchSessionEpoch) {
		t.Fatalf("got %v", err)
	}
	c.drop(id)
	if c.mu.partitions != 0 || len(c.mu.byID) != 0 {
		t.Fatal("dropped, and still there")
	}
}

func TestSessionCacheIsBounded(t *testing.T) {
	var c fetchSessions
	limits := sessionLimits{sessions: 2, partitions: 10}
	create := func(at time.Duration, partitions ...int32) int32 {
		r := sessionRequest(0, 0, partitions...)
		return c.create(r, r.entries, limits, sessionStart.Add(at))
	}
	use := func(at time.Duration, id, epoch int32) {
		if _, err := c.resume(sessionRequest(id, epoch), limits, sessionStart.Add(at), func(*sessionPartition) {}); err != nil {
			t.Fatal(err)
		}
	}
	small, large := create(0, 1, 2), create(0, 1, 2, 3)
	if create(time.Second, 1, 2, 3, 4) != noSession {
		t.Fatal("young sessions gave way")
	}
	use(3*time.Minute, small, 1)
	use(3*time.Minute, large, 1)
	if create(3*time.Minute, 1, 2) != noSession {
		t.Fatal("a session gave way to one that is no larger")
	}
	if create(3*time.Minute, 1, 2, 3) == noSession {
		t.Fatal("the smallest old session did not give way to a larger one")
	}
	if c.mu.byID[small] != nil || c.mu.byID[large] == nil {
		t.Fatal("the wrong session gave way")
	}
	if create(10*time.Minute, 1) == noSession || c.mu.byID[large] != nil && len(c.mu.byID) > 2 {
		t.Fatal("no session gave way although none was used for long")
	}
	if create(20*time.Minute, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) != noSession {
		t.Fatal("more partitions than the cache may hold")
	}
}

func TestSessionEpochsWrap(t *testing.T) {
	var got []string
	for _, e := range []int32{-1, 0, 1, 1<<31 - 1} {
		got = append(got, fmt.Sprint(nextSessionEpoch(e)))
	}
	if s := strings.Join(got, " "); s != "-1 1 2 1" {
		t.Fatal(s)
	}
}
