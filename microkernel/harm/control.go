package harm

import (
	"slices"
	"time"
)

// leastControl is the baseline that a control is taken to have at least: a machine that
// is a little busy multiplies a tiny latency.
const leastControl = 10 * time.Millisecond

// control is a service that the plan cannot have hurt, watched beside the subjects. When
// it is slower by some factor in the same seconds, so is the machine, and the trigger
// takes that factor off a subject's latency. The label of record takes nothing off: the
// plan may be what keeps the machine busy.
type control struct {
	before  Level
	history history
}

// Compare takes the second that the next call of Next is about, of each of the controls
// that the settings name, in their order. Without it there is no comparison.
func (t *Trial) Compare(ticks []Tick) {
	for i := range t.controls {
		t.controls[i].history.add(ticks[i])
	}
}

// slowdown returns by which factor the controls are slower than before: the median, at
// least 1.
func (t *Trial) slowdown() float64 {
	var factors []float64
	for i := range t.controls {
		c := &t.controls[i]
		if now := c.history.window(t.settings.Window); now.Known() && c.before.Known() {
			factors = append(factors, float64(now.P99)/float64(max(c.before.P99, leastControl)))
		}
	}
	if len(factors) == 0 {
		return 1
	}
	slices.Sort(factors)
	return max(1, factors[(len(factors)-1)/2])
}
