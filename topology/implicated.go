package topology

import (
	"fmt"
	"time"

	"github.com/sluicemesh/sluice/mesh"
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
	shifts      map[int32]*shift
	wide        bool   // every edge is implicated: too little is known to choose
	late        *sides // nil unless spans measured both sides of root's calls
	failed      *sides // the same
	scratch     [2]Histogram
}

// shift is how an edge changed at onset.
type shift struct {
	before, after Tick
	recent        uint64 // calls in the window before onset, if before goes further back; else 0
	early         bool   // before does
	sampled       bool   // the figures are a sample: compare shares, not counts
	failing, slow bool
	lost          bool
	errors        float64 // failed calls more than before would have had
	latency       float64 // seconds more, over all calls

	p99Before, p99After time.Duration // if slow
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
		shifts: map[int32]*shift{},
	}
	if len(symptom.Others) > 0 {
		st.others = newMarks(len(s.names))
	}
	for _, v := range s.numbers(symptom.Others) {
		st.others.add(v)
	}
	return st
}

// shift returns how edge i changed.
func (st *study) shift(i int32) *shift {
	if known := st.shifts[i]; known != nil {
		return known
	}
	callee := st.s.names[st.s.edges[i].callee]
	sh := &shift{before: Tick{Hist: &st.scratch[0]}, after: Tick{Hist: &st.scratch[1]}, sampled: st.s.sampled(i, st.to)}
	st.s.sumEdge(&sh.before, i, st.from, st.onset)
	if st.late != nil && sh.before.Requests < sideBefore {
		sh.recent, sh.early = sh.before.Requests, true
		st.s.sumEdge(&sh.before, i, st.onset-int64(Retention/time.Second), st.onset)
	}
	st.s.sumEdge(&sh.after, i, st.since, st.to)
	sh.judge(st.s.registry.objectives[callee], st.onset-st.from, st.to-st.since)
	if sh.slow {
		sh.p99Before, sh.p99After = sh.before.P99(), sh.after.P99()
	}
	if st.late != nil {
		sh.before.Hist, sh.after.Hist = new(Histogram), new(Histogram)
		*sh.before.Hist, *sh.after.Hist = st.scratch[0], st.scratch[1]
	} else { // without sides nobody asks for latencies but these
		sh.before.Hist, sh.after.Hist = nil, nil
	}
	st.shifts[i] = sh
	return sh
}

// judge compares after with before, above the floor of the callee's objective.
func (sh *shift) judge(objective mesh.Objective, before, after int64) {
	floor := objective.Errors
	if floor <= 0 {
		floor = errorFloor
	}
	was, is := sh.before.ErrorShare(), sh.after.ErrorShare()
	sh.failing = sh.after.Errors >= minBad && is > max(floor, errorGrowth*was)
	if sh.failing {
		sh.errors = float64(sh.after.Errors) - was*float64(sh.after.Requests)
	}
	limit := objective.P99
	if sh.before.Requests >= minBaseline {
		limit = max(limit, time.Duration(latencyGrowth*float64(sh.before.P99())))
	}
	if limit > 0 {
		above := sh.after.Hist.Above(limit)
		sh.slow = above >= minBad && float64(above) >= slowShare*float64(sh.after.Requests)
	}
	if sh.slow {
		gain := sh.after.Hist.Mean() - sh.before.Hist.Mean()
		sh.latency = max(0, gain.Seconds()*float64(sh.after.Requests))
	}
	if sh.early { // the windows cannot be compared
		return
	}
	expected := float64(sh.before.Requests) * float64(after) / float64(max(before, 1))
	sh.lost = sh.before.Requests >= minLostCalls && sh.after.Requests == 0 && expected >= minLostMissing
}

// worse reports whether calls on the edge got worse.
func (sh *shift) worse() bool { return sh.failing || sh.slow }

// implicated reports whether edge i is implicated: its calls got worse, its callee is a
// symptom itself, or it lost the evidence that it had. A declaration alone is no
// evidence. Of a wide study every edge is.
func (st *study) implicated(i int32) bool {
	callee := st.s.edges[i].callee
	if st.wide {
		return st.s.caller(i) != callee
	}
	if st.s.marks[i]&markObserved == 0 || st.s.caller(i) == callee {
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
			100*sh.after.ErrorShare(), sh.after.Requests, caller, 100*sh.before.ErrorShare())
	case sh.slow:
		return fmt.Sprintf("p99 %s of %d calls from %s, before %s",
			sh.p99After.Round(time.Microsecond), sh.after.Requests, caller, sh.p99Before.Round(time.Microsecond))
	case sh.lost:
		return fmt.Sprintf("no call from %s, before %d", caller, sh.before.Requests)
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
	marked := newMarks(len(s.names))
	join := func(v int32) {
		for _, peer := range s.peers(v) {
			if marked.add(peer) {
				members = append(members, peer)
			}
		}
	}
	join(root)
	for at := 0; at < len(members); at++ {
		v := members[at]
		for i := s.out[v]; i < s.out[v+1]; i++ {
			if st.implicated(i) {
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
	return members, why
}
