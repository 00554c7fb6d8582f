package topology

import "math"

// A fault may make calls neither slower nor fail where anybody sees it: an operation that
// returns too early, or a wrong value, does not make the calls that it made before.

// lacking is the share of the requests of v since the onset, beyond noise, that lack a
// call which requests made before, and the edge that shows it most; 0 and -1 below
// slowShare. It is not asked of where requests enter: what they ask for is their users'
// choice. Calls made elsewhere instead are no lack, nor is what failed calls explain.
func (st *study) lacking(v int32) (share float64, edge int32) {
	s, served := st.s, st.late.of(v)
	if !served.comparable() || len(s.entering(v)) == 0 {
		return 0, -1
	}
	explained := 0.0
	for i := s.out[v]; i < s.out[v+1]; i++ {
		e := st.late.on(i)
		was, is := served.callsBefore(e), e.after.n/served.after.n
		noise := math.Sqrt(callsVariance(was, served.before.n) + callsVariance(is, served.after.n))
		if lost := (was - is - sideErrors*noise) / max(1, was); lost > share {
			share, edge = lost, i
		}
		explained += max(0, is-was) + max(0, st.failed.on(i).seen)*is
	}
	if share -= explained; share < slowShare {
		return 0, -1
	}
	return share, edge
}

// callsVariance is the variance of a mean number of calls for each of n requests: that of
// a share while it is at most one, with half a call more so that none seen is no
// certainty; else as if calls came independently.
func callsVariance(mean, n float64) float64 {
	if mean > 1 {
		return mean / n
	}
	share := (mean*n + 0.5) / (n + 1)
	return share * (1 - share) / n
}
