package topology

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Where spans measured both sides of the calls, what a callee did itself is told from
// what lies between the two sides: a service that is slow to send or to read makes its
// calls slow in both directions, and nobody else's. Proxies' figures are not compared
// with spans: they measure other stretches of the same call.
const (
	sideErrors = 2.0   // standard errors by which a mean must have grown to count
	sideBefore = 5     // calls before onset that a comparison needs
	sideSince  = 3     // and since
	sideLeast  = 0.001 // of root's time or requests that all blame together must explain
	sideCommon = 0.5   // of a caller's other calls that must show the same, to blame it
)

// moments of the latencies in seconds, or of the failures, of some calls.
type moments struct{ n, mean, deviation float64 }

// latencies returns the moments of t's latencies.
func latencies(t *Tick) moments {
	n, sum, squares := 0.0, 0.0, 0.0
	for i, c := range t.Hist.counts {
		if c != 0 {
			seconds := middle(uint16(i)).Seconds()
			n += float64(c)
			sum += float64(c) * seconds
			squares += float64(c) * seconds * seconds
		}
	}
	if n == 0 {
		return moments{}
	}
	mean := sum / n
	return moments{n, mean, math.Sqrt(max(0, squares/n-mean*mean))}
}

// failures returns the moments of t's failures, each 1. The deviation is that of a
// share with half a failure more, so that none seen is no certainty.
func failures(t *Tick) moments {
	n := float64(t.Requests)
	if n == 0 {
		return moments{}
	}
	share := (float64(t.Errors) + 0.5) / (n + 1)
	return moments{n, t.ErrorShare(), math.Sqrt(share * (1 - share))}
}

// side is what one service, or the callers on one edge, measured of one figure.
type side struct {
	before, after moments
	seen, sure    float64 // growth of the mean: as seen, and what of it is beyond noise
	recent        float64 // calls in the window before onset
	early         bool    // before goes further back, since those were too few
}

func sideOf(before, after moments) *side {
	s := &side{before: before, after: after}
	if !s.comparable() {
		return s
	}
	s.seen = after.mean - before.mean
	noise := math.Sqrt(before.deviation*before.deviation/before.n + after.deviation*after.deviation/after.n)
	s.sure = max(0, s.seen-sideErrors*noise)
	return s
}

// lateSide is sideOf latencies. A few slow calls hide the growth of a mean in their own
// noise; where the mean is not sure, the ranks of the latencies may be.
func lateSide(before, after *Tick) *side {
	s := sideOf(latencies(before), latencies(after))
	if s.seen > 0 && s.sure == 0 {
		if errors := rankShift(before.Hist, after.Hist); errors > sideErrors {
			s.sure = s.seen * (1 - sideErrors/errors)
		}
	}
	return s
}

// failedSide is sideOf failures.
func failedSide(before, after *Tick) *side { return sideOf(failures(before), failures(after)) }

// rankShift is by how many standard errors the latencies after rank above those before
// (Mann and Whitney, corrected for ties).
func rankShift(before, after *Histogram) float64 {
	n, m := float64(before.total), float64(after.total)
	below, sum, ties := 0.0, 0.0, 0.0
	for i := range before.counts {
		b, a := float64(before.counts[i]), float64(after.counts[i])
		sum += a * (below + b/2)
		below += b
		ties += (a+b)*(a+b)*(a+b) - (a + b)
	}
	variance := n * m / 12 * (n + m + 1 - ties/((n+m)*(n+m-1)))
	if n+m < 2 || variance <= 0 {
		return 0
	}
	return (sum - n*m/2) / math.Sqrt(variance)
}

// comparable reports whether there were calls enough to compare.
func (s *side) comparable() bool { return s.before.n >= sideBefore && s.after.n >= sideSince }

// sides compares one figure, latency or failures, as the walk needs it.
type sides struct {
	st      *study
	compare func(before, after *Tick) *side
	served  map[int32]*side // by service
	called  map[int32]*side // by edge
}

func newSides(st *study, compare func(before, after *Tick) *side) *sides {
	return &sides{st: st, compare: compare, served: map[int32]*side{}, called: map[int32]*side{}}
}

// measure prepares the comparison of sides if root's calls, in and out, were measured
// by spans and nothing better, and root reported its own.
func (st *study) measure(root int32) {
	s := st.s
	if _, known := s.series.index[trackKey{byServer, "", s.names[root]}]; !known {
		return
	}
	spans := false
	for _, i := range s.touching(root) {
		kind, id := s.series.best(s.names[s.caller(i)], s.names[s.edges[i].callee], st.to)
		if id >= 0 && kind != bySpan {
			return
		}
		spans = spans || id >= 0
	}
	if spans {
		st.late, st.failed = newSides(st, lateSide), newSides(st, failedSide)
	}
}

