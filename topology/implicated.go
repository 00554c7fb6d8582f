package topology

import (
	"fmt"
	"time"
)

// What makes an edge worse than before onset.
const (
	minBad         = 3    // failed or slow calls
	minBaseline    = 20   // calls before onset for a latency baseline
	errorFloor     = 0.01 // share, of a callee without an error objective
	errorGrowth    = 2.0  // times the share before
	latencyGrowth  = 1.25 // times the p99 before
	slowShare      = 0.05 // of calls slower than that; 1 % would be normal
	minLostCalls   = 10   // calls before onset of an edge that fell silent
	minLostMissing = 5    // calls that should have come since
)

// study is the evidence of one symptom, computed as the walk needs it.
type study struct {
	s           *Snapshot
	from, onset int64 // Unix seconds: the baseline is [from, onset),
	since, to   int64 // the evidence [since, to)
	others      marks
	seen        marks // empty between the steps of the study, each of which leaves it so
	shifts      shifts
	todo        []int32 // see compare
	touched     uint32  // see touch
	wide        bool    // every edge is implicated: too little is known to choose
	late        *sides  // nil unless spans measured both sides of root's calls
	failed      *sides  // the same
}

// newStudy fixes the windows around the onset.
func (s *Snapshot) newStudy(symptom Symptom) *study {
	window := symptom.Window
	if window <= 0 {
		window = DefaultWindow
	}
	window = min(window, Retention/2)
	onset := symptom.Onset
	if onset.IsZero() || onset.After(s.at) {
		onset = s.at
	}
	since, end := onset, s.at.Add(time.Second)
	if limit := onset.Add(window); limit.Before(end) {
		end = limit
	}
	if s.at.Sub(onset) > Retention-window { // its window is leaving the ring: look at the present
		since, end = s.at.Add(-window), s.at.Add(time.Second)
	}
	st := &study{
		s: s, from: onset.Add(-window).Unix(), onset: onset.Unix(), since: since.Unix(), to: end.Unix(),
		seen: newMarks(len(s.names)),
	}
	if len(symptom.Others) > 0 {
		st.others = newMarks(len(s.names))
	}
	for _, v := range s.numbers(symptom.Others) {
		st.others.add(v)
	}
	return st
}

// implicated reports whether edge i, which leaves caller, is implicated: its calls got worse, its callee is a
// symptom itself, or it lost the evidence that it had. A declaration alone is no
// evidence. Of a wide study every edge is.
func (st *study) implicated(caller, i int32) bool {
	callee := st.s.edges[i].callee
	if st.wide {
		return caller != callee
	}
	if st.s.marks[i]&markObserved == 0 || caller == callee {
		return false
	}
	if st.others.has(callee) {
		return true
	}
	sh := st.shift(i)
	return sh.worse() || sh.lost || st.sided(i)
}

// reason says in numbers and registered names what happened on edge i.
func (st *study) reason(i int32) string {
	caller, sh := st.s.names[st.s.caller(i)], st.shift(i)
	switch {
	case sh.failing:
		return fmt.Sprintf("errors %.1f%% of %d calls from %s, before %.1f%%",
			100*sh.after.share(), sh.after.calls, caller, 100*sh.before.share())
	case sh.slow:
		before, after := st.ticks(sh)
		return fmt.Sprintf("p99 %s of %d calls from %s, before %s",
			after.P99().Round(time.Microsecond), sh.after.calls, caller, before.P99().Round(time.Microsecond))
	case sh.lost:
		return fmt.Sprintf("no call from %s, before %d", caller, sh.before.calls)
	case st.wide && !st.others.has(st.s.edges[i].callee):
		return fmt.Sprintf("called by %s; too little is known to choose", caller)
	}
	return fmt.Sprintf("called by %s, a symptom itself", caller)
}

// closure returns the group of root: all that it reaches over implicated edges, with
// whole components and sticky callers, sorted; why holds the edges that brought each
// member in.
func (st *study) closure(root int32) (members []int32, why map[int32][]int32) {
	s := st.s
	why = map[int32][]int32{}
	join := func(v int32) {
		for _, peer := range s.peers(v) {
			if st.seen.add(peer) {
				members = append(members, peer)
			}
		}
	}
	join(root)
	for at := 0; at < len(members); at++ {
		v := members[at]
		st.compareLeaving(v)
		for i := s.out[v]; i < s.out[v+1]; i++ {
			if st.implicated(v, i) {
				callee := s.edges[i].callee
				why[callee] = append(why[callee], i)
				join(callee)
			}
		}
		for _, e := range s.entering(v) {
			if s.sticky(e.edge) && e.caller != v {
				why[e.caller] = append(why[e.caller], e.edge)
				join(e.caller)
			}
		}
	}
	st.seen.removeAll(members)
	return members, why
}
