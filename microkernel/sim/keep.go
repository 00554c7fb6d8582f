package sim

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// reader holds a state for long, as a surface or an auditor does.
type reader struct {
	state microkernel.State
	like  microkernel.Likeness
	until int // the event after which it looks at it again, 0 = nobody reads
}

// readFor is how many events a reader keeps a state.
const readFor = 150

// read looks once more at the state that a reader has kept, and keeps the present one.
// What Step, a compaction or a recovery did meanwhile must not show in it (I6).
func (r *run) read() {
	if r.events < r.reader.until {
		return
	}
	if r.reader.until > 0 {
		why := ""
		if new(microkernel.Likenesses).Of(r.reader.state) != r.reader.like {
			why = "I6: a state that somebody keeps has changed"
		}
		r.holds("I6", why)
		r.counts.Faults["long-lived-snapshot"]++
	}
	r.reader = reader{state: r.state, like: new(microkernel.Likenesses).Of(r.state), until: r.events + readFor}
}

// compact puts the journal away and begins another with what it came to, as the driver
// does from time to time, plans or no plans. The process may end just before the new
// journal takes the place of the old one, or just after.
func (r *run) compact() {
	if !r.up() || r.state.Term() == 0 {
		return
	}
	if r.crashes < 4 && r.chance(10) {
		r.crash("crash-before-compaction")
		return
	}
	ev := microkernel.Compacted{Stamp: r.stamp(), State: r.state.Compact()}
	before := r.state
	r.trace("COMPACTED %d events", len(r.disk.synced))
	r.disk.compact(ev)
	r.state, _ = microkernel.Step(r.state, ev)
	r.counts.Faults["compaction"]++
	if r.state.Open() > 0 {
		r.counts.Faults["compaction-under-plans"]++
	}
	r.holds("I6", r.compacted(&before))
	r.checkState(ev, nil)
	if r.crashes < 4 && r.chance(10) {
		r.crash("crash-after-compaction")
	}
}

// compacted is I6 of a compaction: what is open is what it was, and what ended is known.
func (r *run) compacted(before *microkernel.State) string {
	if !reflect.DeepEqual(r.state.OpenRecords(), before.OpenRecords()) || !reflect.DeepEqual(r.state.Overlays(), before.Overlays()) {
		return "I6: plans or overlays are others after a compaction of the journal"
	}
	a, b := before.Records(), r.state.Records()
	for i := range a {
		if i >= len(b) || a[i].ID != b[i].ID || a[i].Phase != b[i].Phase || a[i].Hash != b[i].Hash {
			return fmt.Sprintf("I6: a compaction of the journal forgets plan %s", a[i].ID)
		}
	}
	return ""
}

// checkLook is I3 of whatever is about to be begun: a drain is begun, and a restart
// ordered, in answer to a look at the world, and by what was just seen the drain leaves
// the floor.
func (r *run) checkLook(e microkernel.Effect) {
	switch e := e.(type) {
	case microkernel.Apply:
		id := stepID{e.Plan, e.Step}
		if e.Overlay.Drain == nil || r.drains[id] {
			return // a new leader, or a new lease
		}
		r.drains[id] = true
		r.holds("I3", r.lookedBefore(e.Plan, &e.Overlay))
	case microkernel.Reboot:
		r.holds("I3", r.lookedBefore(e.Plan, nil))
	}
}

// lookedBefore says how the event at hand is no look of the plan that permits a restart, or
// the drain of o.
func (r *run) lookedBefore(plan microkernel.PlanID, o *mesh.Overlay) string {
	seen, is := r.handled.(microkernel.Viewed)
	if !is || seen.Plan != plan {
		return fmt.Sprintf("I3: %s drains or restarts without a look at the world", plan)
	}
	if o == nil || o.Drain.To != "" {
		return ""
	}
	v := seen.View.Find(o.Key.Callee)
	if v == nil {
		return fmt.Sprintf("I3: %s drains %s, which is not to be seen", plan, o.Key.Callee)
	}
	left := spares(v, o.Drain)
	if least := max(1, v.MinAvailable); left < least && (left > 0 || o.Drain.OnEmpty == mesh.OnEmptyNone) {
		return fmt.Sprintf("I3: %d instances of %s are left, and %d were just asked for", left, v.Name, least)
	}
	return ""
}

// spares counts the instances that were seen ready and that a drain leaves.
func spares(v *microkernel.ServiceView, drain *mesh.DrainOverlay) int {
	n := 0
	for i := range v.Instances {
		if in := &v.Instances[i]; in.State == mesh.Ready && !slices.Contains(drain.Instances, in.UID) {
			n++
		}
	}
	return n
}

