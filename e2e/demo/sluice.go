package main

import (
	"context"
	"slices"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
)

const watchEvery = 200 * time.Millisecond

// mendBySluice does nothing but look: at the symptoms, the group and the plans.
func (d *demo) mendBySluice(ctx context.Context, a *arm, g *load.Generator) error {
	w := watcher{demo: d, arm: a, start: g.Start()}
	for {
		w.look(ctx)
		since := g.Now() - a.timeline.Injected
		settled := w.final() && a.healthy(g)
		if since >= sluiceBound || since >= horizon && settled {
			break
		}
		if err := wait(ctx, g, g.Now()+watchEvery); err != nil {
			return err
		}
	}
	w.conclude()
	a.explain = w.explain
	return nil
}

// watcher follows what the control plane reports. A control plane that does not answer
// is asked again.
type watcher struct {
	demo    *demo
	arm     *arm
	start   time.Time // of the load
	plans   []*sluicev1.Plan
	phases  map[string]string
	noticed *time.Time
	groups  map[string]*sluicev1.GetGroupResponse // by symptom
	order   []string                              // symptoms as they were noticed
}

// look asks once.
func (w *watcher) look(ctx context.Context) {
	w.lookForSymptoms(ctx)
	plans, err := w.arm.rig.Plans(ctx)
	if err != nil {
		return
	}
	w.plans = w.plans[:0]
	for _, plan := range plans {
		if at := rig.At(plan.GetProposed()); at != nil && at.Sub(w.start) >= w.arm.timeline.Injected {
			w.plans = append(w.plans, plan)
			w.tell(plan)
		}
	}
}

// lookForSymptoms notes symptoms of the fault, and the group of each while it is there.
func (w *watcher) lookForSymptoms(ctx context.Context) {
	symptoms, err := w.arm.rig.Symptoms(ctx)
	if err != nil {
		return
	}
	for _, s := range symptoms {
		noticed := rig.At(s.GetNoticed())
		if noticed == nil || noticed.Sub(w.start) < w.arm.timeline.Injected || w.groups[s.GetService()] != nil {
			continue
		}
		if w.noticed == nil || noticed.Before(*w.noticed) {
			w.noticed = noticed
		}
		group, err := w.arm.rig.Group(ctx, s.GetService())
		if err != nil {
			continue
		}
		if w.groups == nil {
			w.groups = map[string]*sluicev1.GetGroupResponse{}
		}
		w.groups[s.GetService()] = group
		w.order = append(w.order, s.GetService())
		w.demo.say("arm sluice: symptom %s (%s), restart set %v", s.GetService(), s.GetEvidence(), group.GetRestartSet())
	}
}

// tell reports a plan that has changed its phase.
func (w *watcher) tell(plan *sluicev1.Plan) {
	if w.phases == nil {
		w.phases = map[string]string{}
	}
	if w.phases[plan.GetId()] == plan.GetPhase() {
		return
	}
	w.phases[plan.GetId()] = plan.GetPhase()
	w.demo.say("arm sluice: plan %s %s, restarts %v %s", plan.GetId(), plan.GetPhase(), rig.Restarts(plan), plan.GetReason())
}

// final reports whether every plan has come to its end; no plan at all is no end.
func (w *watcher) final() bool {
	for _, plan := range w.plans {
		if !rig.Final(plan) {
			return false
		}
	}
	return len(w.plans) > 0
}

// conclude turns what was seen into the arm's timeline: the first effect of any plan,
// and when that plan's first step was confirmed.
func (w *watcher) conclude() {
	a := w.arm
	if w.noticed != nil {
		notice := w.noticed.Sub(w.start) - a.timeline.Injected
		a.notice = &notice
	}
	for _, plan := range w.plans {
		first, confirmed := rig.Effects(plan)
		if first == nil || first.Sub(w.start) >= a.timeline.Acted {
			continue
		}
		a.timeline.Acted, a.timeline.Confirmed = first.Sub(w.start), load.Never
		if confirmed != nil {
			a.timeline.Confirmed = confirmed.Sub(w.start)
		}
	}
}

// explain chooses the plan to report: the last one that had an effect before the
// application was well, since what came later did not heal it; else the last one.
func (w *watcher) explain() {
	a := w.arm
	for _, plan := range w.plans {
		first, _ := rig.Effects(plan)
		late := a.recovered != nil && (first == nil || first.Sub(w.start) > a.timeline.Injected+*a.recovered)
		if a.plan == nil || !late {
			a.plan = plan
		}
	}
	a.group = w.groupOf(a.plan)
}

// groupOf returns the group that a plan came from: that with its restart set, else the
// first one.
func (w *watcher) groupOf(plan *sluicev1.Plan) *sluicev1.GetGroupResponse {
	if len(w.order) == 0 {
		return nil
	}
	for _, symptom := range w.order {
		if plan != nil && sameSet(w.groups[symptom].GetRestartSet(), plan.GetRestartSet()) {
			return w.groups[symptom]
		}
	}
	return w.groups[w.order[0]]
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}
