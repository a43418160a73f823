package pair

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Difference is one way in which the two sides are known to differ.
type Difference struct {
	Asked string // matches what was asked, for example `^CreateTopics v\d+ .*"double"`
	Field string // matches the field and the two values: `Topics.ErrorCode: 17, not 42`, theirs first
	Why   string

	asked, field *regexp.Regexp
	seen         int
}

func (d *Difference) String() string { return fmt.Sprintf("{%q, %q}", d.Asked, d.Field) }

// Compare reports every field that differs and that no row of known covers, and every row that covers nothing.
func Compare(t *testing.T, theirs, ours *Side, known []Difference) {
	t.Helper()
	known = slices.Clone(known)
	for i := range known {
		known[i].asked, known[i].field = regexp.MustCompile(known[i].Asked), regexp.MustCompile("^(?:"+known[i].Field+")$")
	}
	differ, listed, first := 0, 0, map[string]string{}
	count := map[string]int{}
	for i := range min(len(theirs.Said), len(ours.Said)) {
		a, b := theirs.Said[i], ours.Said[i]
		if a.What != b.What {
			for _, d := range slices.Sorted(maps.Keys(first)) {
				t.Errorf("%s, first in\n    %s", d, first[d])
			}
			t.Fatalf("the conversations went apart at %d:\n%s was asked %s\n%s was asked %s", i, theirs.Name, a.What, ours.Name, b.What)
		}
		bad := false
		for _, d := range diff("", a.Body, b.Body) {
			if cover(known, a.What, d) {
				listed++
				continue
			}
			bad = true
			api, _, _ := strings.Cut(a.What, " ")
			count[api+" "+d]++
			if _, ok := first[api+" "+d]; !ok {
				first[api+" "+d] = fmt.Sprintf("%s\n    %s: %s\n    %s: %s", a.What, theirs.Name, text(a.Body), ours.Name, text(b.Body))
			}
		}
		if bad {
			differ++
		}
	}
	for _, d := range slices.Sorted(maps.Keys(first)) {
		t.Errorf("%s (%d times), first in\n    %s", d, count[d], first[d])
	}
	if len(theirs.Said) != len(ours.Said) {
		t.Errorf("%d answers of %s, %d of %s", len(theirs.Said), theirs.Name, len(ours.Said), ours.Name)
	}
	for i := range known {
		if known[i].seen == 0 {
			t.Errorf("the listed difference %v no longer occurs: remove it", &known[i])
		}
	}
	t.Logf("%d answers compared, %d differ, %d fields differ as listed", len(theirs.Said), differ, listed)
}

func cover(known []Difference, asked, d string) bool {
	covered := false
	for i := range known {
		if known[i].asked.MatchString(asked) && known[i].field.MatchString(d) {
			known[i].seen++
			covered = true
		}
	}
	return covered
}

// diff tells each field that differs as "path: theirs, not ours"; places in lists have no numbers.
func diff(path string, theirs, ours any) []string {
	switch a := theirs.(type) {
	case map[string]any:
		b, ok := ours.(map[string]any)
		if !ok {
			break
		}
		var out []string
		for _, k := range slices.Sorted(maps.Keys(a)) {
			out = append(out, diff(join(path, k), a[k], b[k])...)
		}
		for _, k := range slices.Sorted(maps.Keys(b)) {
			if _, ok := a[k]; !ok {
				out = append(out, diff(join(path, k), nil, b[k])...)
			}
		}
		return out
	case []any:
		b, ok := ours.([]any)
		if !ok || len(a) != len(b) || len(a) > 0 && !isObject(a[0]) {
			break
		}
		var out []string
		for i := range a {
			out = append(out, diff(path, a[i], b[i])...)
		}
		return out
	}
	if a, b := text(theirs), text(ours); a != b {
		return []string{path + ": " + a + ", not " + b}
	}
	return nil
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}
