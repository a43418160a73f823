package cli

import (
	"strings"
	"testing"
	"time"

	"chronik/internal/admin"
)

// A group that has committed nothing has no lag that one could know of: to say 0 would say that it has read everything.
func TestExplainGroupWithoutCommits(t *testing.T) {
	view := admin.GroupView{GroupRow: admin.GroupRow{Group: "g", Type: "classic", State: "Stable"}}
	explain := func() string {
		var out strings.Builder
		if err := printGroupExplanation(&out, &view, time.Now()); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if text := explain(); !strings.Contains(text, "nothing committed") || strings.Contains(text, "lag") {
		t.Error(text)
	}
	view.Offsets = []admin.GroupOffset{{Topic: "t", Offset: 3, End: 5, Lag: 2}}
	view.Lag = 2
	if text := explain(); !strings.Contains(text, "lag 2") {
		t.Error(text)
	}
}
