package symptom

import (
	"math"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Suggestion is an objective that a service would have kept in its past, with what it
// rests on.
type Suggestion struct {
	Objective mesh.Objective // not set: too little is known, only observe
	Requests  uint64
	Windows   int // of at least WindowRequests requests
	Breached  int // of Windows, by the objective
	P99       time.Duration
	Errors    float64 // share of Requests
}

// Of a suggestion.
const (
	WindowRequests  = 100 // fewer say nothing of a p99
	windowSeconds   = 5
	leastWindows    = 20
	usualShare      = 0.99 // of the windows, whose worst is still usual
	headroom        = 1.25 // above what is usual
	leastErrors     = 0.001
	errorsHeadroom  = 2
	suggestionLevel = 0.95
)

// Suggest returns the objective that fits the seconds of a service, oldest first: a p99 a
// quarter above that of all but the worst hundredth of its windows, and twice the failures
// that it may have had. A past with a fault in it suggests that the fault is usual: look
// at Breached, and at how far P99 is below the objective.
func Suggest(ticks []topology.Tick) Suggestion {
	windows := windowsOf(ticks)
	all := sum(ticks)
	s := Suggestion{Requests: all.Requests, Windows: len(windows), P99: all.P99(), Errors: all.ErrorShare()}
	if len(windows) < leastWindows {
		return s
	}
	p99s, errors := make([]time.Duration, len(windows)), make([]float64, len(windows))
	for i, w := range windows {
		p99s[i], errors[i] = w.P99(), w.ErrorShare()
	}
	slices.Sort(p99s)
	slices.Sort(errors)
	usual := int(usualShare * float64(len(windows)-1))
	s.Objective.P99 = roundUp(time.Duration(headroom * float64(p99s[usual])))
	share := errorsHeadroom * topology.UpperBound(all.Errors, all.Requests, suggestionLevel)
	s.Objective.Errors = roundShareUp(min(max(leastErrors, share, errors[usual]), 1))
	for i := range windows {
		if windows[i].P99() > s.Objective.P99 || windows[i].ErrorShare() > s.Objective.Errors {
			s.Breached++
		}
	}
	return s
}

// windowsOf cuts ticks into windows of at least windowSeconds and WindowRequests; what is
// left at the end is none.
func windowsOf(ticks []topology.Tick) []topology.Tick {
	var windows []topology.Tick
	begin, requests := 0, uint64(0)
	for i := range ticks {
		requests += ticks[i].Requests
		if i+1-begin >= windowSeconds && requests >= WindowRequests {
			windows = append(windows, sum(ticks[begin:i+1]))
			begin, requests = i+1, 0
		}
	}
	return windows
}

func sum(ticks []topology.Tick) topology.Tick {
	out := topology.Tick{Hist: &topology.Histogram{}}
	for _, t := range ticks {
		out.Requests += t.Requests
		out.Errors += t.Errors
		if t.Hist != nil {
			out.Hist.Merge(t.Hist)
		}
	}
	return out
}

// roundUp rounds to the next two digits, at least a millisecond: nobody promises 137.3 ms.
func roundUp(d time.Duration) time.Duration {
	step := time.Millisecond
	for d > 100*step {
		step *= 10
	}
	return max((d+step-1)/step*step, time.Millisecond)
}

// roundShareUp rounds to the next tenth of a percent.
func roundShareUp(share float64) float64 { return min(math.Ceil(share*1000-1e-9)/1000, 1) }
