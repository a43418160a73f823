package regex

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"chronik/internal/kafka"
)

type names struct {
	list   []string
	offset kafka.Offset
	asked  *int
}

func (n names) Names() []string {
	if n.asked != nil {
		*n.asked++
	}
	return n.list
}
func (n names) Offset() kafka.Offset { return n.offset }

func TestResolve(t *testing.T) {
	all := names{list: []string{"__consumer_offsets", "a", "a-1", "a-2", "ab", "b.c"}, offset: 1}
	for _, c := range []struct{ pattern, want string }{
		{"a.*", "a a-1 a-2 ab"},
		{"a", "a"}, // the whole name, as re2j's matches()
		{"^a$", "a"},
		{"b", ""},
		{"a|b.c", "a b.c"}, // alternatives are whole names too
		{".*", "a a-1 a-2 ab b.c"},
		{"__consumer_offsets", ""},
		{"(?i)A-\\d", "a-1 a-2"},
		{"\\Qb.c\\E", "b.c"},
		{"", ""},
		{"a(", ""}, // not valid
	} {
		cache := NewCache()
		if got := strings.Join(cache.Resolve(c.pattern, all), " "); got != c.want {
			t.Errorf("%q matches %q, want %q", c.pattern, got, c.want)
		}
		for _, cache := range []*Cache{cache, NewCache()} {
			for _, name := range all.list {
				if got, want := cache.Matches(c.pattern, name), slices.Contains(strings.Fields(c.want), name); got != want {
					t.Errorf("%q matches %q: %v", c.pattern, name, got)
				}
			}
		}
	}
}

func TestValidate(t *testing.T) {
	for _, pattern := range []string{"a(", "[", "a)(b", "*", "(?=a)", `\1`, `a{1001}`, strings.Repeat("a", PatternMax+1), strings.Repeat("(", 1001) + strings.Repeat(")", 1001)} {
		if err := Validate(pattern); !errors.Is(err, kafka.ErrInvalidRegularExpression) {
			t.Errorf("%.20q: %v", pattern, err)
		}
	}
	for _, pattern := range []string{"", "a", "a|b", "(?i)x.*", "[[:alpha:]]+", strings.Repeat("a", PatternMax)} {
		if err := Validate(pattern); err != nil {
			t.Errorf("%.20q: %v", pattern, err)
		}
	}
}

// TestCached: the names are looked at once for each version, and equal answers are one slice.
func TestCached(t *testing.T) {
	var asked int
	c := NewCache()
	first := c.Resolve("a.*", names{[]string{"a", "b"}, 1, &asked})
	again := c.Resolve("a.*", names{[]string{"changed without a new offset"}, 1, &asked})
	same := c.Resolve("a.*", names{[]string{"a", "b", "c"}, 2, &asked})
	more := c.Resolve("a.*", names{[]string{"a", "a2", "b", "c"}, 3, &asked})
	if asked != 3 || &first[0] != &again[0] || &first[0] != &same[0] || len(more) != 2 {
		t.Errorf("asked %d times: %v %v %v %v", asked, first, again, same, more)
	}
	c.Forget(func(string) bool { return false })
	if c.Resolve("a.*", names{[]string{"a", "b"}, 3, &asked}); asked != 4 {
		t.Error("a forgotten pattern is still known")
	}
}

func BenchmarkResolve(b *testing.B) {
	all := names{}
	for i := range 10_000 {
		all.list = append(all.list, fmt.Sprintf("team-%02d.orders.%d", i%100, i))
	}
	c := NewCache()
	for b.Loop() {
		all.offset++
		c.Resolve(`team-4\d\.orders\..*`, all)
	}
}
