package harm

import (
	"math"
	"time"

	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/sequential"
)

// falseAlarms is the chance of a false alarm in sequential.Horizon (300 s) that the
// trigger of a plan may have, over all its services and tests.
const falseAlarms = 0.01

// testsOfService is over how many tests a service's part of it is split.
const testsOfService = 3

// How much more the seconds of real traffic vary than independent requests would, at least:
// where the baseline varied more, that counts (Unrest).
const (
	tailDispersion = 2
	rankDrift      = 0.05
	rankTolerance  = 0.05
)

// trigger is the bank of tests of one service. The tests say that something is surely
// different; an alarm is only what is also large, by the level of the last window.
type trigger struct {
	errors sequential.Share
	slow   sequential.Share // than slower
	shift  sequential.Rank  // of all latencies
	slower time.Duration    // what counts as slow, 0 = latency is not tested
	large  Bounds
}

// Rates of the bank.
const (
	leastErrors = 0.001 // share of failures that is normal for every service
	manyErrors  = 0.05
	slowNormal  = 0.015                // share above the bound of slowness that is normal: 1 % by definition, and some
	leastSlower = 5 * time.Millisecond // above the baseline's p99: less is noise of the machine
	doubled     = 1.8                  // a p99 that has doubled is measured as this much nearly always
	leastFactor = 1.25                 // of all latencies: less is no strong harm, however sure
	shiftWindow = 3                    // seconds by which it is measured
)

// slowRises are the shares of slow requests that are looked for.
func slowRises() []float64 { return []float64{0.04, 0.08, 0.3} }

func newTrigger(s *Subject, family int) trigger {
	settings := sequential.Settings{Alpha: sequential.Family(falseAlarms, testsOfService*family)}
	normal := max(leastErrors, s.Objective.Errors, upper(s.Before))
	most := (1 + normal) / 2
	t := trigger{large: BoundsOf(s.Objective, s.Before)}
	t.errors = sequential.NewShare(normal, []float64{min(10*normal, most), min(max(50*normal, manyErrors), most)}, settings)
	if s.Objective.P99 <= 0 {
		t.large.P99 = max(t.large.P99, time.Duration(doubled*float64(s.Before.P99)))
	}
	if s.Before.Known() {
		unrest := s.Unrest.within()
		t.slower = slowerThan(s)
		t.shift = sequential.NewRank(s.Shape, sequential.RankSettings{
			Settings: settings, Tolerance: rankTolerance, Drift: unrest.Drift,
		})
		settings.Dispersion = unrest.Dispersion
		t.slow = sequential.NewShare(slowNormal, slowRises(), settings)
	}
	return t
}

// slowerThan is what counts as slow.
func slowerThan(s *Subject) time.Duration {
	return max(s.Objective.P99, worse(s.Before.P99), s.Before.P99+leastSlower)
}

// failing reports whether window fails by more than the label of record allows. Unlike
// that it takes a window of few requests: the tests have counted them.
func (t *trigger) failing(window Level) bool { return window.Errors > max(t.large.Errors, 0) }

// slowed reports the same of latency, which must have doubled where there is no objective.
func (t *trigger) slowed(p99 time.Duration) bool { return p99 > t.large.P99 }

// baselineSeconds is how long the baseline before an action is.
const baselineSeconds = 60

// upper returns an upper estimate (two standard deviations) of a level's error share, the
// default when nothing is known.
func upper(l Level) float64 {
	if !l.Known() {
		return 10 * leastErrors
	}
	failed := l.Errors * float64(l.Requests)
	return min(0.9, (failed+2*math.Sqrt(failed))/float64(l.Requests))
}

// errorAlarm counts the failures of a tick.
func (t *trigger) errorAlarm(tick Tick) bool { return t.errors.Add(tick.Errors, tick.Requests) }

// slowAlarms counts the latencies of a tick: more are slow, all are slower.
func (t *trigger) slowAlarms(tick Tick) (tail, shift bool) {
	if t.slower == 0 || tick.Hist == nil {
		return false, false
	}
	return t.slow.Add(tick.Hist.Above(t.slower), tick.Requests), t.shift.Add(tick.Hist)
}

// forgetLatency makes as if no latency had been counted.
func (t *trigger) forgetLatency() {
	t.slow.Forget()
	t.shift.Forget()
}

// slowness is how slow a service is now, in two measures of its p99.
type slowness struct {
	p99    time.Duration // of the last window
	factor float64       // by which all its latencies of the last seconds are longer
}

// slowness measures the service.
func (s *service) slowness(window int) slowness {
	recent := &topology.Histogram{}
	for back := 1; back <= min(s.history.n, shiftWindow); back++ {
		if hist := s.history.ticks[(s.history.n-back)%maxWindow].Hist; hist != nil {
			recent.Merge(hist)
		}
	}
	return slowness{p99: s.history.window(window).P99, factor: s.Shape.Factor(recent)}
}

// large reports whether a measure is one of strong harm, for the tests that have spoken. By
// a shift too the p99 itself must be above what the label of record allows.
func (n slowness) large(s *service, tail, shift bool) bool {
	scaled := time.Duration(n.factor * float64(s.Before.P99))
	return tail && s.trigger.slowed(n.p99) ||
		shift && n.factor >= leastFactor && s.trigger.slowed(scaled) && n.p99 > s.bounds.P99
}
