package admin

import (
	"context"
	"fmt"
	"testing"
	"time"

	"chronik/internal/kafka"
)

// fakeGroups coordinates one group, and knows that node 3 coordinates "theirs" and nobody "orphan".
type fakeGroups struct{}

func (fakeGroups) Groups(context.Context) []GroupRow {
	return []GroupRow{{Group: "a/b", Type: "classic", State: "Stable", Epoch: 4, Members: 2, Lag: 7}}
}

func (g fakeGroups) Group(ctx context.Context, id string) (GroupView, kafka.BrokerID, bool) {
	switch id {
	case "a/b":
		return GroupView{
			Node: 1, GroupRow: g.Groups(ctx)[0], WaitsFor: []string{}, MemberRows: []GroupMember{}, Offsets: []GroupOffset{},
			History: []RebalanceView{{Time: time.Unix(1, 0), Epoch: 4, Cause: "member joined", Member: "m", Took: 0.25}},
		}, 1, true
	case "theirs":
		return GroupView{}, 3, false
	case "orphan":
		return GroupView{}, kafka.NoLeader, false
	}
	return GroupView{}, 1, false
}

func TestGroups(t *testing.T) {
	base, s := serve(t, three())
	var p Problem
	if code := getJSON(t, base+"/v1/groups", &p); code != 503 {
		t.Errorf("before the node serves: %d %s", code, p.Error)
	}
	s.opts.Groups = func() Groups { return fakeGroups{} }
	var list GroupList
	if code := getJSON(t, base+"/v1/groups", &list); code != 200 || list.Node != 1 || len(list.Groups) != 1 || list.Groups[0] != (fakeGroups{}).Groups(t.Context())[0] {
		t.Errorf("%d %+v", code, list)
	}
	var g GroupView
	if code := getJSON(t, base+"/v1/groups/a%2Fb", &g); code != 200 || g.Group != "a/b" || g.Epoch != 4 || len(g.History) != 1 || g.History[0].Took != 0.25 {
		t.Errorf("%d %+v", code, g)
	}
	for path, want := range map[string]string{
		"/v1/groups/theirs": "421 group theirs is coordinated by node 3: ask that one",
		"/v1/groups/orphan": "503 group orphan has no coordinator at the moment",
		"/v1/groups/nope":   "404 there is no group nope",
	} {
		var p Problem
		if code := getJSON(t, base+path, &p); fmt.Sprint(code, " ", p.Error) != want {
			t.Errorf("%s: %d %s, want %s", path, code, p.Error, want)
		}
	}
}
