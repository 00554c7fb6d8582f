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
// single bad second is never enough.
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
	c.sum = max(0, c.sum+min(step, c.threshold/3))
	return c.sum >= c.threshold
}

// trigger is the bank of tests of one service.
type trigger struct {
	errors [2]cusum // of small and of large rises
	slow   cusum
	slower time.Duration // what counts as slow, 0 = latency is not tested
}

// Rates of the bank.
const (
	leastErrors = 0.001 // share of failures that is normal for every service
	manyErrors  = 0.05
	slowNormal  = 0.015 // share above the bound of slowness that is normal: 1 % by definition, and some
	slowHarm    = 0.06
	leastSlower = 5 * time.Millisecond // above the baseline's p99: less is noise of the machine
)

func newTrigger(s *Subject, family int) trigger {
	rate := float64(s.Before.Requests) / baselineSeconds
	normal := max(leastErrors, s.Objective.Errors, upper(s.Before))
	t := trigger{}
	t.errors[0] = newCusum(normal, min(10*normal, (1+normal)/2), rate, family)
	t.errors[1] = newCusum(normal, min(max(50*normal, manyErrors), (1+normal)/2), rate, family)
	if s.Before.Known() {
		t.slower = max(s.Objective.P99, worse(s.Before.P99), s.Before.P99+leastSlower)
		t.slow = newCusum(slowNormal, slowHarm, rate, family)
	}
	return t
}

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
