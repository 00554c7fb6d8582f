package sim

import (
	"testing"

	"github.com/sluicemesh/sluice/microkernel"
)

// TestAFailingSeedShrinks takes a property that is not one: no plan is ever compensated.
func TestAFailingSeedShrinks(t *testing.T) {
	o := Options{extra: func(s *microkernel.State) string {
		for _, r := range s.OpenRecords() {
			if r.Phase == microkernel.Compensating && len(r.Steps) > 1 {
				return "I0: a plan is undone"
			}
		}
		return ""
	}}
	before := Run(5, o)
	small, after := Shrink(5, o)
	if len(before.Violations) == 0 || len(after.Violations) == 0 {
		t.Fatalf("violations before %v, after %v; want some", before.Violations, after.Violations)
	}
	if len(after.Taken) >= len(before.Taken) || after.Events > before.Events {
		t.Errorf("%d choices, %d events; before %d, %d: nothing shrank", len(after.Taken), after.Events, len(before.Taken), before.Events)
	}
	if again := Run(5, small); len(again.Violations) == 0 || again.Violations[0] != after.Violations[0] {
		t.Errorf("the shrunk run does not replay: %v, want %v", again.Violations, after.Violations)
	}
	t.Logf("%d choices and %d events became %d and %d", len(before.Taken), before.Events, len(after.Taken), after.Events)
}
