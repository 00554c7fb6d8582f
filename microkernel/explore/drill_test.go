package explore

import (
	"fmt"
	"strings"
	"testing"
)

// TestACrashAtEveryBoundary crashes representative plans at every boundary, and each
// recovery again at every boundary until the world has been looked at.
func TestACrashAtEveryBoundary(t *testing.T) {
	drills := Drills()
	if testing.Short() {
		drills = drills[len(drills)-2:]
	}
	for i, d := range drills {
		t.Run(fmt.Sprintf("%d %s %v", i, d.Setup.Name, d.Cues), func(t *testing.T) {
			t.Parallel()
			r := d.Run(2)
			t.Logf("%d moves, crashed at %d boundaries, and at %d pairs of them; %d restarts, %d overlays, %d scales and rollbacks, ended %v",
				r.Line, r.Once, r.Twice, r.Restarts, r.Overlays, r.Scales, r.Phases)
			if r.Violation != "" {
				t.Fatalf("%s\n  %s", r.Violation, strings.Join(r.Path, "\n  "))
			}
			if r.Cues != len(d.Cues) {
				t.Errorf("%d of %d cues were taken", r.Cues, len(d.Cues))
			}
			if r.Once < 20 || r.Twice < r.Once || r.Lost+r.Doubled > 0 {
				t.Errorf("%d boundaries, %d pairs, %d lost, %d doubled; want 20, more, 0 and 0", r.Once, r.Twice, r.Lost, r.Doubled)
			}
		})
	}
}
