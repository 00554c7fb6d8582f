package explore

import (
	"strings"
	"testing"
)

// TestSmallWorlds explores every world to its end: with one crash at every boundary where
// that is soon done, else without. go run ./microkernel/explore/cmd takes all trouble.
func TestSmallWorlds(t *testing.T) {
	large := map[string]bool{"disjoint": true, "one after another": true, "nested": true, "rolling": true, "limits": true, "both": true}
	for _, setup := range Setups() {
		t.Run(setup.Name, func(t *testing.T) {
			t.Parallel()
			left := Budget{Crashes: 1}
			if large[setup.Name] || testing.Short() {
				left = Budget{}
			}
			explored(t, setup, left)
		})
	}
}

// TestTroubleWithoutACrash explores worlds with one trouble of each kind.
func TestTroubleWithoutACrash(t *testing.T) {
	troubles := map[string]Budget{
		"held": {Acts: 1, Timeouts: 1}, "one of two": {Faults: 1}, "overlapping": {Harms: 1}, "await": {Timeouts: 1},
	}
	if testing.Short() {
		troubles = map[string]Budget{"await": {Timeouts: 1}}
	}
	for name, left := range troubles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			explored(t, named(t, name), left)
		})
	}
}

func named(t *testing.T, name string) Setup {
	t.Helper()
	for _, s := range Setups() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("there is no world %s", name)
	return Setup{}
}

func explored(t *testing.T, setup Setup, left Budget) {
	t.Helper()
	r := Explore(setup, left, 100_000)
	t.Logf("%+v: %d states, %d moves, longest path %d, %d ends: %v", left, r.States, r.Moves, r.Depth, r.Ends, r.Phases)
	if r.Violation != "" {
		t.Fatalf("%s\n  %s", r.Violation, strings.Join(r.Path, "\n  "))
	}
	if !r.Whole || r.Ends == 0 {
		t.Errorf("explored to its end %v, %d ends; want true and some", r.Whole, r.Ends)
	}
	for _, name := range []string{"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "progress"} {
		if r.Invariants[name] == 0 {
			t.Errorf("%s was never evaluated", name)
		}
	}
}

// TestAnExplorationIsTheSameEachTime compares two of them.
func TestAnExplorationIsTheSameEachTime(t *testing.T) {
	a, b := Explore(named(t, "held"), Budget{Crashes: 1}, 1000), Explore(named(t, "held"), Budget{Crashes: 1}, 1000)
	if a.States != b.States || a.Moves != b.Moves || a.Ends != b.Ends {
		t.Errorf("%d states, %d moves, %d ends; then %d, %d, %d", a.States, a.Moves, a.Ends, b.States, b.Moves, b.Ends)
	}
}

func BenchmarkDisjoint(b *testing.B) {
	all := Setups()
	setup := all[len(all)-1]
	for range b.N {
		Explore(setup, Budget{Crashes: 1}, 20_000)
	}
}
