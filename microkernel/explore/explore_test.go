package explore

import (
	"testing"
)

func TestSmallWorlds(t *testing.T) {
	for _, setup := range Setups() {
		r := Explore(setup, Budget{Crashes: 1}, 1_000_000)
		t.Logf("%s: %d states, %d moves, depth %d, %d ends, whole %v, %v", r.Setup, r.States, r.Moves, r.Depth, r.Ends, r.Whole, r.Phases)
		if r.Violation != "" {
			t.Errorf("%s: %s", r.Setup, r.Violation)
			for _, step := range r.Path {
				t.Log("  ", step)
			}
		}
	}
}

func BenchmarkDisjoint(b *testing.B) {
	for range b.N {
		Explore(Setups()[0], Budget{Crashes: 1}, 20_000)
	}
}
