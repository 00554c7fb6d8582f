// Package sequential tests, once a second and after each second anew, whether a service
// does worse than it did. It is for who must act early (microkernel/harm, topology/symptom);
// it does not say what is too much, and reads no clock.
//
//	Share  requests that are bad (failed, or slower than a bound): likelihood ratios
//	Rank   all latencies together: where they lie among those of a baseline
//
// Each test is an e-detector (Shiryaev-Roberts): it sums, over every second at which the
// change may have begun, the e-value of all since. While nothing has changed the mean of
// that sum grows by one a second, so by Doob's inequality it reaches a limit c within n
// seconds with chance at most n/c, whenever and however often one looks. That holds if the
// e-value of each second has mean at most one given all before it. Real traffic is not
// so obliging, for its seconds depend on each other: Settings.Dispersion flattens the
// e-values, Drift widens the variance of a second, and both are to be set by recordings of
// a mesh in which nothing happened, replayed in blocks.
package sequential

import "math"

// Horizon is the time, in seconds, for which Settings.Alpha is promised.
const Horizon = 300

// ticksToAlarm is how many seconds an alarm takes at least when the sum was small: one
// second, however bad, is never enough.
const ticksToAlarm = 3

// Settings of a test.
type Settings struct {
	// Alpha is the chance of a false alarm within Horizon that this test may have: its
	// part of what its whole family may.
	Alpha float64
	// Dispersion is by how much more the count of a second varies than independent
	// requests would make it, at least 1.
	Dispersion float64
}

// Family returns what one of n tests may have of alpha, so that all together keep it.
func Family(alpha float64, n int) float64 { return alpha / float64(max(n, 1)) }

// evidence is the mixture of Shiryaev-Roberts sums for some sizes of change.
type evidence struct {
	logs  []float64 // logarithm of each sum
	limit float64   // of the logarithm of their mean
}

func newEvidence(alternatives int, alpha float64) evidence {
	e := evidence{logs: make([]float64, alternatives), limit: math.Log(Horizon / alpha)}
	e.forget()
	return e
}

// forget makes as if nothing had been seen.
func (e *evidence) forget() {
	for i := range e.logs {
		e.logs[i] = math.Inf(-1)
	}
}

// add takes the log of the e-value of a second for one alternative. The sum stays at the
// limit, so that what was not worth an alarm is forgotten again.
func (e *evidence) add(alternative int, step float64) {
	most := e.limit + math.Log(float64(len(e.logs)))
	grown := softplus(e.logs[alternative]) + min(step, most/ticksToAlarm)
	e.logs[alternative] = min(grown, most)
}

// alarm reports whether the mean of the sums has reached the limit.
func (e *evidence) alarm() bool { return e.log() >= e.limit-1e-9 }

// log returns the logarithm of the mean of the sums.
func (e *evidence) log() float64 {
	top := math.Inf(-1)
	for _, l := range e.logs {
		top = max(top, l)
	}
	if math.IsInf(top, -1) {
		return top
	}
	sum := 0.0
	for _, l := range e.logs {
		sum += math.Exp(l - top)
	}
	return top + math.Log(sum/float64(len(e.logs)))
}

// softplus returns log(1 + exp(x)).
func softplus(x float64) float64 {
	if x > 36 { // beyond it the 1 is lost in a float64
		return x
	}
	return math.Log1p(math.Exp(x))
}
