package oracle

import (
	"errors"
	"fmt"
	"regexp"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// step is one request of a script. Its key is the script's, sent in the version under test, unless it is part of the
// setting (fixed > 0: sent in that version to both).
type step struct {
	name  string
	fixed int16 // version + 1 of a request that only sets the scene
	make  func(s *session) kmsg.Request
	after func(s *session, resp kmsg.Response) // keeps what later steps need
	skip  func(version int16) bool             // versions that this step makes no sense in
}

// script is a sequence of requests to names of its own, over one connection to each broker.
type script struct {
	name  string
	key   int16
	steps []step
}

// session is one run of a script against one broker.
type session struct {
	addr    string
	conn    *conn
	version int16
	name    string // prefix of the names of this run, equal for both brokers
	vars    map[string]any
}

func (s *session) topic(name string) string { return s.name + "-" + name }

// broker is one of the two under comparison.
type broker struct {
	name     string
	addr     string
	versions map[int16][2]int16 // by key
}

// learn asks a broker for the versions that it serves.
func learn(t *testing.T, name, addr string) *broker {
	t.Helper()
	c, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	req := kmsg.NewPtrApiVersionsRequest()
	req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = 3, "oracle", "1"
	resp, err := c.request(req)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	b := &broker{name: name, addr: addr, versions: map[int16][2]int16{}}
	for _, k := range resp.(*kmsg.ApiVersionsResponse).ApiKeys {
		b.versions[k.ApiKey] = [2]int16{k.MinVersion, k.MaxVersion}
	}
	return b
}

// known is a difference that stays, with the reason.
type known struct {
	key    int16
	step   string // regexp over "script/step"
	path   string // regexp
	reason string
	// only these versions; zero values for all
	from, to int16
	optional bool // timing decides whether it occurs
}

// runAll runs every script at every version that both serve.
func runAll(t *testing.T, ours, theirs *broker, scripts []script, list []known) {
	used := make([]bool, len(list))
	for _, sc := range scripts {
		a, okA := ours.versions[sc.key]
		b, okB := theirs.versions[sc.key]
		if !okA || !okB {
			t.Logf("%s is not served by both; left out", kmsg.NameForKey(sc.key))
			continue
		}
		if sc.key == 0 { // advertised from 0 for old clients, served from 3 by both
			a[0], b[0] = 3, 3
		}
		for v := max(a[0], b[0]); v <= min(a[1], b[1]); v++ {
			t.Run(fmt.Sprintf("%s/%s/v%d", kmsg.NameForKey(sc.key), sc.name, v), func(t *testing.T) {
				for _, d := range runScript(t, ours, theirs, sc, v) {
					if i := find(list, sc, d); i >= 0 {
						used[i] = true
						continue
					}
					t.Error(d)
				}
			})
		}
	}
	for i, k := range list {
		if !used[i] && !k.optional && !t.Failed() && !testing.Short() {
			t.Errorf("listed, but there is no such difference any more: %s %s %s", kmsg.NameForKey(k.key), k.step, k.path)
		}
	}
}

func find(list []known, sc script, d difference) int {
	for i, k := range list {
		if k.key >= 0 && k.key != d.key || k.to > 0 && d.version > k.to || d.version < k.from {
			continue
		}
		if regexp.MustCompile(k.step).MatchString(sc.name+"/"+d.step) && regexp.MustCompile(k.path).MatchString(d.path) {
			return i
		}
	}
	return -1
}

func runScript(t *testing.T, ours, theirs *broker, sc script, version int16) (diffs []difference) {
	sessions := make([]*session, 2)
	for i, b := range []*broker{ours, theirs} {
		c, err := dial(b.addr)
		if err != nil {
			t.Fatal(err)
		}
		s := &session{addr: b.addr, conn: c, version: version, name: fmt.Sprintf("%s-%d-v%d", sc.name, sc.key, version), vars: map[string]any{}}
		defer func() { _ = s.conn.Close() }()
		sessions[i] = s
	}
	for _, st := range sc.steps {
		if st.skip != nil && st.skip(version) {
			continue
		}
		var flat [2]map[string]string
		for i, s := range sessions {
			flat[i] = runStep(t, s, st)
		}
		if st.fixed > 0 {
			continue
		}
		for _, d := range compare(flat[0], flat[1]) {
			diffs = append(diffs, difference{sc.key, version, st.name, d[0], d[1], d[2]})
		}
	}
	return diffs
}

// runStep sends one request. A closed connection is an answer too, and gets a new one for the rest.
func runStep(t *testing.T, s *session, st step) map[string]string {
	req := st.make(s)
	if st.fixed > 0 {
		req.SetVersion(st.fixed - 1)
	} else {
		req.SetVersion(s.version)
	}
	resp, err := s.conn.request(req)
	if errors.Is(err, errClosed) {
		c, dialErr := dial(s.addr)
		if dialErr != nil {
			t.Fatalf("%s died after %q: %v", s.addr, st.name, dialErr)
		}
		s.conn = c
		return map[string]string{".connection": "closed"}
	}
	if err != nil {
		t.Fatalf("%s, %s: %v", s.addr, st.name, err)
	}
	if st.after != nil && resp != nil {
		st.after(s, resp)
	}
	return flatten(resp)
}
