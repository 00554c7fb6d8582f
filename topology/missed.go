package topology

import (
	"math"
	"time"
)

// Missed edges are estimated from a split in time: the last splitShare of the observed
// time is held out. Calls of the same minute come of the same requests and hang together,
// so that a trial is a minute in which the group had calls, and a miss is a minute in
// which one of its edges was seen for the first time. A request can only use an edge that
// is not in the graph in a minute that has a miss.
const (
	splitShare    = 0.2
	missedMethod  = "clopper-pearson, minutes with calls of the last 20 % of the time, first use of an edge = miss"
	missedNothing = "no calls observed"
	confidence    = 0.95
)

// missed bounds the chance that the next call touching nodes uses an unseen edge.
func (s *Snapshot) missed(nodes []int32) Missed {
	if s.started.IsZero() || !s.at.After(s.started) {
		return Missed{Upper95: 1, Method: missedNothing}
	}
	split := s.at.Add(-time.Duration(splitShare * float64(s.at.Sub(s.started)))).Unix()
	from := max(split/60, s.at.Unix()/60-minuteBits+1)
	trials, misses := minutes{last: from}, minutes{last: from}
	for _, v := range nodes {
		if id := int(s.idOf[v]); id < len(s.activity) && s.activity[id] != nil {
			trials.merge(s.activity[id], from)
		}
		for i := s.out[v]; i < s.out[v+1]; i++ {
			s.miss(&misses, i, split)
		}
		for _, e := range s.entering(v) {
			s.miss(&misses, e.edge, split)
		}
	}
	n := max(trials.count(), misses.count())
	if n == 0 {
		return Missed{Upper95: 1, Method: missedNothing}
	}
	return Missed{Upper95: UpperBound(misses.count(), n, confidence), N: n, Method: missedMethod}
}

// miss notes the minute of the first call on edge i if that is held out.
func (s *Snapshot) miss(into *minutes, i int32, split int64) {
	if f := s.figure(i); f != nil && f.first != 0 {
		if first := timeOf(f.first).Unix(); first >= split && !into.has(first/60) {
			into.set(first / 60)
		}
	}
}

// UpperBound is the one-sided upper confidence bound of Clopper and Pearson for a
// probability of which hits in n trials were seen; 1 without trials.
func UpperBound(hits, n uint64, level float64) float64 {
	switch {
	case n == 0 || hits >= n:
		return 1
	case hits == 0:
		return -math.Expm1(math.Log1p(-level) / float64(n))
	}
	a, b := float64(hits)+1, float64(n-hits)
	low, high := 0.0, 1.0
	for range 64 {
		mid := (low + high) / 2
		if betaIncomplete(mid, a, b) < level {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// betaIncomplete is the regularised incomplete beta function I_x(a, b), for a, b > 0,
// by its continued fraction (Lentz's method; Press et al., Numerical Recipes, 6.4).
func betaIncomplete(x, a, b float64) float64 {
	if x <= 0 || x >= 1 {
		return min(max(x, 0), 1)
	}
	if x > (a+1)/(a+b+2) {
		return 1 - betaIncomplete(1-x, b, a)
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab-la-lb+a*math.Log(x)+b*math.Log1p(-x)) / a
	return front * betaFraction(x, a, b)
}

// betaFraction evaluates the continued fraction of betaIncomplete.
func betaFraction(x, a, b float64) float64 {
	const tiny, precise, maxTerms = 1e-300, 1e-12, 10_000
	floor := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/floor(1-(a+b)*x/(a+1))
	sum := d
	for m := 1.0; m < maxTerms; m++ {
		even := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d = 1 / floor(1+even*d)
		c = floor(1 + even/c)
		sum *= d * c
		odd := -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d = 1 / floor(1+odd*d)
		c = floor(1 + odd/c)
		step := d * c
		sum *= step
		if math.Abs(step-1) < precise {
			break
		}
	}
	return sum
}
