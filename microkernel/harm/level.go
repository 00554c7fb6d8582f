package harm

import (
	"fmt"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Tick is what happened at a service in one second: Requests, Errors, and Hist of their
// latencies (nil = none).
type Tick = topology.Tick

// LeastRequests is how many requests a window needs to say anything.
const LeastRequests = 100

// Margin is how much worse than the baseline is a breach.
const Margin = 1.1

// Floors of a breach where the service has no objective: nobody said what matters to it,
// so 1.1 x a tiny baseline must not. A service may be slower or fail more than its
// baseline by as much.
const (
	FloorP99    = 50 * time.Millisecond
	FloorErrors = 0.01 // share of requests
)

// Level is how a service did over some time.
type Level struct {
	Requests uint64
	Errors   float64 // share of Requests
	P99      time.Duration
}

// Measure sums ticks to a level.
func Measure(ticks []Tick) Level {
	var sum Tick
	hist := &topology.Histogram{}
	for _, t := range ticks {
		sum.Requests += t.Requests
		sum.Errors += t.Errors
		if t.Hist != nil {
			hist.Merge(t.Hist)
		}
	}
	return Level{Requests: sum.Requests, Errors: sum.ErrorShare(), P99: hist.Quantile(0.99)}
}

// Known reports whether l rests on enough requests to be a baseline.
func (l Level) Known() bool { return l.Requests >= LeastRequests }

// Bounds are what a window is in breach above. A field that is negative bounds nothing.
type Bounds struct {
	P99    time.Duration
	Errors float64
}

// BoundsOf returns max(objective, 1.1 x baseline) where either is known; where there is
// no objective, at least the baseline and its floor.
func BoundsOf(objective mesh.Objective, baseline Level) Bounds {
	b := Bounds{P99: -1, Errors: -1}
	if objective.P99 > 0 {
		b.P99 = objective.P99
	}
	if objective.Errors > 0 {
		b.Errors = objective.Errors
	}
	if !baseline.Known() {
		return b
	}
	if objective.P99 <= 0 {
		b.P99 = baseline.P99 + FloorP99
	}
	if objective.Errors <= 0 {
		b.Errors = baseline.Errors + FloorErrors
	}
	return Bounds{P99: max(b.P99, worse(baseline.P99)), Errors: max(b.Errors, Margin*baseline.Errors)}
}

// worse returns d and 10 %, in integers so that it is the same everywhere.
func worse(d time.Duration) time.Duration { return d / 10 * 11 }

// Breach says what of the window is above the bounds, "" if nothing is, or if it has too
// few requests to say.
func (b Bounds) Breach(window Level) string {
	switch {
	case !window.Known():
		return ""
	case b.Errors >= 0 && window.Errors > b.Errors:
		return fmt.Sprintf("%.2f%% of %d requests failed, %.2f%% is the bound",
			100*window.Errors, window.Requests, 100*b.Errors)
	case b.P99 >= 0 && window.P99 > b.P99:
		return fmt.Sprintf("p99 %s of %d requests, %s is the bound",
			round(window.P99), window.Requests, round(b.P99))
	}
	return ""
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// history holds the last ticks of a service.
type history struct {
	ticks [maxWindow]Tick
	n     int // ticks that were ever added
}

// Window bounds, in ticks of a second.
const maxWindow = 30

func (h *history) add(t Tick) {
	h.ticks[h.n%maxWindow] = t
	h.n++
}

// window returns the level of the last least ticks, widened until it has LeastRequests or
// all that is there.
func (h *history) window(least int) Level {
	have := min(h.n, maxWindow)
	requests, ticks := uint64(0), make([]Tick, 0, maxWindow)
	for back := 1; back <= have && (back <= least || requests < LeastRequests); back++ {
		t := h.ticks[(h.n-back)%maxWindow]
		requests += t.Requests
		ticks = append(ticks, t)
	}
	return Measure(ticks)
}
