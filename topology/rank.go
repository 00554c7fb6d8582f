package topology

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Bounds of the ranking.
const (
	maxSuspects   = 10
	minScore      = 0.01
	credible      = 0.95 // of the score, to be covered by the culprits
	maxCulprits   = 3
	instanceShare = 0.7 // of the bad calls, at one instance or subset, to blame it alone
	instanceRatio = 3.0 // its bad share against that of the others
)

// rank shares out the symptom at root among the members: a service passes on what its
// callees' failures and slowness explain of its own, and keeps the rest. So the most
// downstream service that still fails has most of the score.
func (st *study) rank(root int32, members []int32) []Suspect {
	if st.late != nil {
		return st.rankSides(root, members)
	}
	s := st.s
	order := slices.Clone(members)
	slices.SortFunc(order, func(v, w int32) int { // callers before callees
		return cmp.Or(cmp.Compare(s.component[w], s.component[v]), cmp.Compare(v, w))
	})
	if at := slices.Index(order, root); at > 0 && s.component[order[0]] == s.component[root] {
		order = slices.Insert(slices.Delete(order, at, at+1), 0, root)
	}
	score := map[int32]float64{root: 1}
	because := map[int32]int32{}
	for _, v := range order {
		st.seen.add(v)
		st.passOn(v, score, because, st.seen)
	}
	st.seen.removeAll(order)
	kept := slices.DeleteFunc(order, func(v int32) bool { return score[v] < minScore && v != root })
	slices.SortStableFunc(kept, func(v, w int32) int {
		return cmp.Or(cmp.Compare(score[w], score[v]), cmp.Compare(s.component[v], s.component[w]), cmp.Compare(v, w))
	})
	suspects := make([]Suspect, 0, min(len(kept), maxSuspects))
	for _, v := range kept[:min(len(kept), maxSuspects)] {
		suspect := Suspect{Service: s.names[v], Level: LevelService, Score: score[v], Reason: "the symptom itself"}
		if i, found := because[v]; found {
			suspect.Reason = st.reason(i)
		} else if worst := st.worstCaller(v); worst >= 0 {
			suspect.Reason = st.reason(worst)
		}
		st.narrow(&suspect)
		suspects = append(suspects, suspect)
	}
	return suspects
}

// culprits returns whom to restart: the first suspect; where spans measured both sides,
// so that scores are shares of what is beyond noise, as many as cover credible of it, at
// most maxCulprits.
func (st *study) culprits(suspects []Suspect) []int32 {
	var named []int32
	covered := 0.0
	for _, suspect := range suspects[:min(len(suspects), maxCulprits)] {
		if len(named) > 0 && (st.late == nil || covered >= credible) {
			break
		}
		named = append(named, st.s.ids[suspect.Service])
		covered += suspect.Score
	}
	return named
}

// passOn moves the part of v's score that its callees explain to them.
func (st *study) passOn(v int32, score map[int32]float64, because map[int32]int32, ranked marks) {
	if score[v] == 0 {
		return
	}
	s := st.s
	var own *suffering // of use only if a callee is implicated
	var strengths map[int32]float64
	total := 0.0
	for i := s.out[v]; i < s.out[v+1]; i++ {
		if ranked.has(s.edges[i].callee) || !st.implicated(v, i) {
			continue
		}
		if own == nil {
			sum := st.suffered(v)
			own, strengths = &sum, map[int32]float64{}
		}
		if strength := st.strength(i, *own); strength > 0 {
			strengths[i], total = strength, total+strength
		}
	}
	if total == 0 {
		return
	}
	passed := score[v] * min(1, total)
	score[v] -= passed
	for i := s.out[v]; i < s.out[v+1]; i++ { // not over the map: its order is not fixed
		if strength := strengths[i]; strength > 0 {
			callee := s.edges[i].callee
			score[callee] += passed * strength / total
			if known, found := because[callee]; !found || strengths[known] < strength {
				because[callee] = i
			}
		}
	}
}

// suffering is how much worse a service became for its callers.
type suffering struct {
	calls, errors, latency float64
}

// suffered sums what the callers of v saw.
func (st *study) suffered(v int32) suffering {
	var sum suffering
	st.compareEntering(v)
	for _, e := range st.s.entering(v) {
		if st.s.marks[e.edge]&markObserved == 0 || e.caller == v {
			continue
		}
		sh := st.shift(e.edge)
		sum.calls += float64(sh.after.calls)
		sum.errors += sh.errors
		sum.latency += sh.latency
	}
	return sum
}

