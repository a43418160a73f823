package tidy

import (
	"slices"
	"strings"
	"testing"
)

// layers: a package imports only from lower layers. A directory below one of these belongs to its layer.
var layers = [][]string{
	0:  {"internal/kafka", "internal/clock", "internal/wire", "internal/record", "internal/vfs", "internal/config", "internal/sim/simnet", "internal/sim/grouplog"},
	1:  {"internal/wal", "internal/metadata", "internal/peer"},
	2:  {"internal/log"},
	3:  {"internal/store"},
	4:  {"internal/replica", "internal/controller", "internal/tier"},
	5:  {"internal/coordinator", "internal/index", "internal/lifecycle", "internal/stream"},
	6:  {"internal/group", "internal/txn", "internal/auth"},
	7:  {"internal/api"},
	8:  {"internal/server", "internal/admin"},
	9:  {"internal/broker", "internal/nodes"},
	10: {"internal/sim", "internal/bench"},
	11: {"internal/cli"},
	12: {"cmd", "test", "internal/tidy"},
}

// within names imports that are fine although both packages stand in one layer: leaves of layer 0.
var within = map[string][]string{
	"internal/record": {"internal/kafka"},
	"internal/wire":   {"internal/kafka", "internal/clock"},
	"internal/vfs":    {"internal/clock"},
	"internal/config": {"internal/kafka"},
}

func layerOf(dir string) (layer int, pkg string) {
	for i, row := range layers {
		for _, p := range row {
			if dir == p || strings.HasPrefix(dir, p+"/") {
				return i, p
			}
		}
	}
	return -1, ""
}

func TestLayering(t *testing.T) {
	for _, s := range sources(t) {
		layer, pkg := layerOf(s.dir)
		if layer < 0 {
			t.Errorf("%s: package %s stands in no layer; give it one in internal/tidy/layers_test.go and in docs/ARCHITECTURE.md", s.path, s.dir)
			continue
		}
		if s.test { // a test may stand on what is above what it tests
			continue
		}
		for _, path := range s.imports() {
			dir, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			l, p := layerOf(dir)
			if p == pkg || slices.Contains(within[pkg], p) {
				continue
			}
			if l >= layer {
				t.Errorf("%s: layer %d imports %s of layer %d", s.path, layer, path, l)
			}
		}
	}
}

// reserved imports, and the packages that may have them.
var reserved = map[string][]string{
	"net":                   {"internal/wire", "internal/peer", "internal/vfs", "internal/server", "internal/admin", "internal/broker", "internal/cli", "internal/bench", "internal/nodes", "internal/sim", "internal/sim/simnet"},
	"os":                    {"internal/wire", "internal/peer", "internal/vfs", "internal/server", "internal/admin", "internal/broker", "internal/cli", "internal/bench", "internal/nodes", "internal/sim", "internal/sim/simnet"},
	"net/http":              {"internal/admin", "internal/cli", "internal/bench", "internal/broker"},
	"go.etcd.io/raft/v3":    {"internal/controller"},
	"github.com/spf13":      {"internal/cli"},
	"github.com/knadh":      {"internal/cli", "internal/config"},
	"github.com/prometheus": {"internal/admin"},
	"unsafe":                {"internal/vfs", "internal/wire"},
	"testing":               {},
}

func TestReservedImports(t *testing.T) {
	for _, s := range sources(t) {
		_, pkg := layerOf(s.dir)
		if s.test || pkg == "cmd" || pkg == "test" {
			continue
		}
		for _, path := range s.imports() {
			for name, allowed := range reserved {
				if path == name || strings.HasPrefix(path, name+"/") && strings.Contains(name, ".") {
					if !slices.Contains(allowed, pkg) {
						t.Errorf("%s imports %s, which is reserved for %v", s.path, path, allowed)
					}
				}
			}
		}
	}
}
