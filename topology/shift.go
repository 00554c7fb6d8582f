package topology

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// shift is how an edge changed at onset.
type shift struct {
	edge          int32
	early         bool // before goes further back than the window
	sampled       bool // the figures are a sample: compare shares, not counts
	failing, slow bool
	lost          bool
	before, after count
	recent        uint64  // calls in the window before onset, if early; else 0
	errors        float64 // failed calls more than before would have had
	latency       float64 // seconds more, over all calls
}

// shifts holds what a study knows so far, by edge.
type shifts struct {
	all   []shift
	slots []int32 // hash table of 1 + place in all, 0 = free; a power of two
}

// slot returns where edge is in the table, or would be.
func (t *shifts) slot(edge int32) *int32 {
	mask := uint32(len(t.slots) - 1)
	for at := uint32(edge) * 0x9e3779b1 >> 7; ; at++ {
		slot := &t.slots[at&mask]
		if *slot == 0 || t.all[*slot-1].edge == edge {
			return slot
		}
	}
}

// find returns the shift of edge, nil if it is not known.
func (t *shifts) find(edge int32) *shift {
	if len(t.slots) == 0 {
		return nil
	}
	if at := *t.slot(edge); at != 0 {
		return &t.all[at-1]
	}
	return nil
}

// grow makes room for n more.
func (t *shifts) grow(n int) {
	t.all = slices.Grow(t.all, n)
	size := max(len(t.slots), 64)
	for 3*size < 4*(len(t.all)+n) {
		size *= 2
	}
	if size == len(t.slots) {
		return
	}
	t.slots = make([]int32, size)
	for i := range t.all {
		*t.slot(t.all[i].edge) = int32(i) + 1
	}
}

// add appends the shift of an edge that is not known and for which there is room.
func (t *shifts) add(edge int32) *shift {
	slot := t.slot(edge)
	t.all = append(t.all, shift{edge: edge})
	*slot = int32(len(t.all))
	return &t.all[len(t.all)-1]
}

// shift returns how edge i changed. It stays valid, whatever else is compared.
func (st *study) shift(i int32) *shift {
	if known := st.shifts.find(i); known != nil {
		return known
	}
	st.todo = append(st.todo[:0], i)
	st.compare()
	return st.shifts.find(i)
}

// compareLeaving compares the edges of v that may lead further.
func (st *study) compareLeaving(v int32) {
	s := st.s
	if st.wide {
		return
	}
	st.todo = st.todo[:0]
	for i := s.out[v]; i < s.out[v+1]; i++ {
		if callee := s.edges[i].callee; s.marks[i]&markObserved != 0 && callee != v && !st.others.has(callee) {
			st.todo = append(st.todo, i)
		}
	}
	st.compare()
}

// compareEntering compares the calls of v's callers.
func (st *study) compareEntering(v int32) {
	st.todo = st.todo[:0]
	for _, e := range st.s.entering(v) {
		if st.s.marks[e.edge]&markObserved != 0 {
			st.todo = append(st.todo, e.edge)
		}
	}
	st.compare()
}

// evidence is the tracks of an edge in the two windows, nil if there are none.
type evidence struct {
	before, after *track
	sampled       bool
}

// comparedAtOnce is of how many edges compare waits for the memory at the same time.
const comparedAtOnce = 16

// compare computes the shifts of todo that are not known. Looking up and counting are
// loops of their own: what they wait for is memory, and so for that of many edges at once.
func (st *study) compare() {
	todo := slices.DeleteFunc(st.todo, func(i int32) bool { return st.shifts.find(i) != nil })
	if len(todo) == 0 {
		return
	}
	st.shifts.grow(len(todo))
	var found [comparedAtOnce]evidence
	for some := range slices.Chunk(todo, comparedAtOnce) {
		for n, i := range some {
			found[n] = st.evidence(i)
		}
		st.touched += st.touch(found[:len(some)])
		for n, i := range some {
			sh := st.shifts.add(i)
			sh.sampled = found[n].sampled
			sh.judge(st, &found[n])
		}
	}
}

// evidence looks up the tracks of edge i.
func (st *study) evidence(i int32) evidence {
	found := evidence{sampled: true}
	f := st.s.figure(i)
	if f == nil {
		return found
	}
	found.before, _ = st.s.best(f, st.onset)
	var kind family
	found.after, kind = st.s.best(f, st.to)
	found.sampled = kind.sampled()
	return found
}

// judge compares what was found after onset with what was before, above the floor of the
// callee's objective.
func (sh *shift) judge(st *study, found *evidence) {
	var objective mesh.Objective
	if all := st.s.registry.objectives; len(all) > 0 {
		objective = all[st.s.names[st.s.edges[sh.edge].callee]]
	}
	before := found.before.tally(st.from, st.onset, bucketCount)
	from := st.from
	if st.late != nil && before.calls < sideBefore {
		sh.recent, sh.early = before.calls, true
		from = st.onset - int64(Retention/time.Second)
		before = found.before.tally(from, st.onset, bucketCount)
	}
	limit := objective.P99
	if before.calls >= minBaseline {
		limit = max(limit, time.Duration(latencyGrowth*float64(found.before.p99(&before, from, st.onset))))
	}
	after := found.after.tally(st.since, st.to, bucketOf(limit))
	sh.before, sh.after = before.count, after.count
	was, is := before.share(), after.share()
	if sh.failing = after.errors >= minBad && is > max(floorOf(objective), errorGrowth*was); sh.failing {
		sh.errors = float64(after.errors) - was*float64(after.calls)
	}
	sh.slow = limit > 0 && after.above >= minBad && float64(after.above) >= slowShare*float64(after.calls)
	if sh.slow {
		gain := found.after.latencies(st.since, st.to).Mean() - found.before.latencies(from, st.onset).Mean()
		sh.latency = max(0, gain.Seconds()*float64(after.calls))
	}
	if sh.early { // the windows cannot be compared
		return
	}
	expected := float64(before.calls) * float64(st.to-st.since) / float64(max(st.onset-st.from, 1))
	sh.lost = before.calls >= minLostCalls && after.calls == 0 && expected >= minLostMissing
}

// floorOf is the share of failed calls below which an edge is not failing.
func floorOf(objective mesh.Objective) float64 {
	if objective.Errors <= 0 {
		return errorFloor
	}
	return objective.Errors
}

// ticks returns both windows of an edge with their latencies.
func (st *study) ticks(sh *shift) (before, after Tick) {
	from, found := st.from, st.evidence(sh.edge)
	if sh.early {
		from = st.onset - int64(Retention/time.Second)
	}
	return Tick{sh.before.calls, sh.before.errors, found.before.latencies(from, st.onset)},
		Tick{sh.after.calls, sh.after.errors, found.after.latencies(st.since, st.to)}
}

// worse reports whether calls on the edge got worse.
func (sh *shift) worse() bool { return sh.failing || sh.slow }
