package harm

import (
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/sequential"
)

// History is what is known of a service when an action begins.
type History struct {
	Ticks []Tick // the seconds before, oldest first; the last 60 count
	Onset int    // index of the first tick of its symptom; len(Ticks) or more = no symptom
}

// surge is the share of failures that is no longer normal, whatever the objective.
const surge = 0.02

// Baseline completes subject from its history: the level before the action and, if it was
// broken, the level before that began. A service was broken if it has a symptom, or if
// it says so itself (Broken), or if its last window, of at least window seconds, was in
// breach of its objective or failed more than 2 % and three times as often as before.
func Baseline(subject Subject, h History, window int) Subject {
	ticks, onset := h.Ticks, min(h.Onset, len(h.Ticks))
	if skip := len(ticks) - baselineSeconds; skip > 0 {
		ticks, onset = ticks[skip:], max(0, onset-skip)
	}
	recent, start := lastWindow(ticks, window)
	earlier := Measure(ticks[:start])
	switch {
	case onset < len(ticks):
		subject.Broken = true
		start = onset
	case subject.Broken:
	case BoundsOf(subject.Objective, Level{}).Breach(recent) != "":
		subject.Broken = true
	case recent.Known() && recent.Errors > max(surge, 3*earlier.Errors):
		subject.Broken = true
	}
	if !subject.Broken {
		subject.Before, subject.Shape = Measure(ticks), shapeOf(ticks)
		subject.Unrest = unrestOf(ticks, subject.Shape, slowerThan(&subject))
		return subject
	}
	subject.Before, subject.Healthy = Measure(ticks[start:]), Measure(ticks[:start])
	return subject
}

// shapeOf returns how the latencies of ticks are spread.
func shapeOf(ticks []Tick) sequential.Ladder {
	all := &topology.Histogram{}
	for _, t := range ticks {
		if t.Hist != nil {
			all.Merge(t.Hist)
		}
	}
	return sequential.NewLadder(all)
}

// lastWindow returns the level of the last ticks, widened as history.window does, and
// where they begin.
func lastWindow(ticks []Tick, least int) (Level, int) {
	requests, start := uint64(0), len(ticks)
	for start > 0 && len(ticks)-start < maxWindow && (len(ticks)-start < least || requests < LeastRequests) {
		start--
		requests += ticks[start].Requests
	}
	return Measure(ticks[start:]), start
}
