package harm

import (
	"math"
	"time"
)

// False alarms: about one in falseAlarm seconds over the whole family of tests of a plan
// if requests are independent, which is 1 % in 300 s.
const falseAlarm = 30_000

// cusum accumulates the log-likelihood ratio of a Bernoulli rate p1 against p0 (Page
// 1954). It alarms at threshold; by Lorden's bound it then runs exp(threshold) requests
// between false alarms. One tick adds at most a third of the threshold, so that a
// single bad second is never enough; and it never goes beyond the threshold, so that
// what was not worth an alarm is forgotten again.
type cusum struct {
	hit, miss float64 // of one request that is bad, and that is not
	threshold float64
	sum       float64
}

// newCusum returns a test for a rate at or above p1 where p0 is normal, of family tests
// on a service with rate requests a second.
func newCusum(p0, p1, rate float64, family int) cusum {
	return cusum{
		hit:       math.Log(p1 / p0),
		miss:      math.Log((1 - p1) / (1 - p0)),
		threshold: math.Log(falseAlarm * max(rate, 1) * float64(max(family, 1))),
	}
}

// add counts one tick and reports whether the alarm is on.
func (c *cusum) add(bad, requests uint64) bool {
	bad = min(bad, requests)
	step := float64(bad)*c.hit + float64(requests-bad)*c.miss
	c.sum = min(max(0, c.sum+min(step, c.threshold/3)), c.threshold)
	return c.sum >= c.threshold
}

// trigger is the bank of tests of one service. The tests say that something is surely
// different; an alarm is only what is also large, by the level of the last window.
type trigger struct {
	errors [2]cusum // of small and of large rises
	slow   cusum
	slower time.Duration // what counts as slow, 0 = latency is not tested
	large  Bounds
}

// Rates of the bank.
const (
	leastErrors = 0.001 // share of failures that is normal for every service
	manyErrors  = 0.05
	slowNormal  = 0.015 // share above the bound of slowness that is normal: 1 % by definition, and some
	slowHarm    = 0.06
	leastSlower = 5 * time.Millisecond // above the baseline's p99: less is noise of the machine
	doubled     = 1.8                  // a p99 that has doubled is measured as this much nearly always
)

func newTrigger(s *Subject, family int) trigger {
	rate := float64(s.Before.Requests) / baselineSeconds
	normal := max(leastErrors, s.Objective.Errors, upper(s.Before))
	t := trigger{large: BoundsOf(s.Objective, s.Before)}
	t.errors[0] = newCusum(normal, min(10*normal, (1+normal)/2), rate, family)
	t.errors[1] = newCusum(normal, min(max(50*normal, manyErrors), (1+normal)/2), rate, family)
	if s.Objective.P99 <= 0 {
		t.large.P99 = max(t.large.P99, time.Duration(doubled*float64(s.Before.P99)))
	}
	if s.Before.Known() {
		t.slower = max(s.Objective.P99, worse(s.Before.P99), s.Before.P99+leastSlower)
		t.slow = newCusum(slowNormal, slowHarm, rate, family)
	}
	return t
}

// failing reports whether window fails by more than the label of record allows. Unlike
// that it takes a window of few requests: the tests have counted them.
func (t *trigger) failing(window Level) bool { return window.Errors > max(t.large.Errors, 0) }

// slowed reports the same of latency, which must have doubled where there is no objective.
func (t *trigger) slowed(window Level) bool { return window.P99 > t.large.P99 }

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
func (t *trigger) errorAlarm(tick Tick) bool {
	small := t.errors[0].add(tick.Errors, tick.Requests)
	return t.errors[1].add(tick.Errors, tick.Requests) || small
}

// slowAlarm counts the slow requests of a tick.
func (t *trigger) slowAlarm(tick Tick) bool {
	if t.slower == 0 || tick.Hist == nil {
		return false
	}
	return t.slow.add(tick.Hist.Above(t.slower), tick.Requests)
}
