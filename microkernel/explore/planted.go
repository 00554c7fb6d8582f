//go:build planted

package explore

import (
	"slices"

	"github.com/sluicemesh/sluice/microkernel"
)

// Hunt plants a bug and explores one world after the other until an invariant finds it,
// each at most most states, with the trouble of left and then with faults and acts alone;
// it returns the result that did, or one without a violation.
func Hunt(bug string, left Budget, most int) Result {
	microkernel.Plant(bug)
	defer microkernel.Plant("")
	var last Result
	for _, trouble := range []Budget{left, {Faults: 1, Acts: 1}, {Faults: 1}} {
		for _, setup := range Setups() {
			last = Explore(setup, trouble, most)
			if last.Violation != "" {
				return last
			}
		}
	}
	return last
}

// Findable returns the bugs that a small world can show, in the order of the invariants.
func Findable() []microkernel.Bug {
	return slices.DeleteFunc(microkernel.Bugs(), func(b microkernel.Bug) bool {
		return unfindable()[b.Name] != ""
	})
}

// unfindable are the bugs that a small world cannot show, each with why.
func unfindable() map[string]string {
	return map[string]string{
		"favourite":                 "it takes more services than there are to use up a budget",
		"rate-by-name":              "it takes more proposals than two to be metered",
		"floor-on-first-view":       "nobody asks for more instances while a plan runs",
		"compaction-forgets-timers": "its journals are not compacted",
		"strays-left":               "its journals are never older than its world",
		"lost-generation-left":      "its journals are never older than its world",
		"stray-tried-once":          "its journals are never older than its world",
	}
}