// checkCrowd is I3 over plans: what begins shares no direct caller without headroom with a
// plan that runs, by the facts that either of them rests on. The callers are the world's.
func (r *run) checkCrowd(e microkernel.Watch) {
	rec, found := r.state.Record(e.Plan)
	if e.For > 0 || !found || rec.Phase != microkernel.Running {
		return
	}
	mine, why := r.loaded(&rec), ""
	for _, other := range r.state.OpenRecords() {
		if other.ID == rec.ID || other.Phase != microkernel.Running {
			continue
		}
		for _, s := range r.loaded(&other) {
			if slices.Contains(mine, s) && (slices.Contains(rec.View.Crowded, s) || slices.Contains(other.View.Crowded, s)) {
				why = fmt.Sprintf("I3: %s and %s make requests wait at %s, which has no headroom", rec.ID, other.ID, s)
			}
		}
	}
	r.holds("I3", why)
}

// loaded are the services at which requests wait while a plan runs.
func (r *run) loaded(rec *microkernel.Record) []mesh.Service {
	var acted []mesh.Service
	for i := range rec.Expanded.Steps {
		switch a := rec.Expanded.Steps[i].Action.(type) {
		case isa.Drain:
			acted = append(acted, a.Target.Service)
		case isa.Restart:
			acted = append(acted, a.Target.Service)
		}
	}
	return r.world.callers(acted)
}

// countCrowds notes plans that wait only because a caller would be crowded.
func (r *run) countCrowds(ev microkernel.Event) {
	var id microkernel.PlanID
	switch ev := ev.(type) {
	case microkernel.Submitted:
		id = microkernel.PlanID(ev.Program.ID)
	case microkernel.Viewed:
		id = ev.Plan
	default:
		return
	}
	rec, found := r.state.Record(id)
	if !found || rec.Phase != microkernel.Queued || rec.Locked != 0 {
		return
	}
	mine := r.loaded(&rec)
	for _, other := range r.state.OpenRecords() {
		if other.ID == id || other.Phase != microkernel.Running || slices.ContainsFunc(rec.RestartSet, func(s mesh.Service) bool { return acts(&other, s) }) {
			continue
		}
		if slices.ContainsFunc(r.loaded(&other), func(s mesh.Service) bool {
			return slices.Contains(mine, s) && (slices.Contains(rec.View.Crowded, s) || slices.Contains(other.View.Crowded, s))
		}) {
			r.counts.Faults["crowded"]++
			return
		}
	}
}

// measure tells how the services of a plan did before it acted, as the monitor does when a
// watch begins; what is told again must not count.
func (r *run) measure(e microkernel.Watch) {
	if r.stale || e.For > 0 {
		return
	}
	if first, known := r.baselines[e.Plan]; known && !r.regressed {
		why := ""
		if !reflect.DeepEqual(first, e.Baselines) {
			why = fmt.Sprintf("I6: the baselines of %s are not those that were measured before it acted", e.Plan)
		}
		r.holds("I6", why)
	}
	if len(e.Baselines) > 0 && !r.chance(3) {
		return
	}
	var told []microkernel.Baseline
	for _, s := range e.Services {
		told = append(told, microkernel.Baseline{Service: s, Before: microkernel.Level{
			Requests: uint64(r.rng.IntN(1000)), P99: r.millis(1, 100),
		}})
	}
	r.counts.Faults["measured"]++
	r.report(r.millis(1, 30), func() microkernel.Event {
		return microkernel.Measured{Stamp: r.stamp(), Plan: e.Plan, Baselines: told}
	})
}

// noteBaselines keeps the first baselines that an open plan was told.
func (r *run) noteBaselines(ev microkernel.Event) {
	m, is := ev.(microkernel.Measured)
	if !is {
		return
	}
	if rec, found := r.state.Record(m.Plan); !found || rec.Phase.Final() || len(m.Baselines) == 0 {
		return
	}
	if _, known := r.baselines[m.Plan]; !known {
		r.baselines[m.Plan] = m.Baselines
	}
}

// impatience resumes what was paused as soon as a new process runs, before it has looked at
// the world: pauses outlive a crash, and so do those who wait.
func (r *run) impatience() {
	paused := r.state.Paused() != ""
	for _, rec := range r.state.OpenRecords() {
		paused = paused || r.pausedAlone[rec.ID]
	}
	if !paused || !r.chance(2) {
		return
	}
	r.answer(time.Millisecond, func() {
		if !r.state.Recovering() {
			return
		}
		r.counts.Faults["resumed-while-recovering"]++
		r.resumeAll("")
		for _, id := range r.open() {
			if r.pausedAlone[id] && r.up() {
				r.resumeAll(id)
			}
		}
	})
}
