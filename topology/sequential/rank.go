package sequential

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// LadderSteps is how many latencies a Ladder has.
const LadderSteps = 20

// Ladder is a distribution of latencies: its quantiles at the middles of LadderSteps equal
// parts, rising. It stands for a baseline in a journal, where a histogram would be large.
// nil = not known.
type Ladder []time.Duration

// NewLadder returns the ladder of what h has counted, nil if that is nothing.
func NewLadder(h *topology.Histogram) Ladder {
	if h == nil || h.Count() == 0 {
		return nil
	}
	l := make(Ladder, LadderSteps)
	for i := range l {
		l[i] = h.Quantile((float64(i) + 0.5) / LadderSteps)
	}
	return l
}

// Valid reports whether l can be used: it may come from a journal.
func (l Ladder) Valid() bool { return len(l) == LadderSteps && slices.IsSorted(l) }

// Rank returns the mean rank of the latencies in h among those of l: the chance that one
// of h is longer than one of l, ties counting half. It is 1/2 if both are alike.
func (l Ladder) Rank(h *topology.Histogram) float64 {
	n := h.Count()
	if n == 0 || len(l) == 0 {
		return 0.5
	}
	twice := uint64(0)
	for _, step := range l {
		twice += h.Above(step) + n - h.Below(step)
	}
	return float64(twice) / 2 / float64(n) / float64(len(l))
}

// Factor returns by which factor the latencies in h are longer than those of l: the
// median of the factors at three quantiles, which needs far fewer requests than a p99
// does. 1 if either is empty.
func (l Ladder) Factor(h *topology.Histogram) float64 {
	if h == nil || h.Count() == 0 || !l.Valid() {
		return 1
	}
	factors := make([]float64, 0, 3)
	for _, i := range [...]int{LadderSteps / 2, LadderSteps * 3 / 4, LadderSteps * 9 / 10} {
		now := h.Quantile((float64(i) + 0.5) / LadderSteps)
		factors = append(factors, float64(now)/float64(max(l[i], 1)))
	}
	slices.Sort(factors)
	return factors[1]
}

// Rank notices that latencies as a whole have got longer, by the rank sum of each second
// against a baseline (Wilcoxon, Mann-Whitney) as an e-value: the ranks of n requests are
// sub-Gaussian about 1/2 with variance 1/12n. The zero value never alarms.
type Rank struct {
	evidence
	ladder    Ladder
	tolerance float64
	variance  float64 // of the drift between seconds
}

// RankSettings of a Rank.
type RankSettings struct {
	Settings
	Tolerance float64 // how far the mean rank may lie above 1/2 while all is well
	Drift     float64 // standard deviation of the mean rank of a second beyond that of its requests
}

// rankRises are the rises of the mean rank beyond the tolerance that are looked for: of
// log-normal latencies (sigma 0.6) those by 1.3, 1.6 and 2.2.
func rankRises() []float64 { return []float64{0.1, 0.2, 0.3} }

// NewRank returns a test against the latencies of l; it never alarms if l is not valid.
func NewRank(l Ladder, s RankSettings) Rank {
	if !l.Valid() {
		return Rank{}
	}
	return Rank{
		evidence: newEvidence(len(rankRises()), s.Alpha), ladder: l,
		tolerance: s.Tolerance, variance: s.Drift * s.Drift,
	}
}

// Add counts the latencies of a second and reports whether the alarm is on.
func (t *Rank) Add(h *topology.Histogram) bool {
	if len(t.ladder) == 0 {
		return false
	}
	if h == nil || h.Count() == 0 {
		return t.alarm()
	}
	beyond := t.ladder.Rank(h) - 0.5 - t.tolerance
	variance := 1/(12*float64(h.Count())) + t.variance
	for i, rise := range rankRises() {
		t.add(i, (rise*beyond-rise*rise/2)/variance)
	}
	return t.alarm()
}

// Forget makes as if nothing had been counted.
func (t *Rank) Forget() { t.forget() }