// touching returns the edges that leave or enter v.
func (s *structure) touching(v int32) []int32 {
	var edges []int32
	for i := s.out[v]; i < s.out[v+1]; i++ {
		edges = append(edges, i)
	}
	for _, e := range s.entering(v) {
		if e.caller != v {
			edges = append(edges, e.edge)
		}
	}
	return edges
}

// of returns what v measured of itself.
func (x *sides) of(v int32) *side {
	if x.served[v] == nil {
		before, after := Tick{Hist: &Histogram{}}, Tick{Hist: &Histogram{}}
		key := trackKey{byServer, "", x.st.s.names[v]}
		x.st.s.series.add(&before, key, x.st.from, x.st.onset)
		recent, early := before.Requests, before.Requests < sideBefore
		if early {
			before = Tick{Hist: &Histogram{}}
			x.st.s.series.add(&before, key, x.st.onset-int64(Retention/time.Second), x.st.onset)
		}
		x.st.s.series.add(&after, key, x.st.since, x.st.to)
		x.served[v] = x.compare(&before, &after)
		x.served[v].recent, x.served[v].early = float64(recent), early
	}
	return x.served[v]
}

// on returns what the callers on edge i measured.
func (x *sides) on(i int32) *side {
	if x.called[i] == nil {
		sh := x.st.shift(i)
		before, after := x.st.ticks(sh)
		x.called[i] = x.compare(&before, &after)
		x.called[i].early, x.called[i].recent = sh.early, float64(sh.before.calls)
		if sh.early {
			x.called[i].recent = float64(sh.recent)
		}
	}
	return x.called[i]
}

// between is the growth of a call on edge i, beyond noise, that its callee did not see;
// of a callee without spans of its own, all of it.
func (x *sides) between(i int32) float64 {
	return max(0, x.on(i).sure-max(0, x.of(x.st.s.edges[i].callee).seen))
}

// own is what v itself added to its calls: their growth less that of its waiting for
// each callee, and no more than what is beyond noise.
func (x *sides) own(v int32) float64 {
	s, served := x.st.s, x.of(v)
	if served.sure == 0 {
		return 0
	}
	own := served.seen
	for i := s.out[v]; i < s.out[v+1]; i++ {
		e := x.on(i)
		own -= e.after.mean*e.after.n/served.after.n - e.before.mean*served.callsBefore(e)
	}
	return max(0, min(own, served.sure)) * served.after.n
}

// callsBefore is how many calls of e each request of s made before onset, both over the
// same time.
func (s *side) callsBefore(e *side) float64 {
	switch {
	case s.early == e.early:
		return e.before.n / s.before.n
	case e.early:
		return e.recent / s.before.n
	case s.recent > 0:
		return e.before.n / s.recent
	}
	return 0
}

// blamed returns the end of edge i that has to answer for what lies between its sides:
// the callee, unless most other calls of the caller show the same and those of the
// callee less.
func (x *sides) blamed(i int32) int32 {
	caller, callee := x.st.s.caller(i), x.st.s.edges[i].callee
	if also := x.common(caller, i); also > sideCommon && also > x.common(callee, i) {
		return caller
	}
	return callee
}

// common is how far the calls of v on other edges show what edge but shows, 0..1; a
// half if there are none to compare.
func (x *sides) common(v, but int32) float64 {
	sum, n := 0.0, 0.0
	for _, i := range x.st.s.touching(v) {
		if i != but && x.on(i).comparable() {
			sum += min(1, x.between(i)/x.between(but))
			n++
		}
	}
	if n == 0 {
		return sideCommon
	}
	return sum / n
}

// shares gives each member its part in the figure, over all calls since the onset.
func (x *sides) shares(members []int32) map[int32]float64 {
	parts := make(map[int32]float64, len(members))
	inside := newMarks(len(x.st.s.names))
	for _, v := range members {
		inside.add(v)
	}
	for _, v := range members {
		parts[v] += x.own(v)
		for _, i := range x.st.s.touching(v) {
			if caller := x.st.s.caller(i); caller == v || !inside.has(caller) {
				x.share(i, parts)
			}
		}
	}
	return parts
}

// share adds what lies between the sides of edge i to the part of who is blamed.
func (x *sides) share(i int32, parts map[int32]float64) {
	if between := x.between(i); between > 0 {
		parts[x.blamed(i)] += between * x.on(i).after.n
	}
}

// sided reports whether the calls on edge i got worse beyond noise and above the floor
// of the callee's objective.
func (st *study) sided(i int32) bool {
	if st.late == nil {
		return false
	}
	objective := st.s.registry.objectives[st.s.names[st.s.edges[i].callee]]
	if failed := st.failed.on(i); failed.sure > 0 && failed.after.mean > floorOf(objective) {
		return true
	}
	late := st.late.on(i)
	if late.sure <= 0 || late.after.mean <= latencyGrowth*late.before.mean {
		return false
	}
	_, after := st.ticks(st.shift(i))
	return after.P99() > objective.P99
}