// strength is the share of own that edge i explains, 0..1.
func (st *study) strength(i int32, own suffering) float64 {
	sh := st.shift(i)
	if (sh.worse() || sh.lost) && st.down(st.s.edges[i].callee) {
		return 1
	}
	if !sh.worse() {
		return 0
	}
	errors, latency := sh.errors, sh.latency
	if sh.sampled && sh.after.calls > 0 {
		scale := own.calls / float64(sh.after.calls)
		errors, latency = errors*scale, latency*scale
	}
	strongest := 0.0
	if own.errors > 0 {
		strongest = max(strongest, errors/own.errors)
	}
	if own.latency > 0 {
		strongest = max(strongest, latency/own.latency)
	}
	if own.errors == 0 && own.latency == 0 || strongest == 0 {
		strongest = 1 // worse in another way than v itself: a slow callee that v gives up on
	}
	return min(strongest, 1)
}

// worstCaller returns the edge into v with most failures, then slowness; -1 if none is
// worse.
func (st *study) worstCaller(v int32) int32 {
	worst := int32(-1)
	st.compareEntering(v)
	for _, e := range st.s.entering(v) {
		i := e.edge
		if st.s.marks[i]&markObserved == 0 || !st.shift(i).worse() {
			continue
		}
		if worst < 0 || cmp.Or(cmp.Compare(st.shift(i).errors, st.shift(worst).errors),
			cmp.Compare(st.shift(i).latency, st.shift(worst).latency)) > 0 {
			worst = i
		}
	}
	return worst
}

// down reports whether an instance of v is stopped or fails its readiness check.
func (st *study) down(v int32) bool {
	instances := st.s.registry.instances[st.s.names[v]]
	return slices.ContainsFunc(instances, func(i mesh.Instance) bool { return isDown(&i) })
}

func isDown(i *mesh.Instance) bool { return i.State == mesh.Stopped || i.State == mesh.Unready }

// narrow blames one instance of several, or all of one version or zone, if they alone are
// down or carry the bad calls.
func (st *study) narrow(suspect *Suspect) {
	instances := st.s.registry.instances[suspect.Service]
	if len(instances) < 2 {
		return
	}
	parts := partsOf(instances)
	if slices.ContainsFunc(instances, func(i mesh.Instance) bool { return isDown(&i) }) {
		for i := range parts {
			if parts[i].justDown(instances) {
				parts[i].blame(suspect, "; "+parts[i].String()+" is down")
				return
			}
		}
		return // instances that nothing has in common are down: the service is
	}
	if !st.narrowBy(suspect, parts, instances, func(t Tick) uint64 { return t.Errors }, "failed") {
		limit := st.usual(suspect.Service, instances)
		st.narrowBy(suspect, parts, instances, func(t Tick) uint64 { return t.Hist.Above(limit) }, "slow")
	}
}

// usual returns the latency above which a call to service counts as slow.
func (st *study) usual(service mesh.Service, instances []mesh.Instance) time.Duration {
	before := Tick{Hist: &Histogram{}}
	for i := range instances {
		st.s.series.add(&before, trackKey{byInstance, string(instances[i].UID), service}, st.from, st.onset)
	}
	objective := st.s.registry.objectives[service].P99
	if before.Requests < minBaseline {
		return objective
	}
	return max(objective, time.Duration(latencyGrowth*float64(before.P99())))
}

// narrowBy blames the least part whose bad calls are nearly all, if the share of the others
// is far lower, and that of each of its instances is not.
func (st *study) narrowBy(
	suspect *Suspect, parts []part, instances []mesh.Instance, bad func(Tick) uint64, word string,
) bool {
	seen := make([]badness, len(instances))
	var all badness
	for i := range instances {
		tick := Tick{Hist: &Histogram{}}
		st.s.series.add(&tick, trackKey{byInstance, string(instances[i].UID), suspect.Service}, st.since, st.to)
		seen[i] = badness{bad(tick), tick.Requests}
		all = all.plus(seen[i])
	}
	for i := range parts {
		p := &parts[i]
		own := badness{}
		for _, at := range p.of {
			own = own.plus(seen[at])
		}
		if own.stands(all) && !slices.ContainsFunc(p.of, func(at int) bool { return 2*seen[at].share() < own.share() }) {
			p.blame(suspect, fmt.Sprintf("; %d of %d %s calls at %s", own.bad, all.bad, word, p))
			return true
		}
	}
	return false
}
