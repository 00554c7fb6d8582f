package sequential

import "math"

// Share notices that the share of requests that are bad has risen. The zero value never
// alarms.
type Share struct {
	evidence
	hit, miss []float64 // log-likelihood ratios of one request, by alternative
}

// NewShare returns a test of a share that is at most normal while all is well, against
// each of rises, all between 0 and 1. For every share up to normal its e-values have mean
// at most one. Rises that are not above normal are left out.
func NewShare(normal float64, rises []float64, s Settings) Share {
	t := Share{}
	for _, p := range rises {
		if p <= normal || p >= 1 {
			continue
		}
		t.hit = append(t.hit, math.Log(p/normal)/max(s.Dispersion, 1))
		t.miss = append(t.miss, math.Log((1-p)/(1-normal))/max(s.Dispersion, 1))
	}
	t.evidence = newEvidence(len(t.hit), s.Alpha)
	return t
}

// Add counts the requests of a second, of which some are bad, and reports whether the
// alarm is on.
func (t *Share) Add(bad, requests uint64) bool {
	if len(t.hit) == 0 {
		return false
	}
	bad = min(bad, requests)
	for i := range t.hit {
		t.add(i, float64(bad)*t.hit[i]+float64(requests-bad)*t.miss[i])
	}
	return t.alarm()
}

// Forget makes as if nothing had been counted.
func (t *Share) Forget() { t.forget() }
