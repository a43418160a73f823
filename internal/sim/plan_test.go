package sim

import (
	"reflect"
	"testing"
)

// TestPlans: a seed gives one plan, a few hundred give every fault, and none loses two disks.
func TestPlans(t *testing.T) {
	seen := map[faultKind]int{}
	for seed := range uint64(340) {
		p := drawPlan(seed)
		if !reflect.DeepEqual(p, drawPlan(seed)) {
			t.Fatalf("seed %d gives two plans", seed)
		}
		lost := 0
		for _, f := range p.faults {
			seen[f.kind]++
			if f.kind == faultWipe || f.kind == faultCorrupt {
				lost++
			}
			if f.node == f.other || f.node < 1 || f.node > p.nodes || f.other < 1 || f.other > p.nodes {
				t.Errorf("seed %d: %s befalls nobody", seed, f)
			}
		}
		if lost > 1 {
			t.Errorf("seed %d loses %d disks", seed, lost)
		}
	}
	for kind := range faultKinds {
		if seen[faultKind(kind)] == 0 {
			t.Errorf("no plan has %q", faultKind(kind))
		}
	}
}
