package pair

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// apart are fields that are each server's own: addresses, texts, throttling.
var apart = []string{"ThrottleMillis", "Version", "UnknownTags", "ErrorMessage", "Host", "Port"}

// canonical drops what is each server's own and orders what has no order; the rows of one topic become one.
func (s *Side) canonical(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, f := range apart {
			delete(v, f)
		}
		for k := range v {
			v[k] = s.canonical(v[k])
		}
	case []any:
		if s.Ordered {
			for i := range v {
				v[i] = s.canonical(v[i])
			}
			return v
		}
		return s.ordered(v)
	}
	return v
}

func (s *Side) ordered(v []any) any {
	var out []any
	topics := map[string]map[string]any{}
	for _, one := range v {
		row, _ := s.canonical(one).(map[string]any)
		partitions, ok := row["Partitions"].([]any)
		if !ok {
			out = append(out, s.canonical(one))
			continue
		}
		key := fmt.Sprint(row["Topic"], row["TopicID"])
		if first := topics[key]; first != nil {
			first["Partitions"] = s.canonical(append(first["Partitions"].([]any), partitions...))
			continue
		}
		topics[key] = row
		out = append(out, row)
	}
	slices.SortFunc(out, func(a, b any) int { return strings.Compare(sortKey(a), sortKey(b)) })
	return out
}

// sortKey has what identifies a row first, so that rows that differ elsewhere still meet.
func sortKey(v any) string {
	key := ""
	if row, ok := v.(map[string]any); ok {
		for _, field := range []string{"Group", "Topic", "TopicID", "ResourceName", "Name", "MemberID"} {
			key += text(row[field])
		}
		if n, ok := row["Partition"].(float64); ok {
			key += fmt.Sprintf("%9.0f", n)
		}
	}
	return key + text(v)
}

func (s *Side) replace(v any, old, with string) any {
	before := text(v)
	if !strings.Contains(before, old) {
		return v
	}
	var out any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(before, old, with)), &out); err != nil {
		return v
	}
	return s.canonical(out)
}

func drop(v any, fields []string) any {
	switch v := v.(type) {
	case map[string]any:
		for _, f := range fields {
			delete(v, f)
		}
		for k := range v {
			v[k] = drop(v[k], fields)
		}
	case []any:
		for i := range v {
			v[i] = drop(v[i], fields)
		}
	}
	return v
}

func text(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}
