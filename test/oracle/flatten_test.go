package oracle

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// flatten turns an answer into path → value. Lists whose order means nothing are sorted by their elements' names.
func flatten(resp kmsg.Response) map[string]string {
	out := map[string]string{}
	if resp == nil {
		return out
	}
	walk(out, "", reflect.ValueOf(resp).Elem())
	return out
}

func walk(out map[string]string, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			out[path] = "null"
			return
		}
		walk(out, path, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || f.Name == "Version" || f.Name == "UnknownTags" {
				continue
			}
			walk(out, path+"."+f.Name, v.Field(i))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			out[path] = fmt.Sprintf("%x", v.Bytes())
			return
		}
		if v.IsNil() {
			out[path] = "null"
			return
		}
		out[path+".#"] = fmt.Sprint(v.Len())
		seen := map[string]int{}
		for i := range v.Len() {
			name := nameOf(v.Index(i), i)
			if seen[name]++; seen[name] > 1 {
				name = fmt.Sprintf("%s~%d", name, seen[name])
			}
			walk(out, fmt.Sprintf("%s[%s]", path, name), v.Index(i))
		}
	case reflect.Array:
		out[path] = fmt.Sprintf("%x", v.Interface())
	default:
		out[path] = fmt.Sprint(v.Interface())
	}
}

// nameOf is what tells elements of a list apart, so that lists in another order compare as equal; else the index.
func nameOf(v reflect.Value, index int) string {
	if v.Kind() == reflect.Struct {
		for _, field := range []string{"Topic", "Group", "Name", "ConfigName", "ResourceName", "Partition", "ApiKey", "NodeID", "TopicID"} {
			f := v.FieldByName(field)
			if !f.IsValid() {
				continue
			}
			if f.Kind() == reflect.Pointer {
				if f.IsNil() {
					continue
				}
				f = f.Elem()
			}
			if s := fmt.Sprint(f.Interface()); s != "" {
				return s
			}
		}
	}
	return fmt.Sprint(index)
}

// ignored are fields whose values mean nothing across two brokers.
var ignored = []string{"ThrottleMillis", "Host", "Port", "ClusterID", "ErrorMessage", "ErrMessage", "TopicID", "Rack", "MemberID", "SupportedFeatures", "FinalizedFeatures", "FinalizedFeaturesEpoch", "ZkMigrationReady", "Documentation"}

// difference is one field that the brokers answered differently.
type difference struct {
	key     int16
	version int16
	step    string
	path    string
	ours    string
	theirs  string
}

func (d difference) String() string {
	return fmt.Sprintf("%s v%d, %s: %s is %s, there %s", kmsg.NameForKey(d.key), d.version, d.step, d.path, d.ours, d.theirs)
}

func compare(ours, theirs map[string]string) (diffs [][3]string) {
	var paths []string
	for p := range ours {
		paths = append(paths, p)
	}
	for p := range theirs {
		if _, ok := ours[p]; !ok {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		last := p[strings.LastIndexByte(p, '.')+1:]
		if slices.Contains(ignored, last) {
			continue
		}
		a, okA := ours[p]
		b, okB := theirs[p]
		if !okA {
			a = "absent"
		}
		if !okB {
			b = "absent"
		}
		if a != b {
			diffs = append(diffs, [3]string{p, a, b})
		}
	}
	return diffs
}
