package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// unknown says why a name is no key: Kafka's but not acted on, the other table's, or none at all, with the nearest.
func unknown(kind, name string, known map[string]*Key, refused map[string]string, other map[string]*Key) error {
	if why, ok := refusedBecause(name, refused); ok {
		return fmt.Errorf("%s %s is not supported: %s", kind, name, why)
	}
	if o := other[name]; o != nil {
		if o.Topic != "" {
			return fmt.Errorf("%s is a broker key, for a topic use %s", name, o.Topic)
		}
		for _, k := range slices.Sorted(maps.Keys(known)) {
			if known[k].Topic == name && len(known[k].Before) == 0 {
				return fmt.Errorf("%s is a topic key, the broker's default for it is %s", name, k)
			}
		}
		return fmt.Errorf("%s %s is not known (it is a broker key)", kind, name)
	}
	if near := nearest(name, slices.Sorted(maps.Keys(known))); near != "" {
		return fmt.Errorf("unknown %s %s, did you mean %s?", kind, name, near)
	}
	return fmt.Errorf("unknown %s %s", kind, name)
}

func refusedBecause(name string, refused map[string]string) (string, bool) {
	if why, ok := refused[name]; ok {
		return why, true
	}
	prefixes := slices.Sorted(maps.Keys(refused))
	slices.Reverse(prefixes) // the longest that fits comes first
	for _, prefix := range prefixes {
		if strings.HasSuffix(prefix, ".") && strings.HasPrefix(name, prefix) {
			return refused[prefix], true
		}
	}
	return "", false
}

// nearest is the name with the smallest edit distance, the same words in another order counting as one edit.
func nearest(name string, names []string) string {
	best, bestDistance := "", len(name)+1
	for _, n := range names {
		d := distance(name, n)
		if sorted(name) == sorted(n) {
			d = 1
		}
		if d < bestDistance {
			best, bestDistance = n, d
		}
	}
	return best
}

func sorted(name string) string {
	w := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '.' || r == '_' || r == '-' })
	slices.Sort(w)
	return strings.Join(w, ".")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