// blame scores the members by the share of root's time that is lost to them and the
// share of its requests that fail, or are cut short, because of them.
func (st *study) blame(root int32, members []int32) map[int32]float64 {
	late, wrong := st.late.shares(members), st.failed.shares(members)
	served := st.late.of(root)
	lost := served.before.mean * served.after.n
	for _, v := range members {
		lost += late[v]
		if cut, _ := st.lacking(v); cut > 0 {
			wrong[v] = max(wrong[v], cut*st.late.of(v).after.n)
		}
	}
	scores := make(map[int32]float64, len(members))
	for _, v := range members {
		if lost > 0 {
			scores[v] = late[v] / lost
		}
		if served.after.n > 0 {
			scores[v] += wrong[v] / served.after.n
		}
	}
	return scores
}

// suspects returns the members, and of what root reaches by calls the other symptoms and
// what cuts requests short: an edge between may carry so many other calls that it does
// not show them.
func (st *study) suspects(root int32, members []int32) []int32 {
	reached, all := st.s.reach(root), slices.Clone(members)
	for v := range int32(len(st.s.names)) {
		if !reached.has(v) || slices.Contains(members, v) {
			continue
		}
		if cut, _ := st.lacking(v); st.others.has(v) || cut > 0 {
			all = append(all, v)
		}
	}
	return all
}

// rankSides ranks the suspects by their blame, where spans measured both sides. What
// they explain of root less than sideLeast is nothing: then root has all of it.
func (st *study) rankSides(root int32, members []int32) []Suspect {
	members = st.suspects(root, members)
	scores, sum := st.blame(root, members), 0.0
	for _, v := range members {
		sum += scores[v]
	}
	if sum < sideLeast {
		clear(scores)
		scores[root], sum = 1, 1
	}
	order := slices.Clone(members)
	slices.SortFunc(order, func(v, w int32) int { return cmp.Or(cmp.Compare(scores[w], scores[v]), cmp.Compare(v, w)) })
	var suspects []Suspect
	for _, v := range order {
		share := scores[v] / sum
		if share < minScore && v != root || len(suspects) == maxSuspects {
			continue
		}
		suspect := Suspect{Service: st.s.names[v], Level: LevelService, Score: share, Reason: st.sideReason(v)}
		st.narrow(&suspect)
		suspects = append(suspects, suspect)
	}
	return suspects
}

// entering returns the edges that show what happened at v: those that got worse, else
// all that were observed.
func (st *study) entering(v int32) []int32 {
	var worse, observed []int32
	for _, e := range st.s.entering(v) {
		if st.s.marks[e.edge]&markObserved == 0 || e.caller == v {
			continue
		}
		observed = append(observed, e.edge)
		if st.implicated(e.caller, e.edge) {
			worse = append(worse, e.edge)
		}
	}
	if len(worse) > 0 {
		return worse
	}
	return observed
}

// sideReason says in numbers what v's callers, else v itself, measured.
func (st *study) sideReason(v int32) string {
	if worst := st.worstCaller(v); worst >= 0 {
		return st.reason(worst)
	}
	if cut, edge := st.lacking(v); cut > 0 {
		return fmt.Sprintf("%.1f%% of its requests lack the call to %s that they made before",
			100*cut, st.s.names[st.s.edges[edge].callee])
	}
	late, failed := st.late.of(v), st.failed.of(v)
	return fmt.Sprintf("mean %.1f ms of its own calls, before %.1f ms; errors %.1f%%, before %.1f%%",
		1e3*late.after.mean, 1e3*late.before.mean, 100*failed.after.mean, 100*failed.before.mean)
}

// Shifted returns the services whose calls got worse at the onset beyond noise, as
// their callers or, without callers, they themselves saw them; the worst first. A
// window of 0 is DefaultWindow.
func (s *Snapshot) Shifted(onset time.Time, window time.Duration) []mesh.Service {
	st := s.newStudy(Symptom{Onset: onset, Window: window})
	worse := make(map[mesh.Service]float64)
	var shifted []mesh.Service
	for _, name := range s.names {
		before, after := Tick{Hist: &Histogram{}}, Tick{Hist: &Histogram{}}
		s.series.addService(&before, name, st.from, st.onset)
		s.series.addService(&after, name, st.since, st.to)
		late, failed := lateSide(&before, &after), failedSide(&before, &after)
		worse[name] = failed.sure
		if late.sure > 0 {
			worse[name] += late.sure / (late.sure + late.before.mean)
		}
		if worse[name] > 0 {
			shifted = append(shifted, name)
		}
	}
	slices.SortStableFunc(shifted, func(a, b mesh.Service) int { return cmp.Compare(worse[b], worse[a]) })
	return shifted
}
