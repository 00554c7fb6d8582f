//go:build planted

package explore

import (
	"testing"

	"github.com/sluicemesh/sluice/microkernel"
)

// TestPlantedBugsAreFound looks for one bug of each invariant, go test -tags planted.
func TestPlantedBugsAreFound(t *testing.T) {
	for _, c := range []struct{ bug, by string }{
		{"limit-unlocked", "I1"},
		{"ack-is-proof", "I2"},
		{"quorum-unchecked", "I3"},
		{"locks-released-early", "I4"},
		{"withdraw-unwatched", "I5"},
		{"generation-outside-state", "I6"},
		{"term-not-taken", "I7"},
		{"reason-forgotten", "I8"},
		{"anybody-approves", "I9"},
	} {
		if r := Hunt(c.bug, Budget{Crashes: 1, Acts: 1}, 5000); len(r.Violation) < 2 || r.Violation[:2] != c.by {
			t.Errorf("%s: found %q, want %s", c.bug, r.Violation, c.by)
		}
	}
}

// TestWhatTakesTroubleToShowIsFound looks for two bugs that show only after a plan has
// frozen, and after a pause that outlives its leader; it says after how many states.
func TestWhatTakesTroubleToShowIsFound(t *testing.T) {
	for _, c := range []struct {
		bug, by string
		left    Budget
	}{
		{"frozen-holds-nothing", "I4", Budget{Faults: 1}},
		{"acts-while-recovering", "I7", Budget{Crashes: 1, Acts: 2}},
	} {
		r := Hunt(c.bug, c.left, 20_000)
		t.Logf("%s: %d states of %s, %d moves to it", c.bug, r.States, r.Setup, len(r.Path))
		if len(r.Violation) < 2 || r.Violation[:2] != c.by {
			t.Errorf("%s: found %q, want %s", c.bug, r.Violation, c.by)
		}
	}
}

// TestADrillTellsADoubledEffectFromALostOne plants one of each.
func TestADrillTellsADoubledEffectFromALostOne(t *testing.T) {
	defer microkernel.Plant("")
	for _, c := range []struct {
		bug           string
		lost, doubled int
	}{{"restarts-again", 0, 1}, {"withdraw-unwatched", 1, 0}, {"generation-outside-state", 0, 1}} {
		microkernel.Plant(c.bug)
		var lost, doubled int
		for _, d := range Drills() {
			if r := d.Run(1); lost+doubled == 0 {
				lost, doubled = r.Lost, r.Doubled
			}
		}
		if lost != c.lost || doubled != c.doubled {
			t.Errorf("%s: %d lost, %d doubled; want %d, %d", c.bug, lost, doubled, c.lost, c.doubled)
		}
	}
}
