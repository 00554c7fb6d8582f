package microkernel

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// judgeGrace is how much later than asked for the monitor may judge.
const judgeGrace = 30 * time.Second

// watch orders the monitor to watch everything that the plan may hurt.
func watch(p *plan, disturbed []mesh.Service, until time.Duration) Watch {
	w := Watch{Plan: p.ID, Checks: p.Expanded.Verify, Disturbed: disturbed, For: until, Baselines: p.baselines}
	w.Services = slices.Concat(p.RestartSet, p.BlastRadius, p.locks)
	slices.Sort(w.Services)
	w.Services = slices.Compact(w.Services)
	for i := range p.View.Services {
		if p.View.Services[i].Symptom {
			w.Symptoms = append(w.Symptoms, p.View.Services[i].Name)
		}
	}
	slices.Sort(w.Symptoms)
	w.Shed = shed(p)
	return w
}

// shed are the services whose requests the plan answers itself, with an error, when a
// drain leaves no endpoint.
func shed(p *plan) []mesh.Service {
	var out []mesh.Service
	for i := range p.Expanded.Steps {
		if a, drain := p.Expanded.Steps[i].Action.(isa.Drain); drain && a.OnEmpty == mesh.OnEmptyShed {
			out = append(out, a.Target.Service)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// disturbed are the services that are expected to be slow while the plan runs: the
// restart set and the direct callers of what is drained; where requests are held, all
// whose own requests wait behind those, which is the blast radius.
func disturbed(p *plan) []mesh.Service {
	out := slices.Concat(p.RestartSet, lockSet(&p.View, p.Expanded, false))
	for i := range p.Expanded.Steps {
		if a, drain := p.Expanded.Steps[i].Action.(isa.Drain); drain && a.OnEmpty == mesh.OnEmptyHold {
			out = append(out, p.BlastRadius...)
			break
		}
	}
	for _, s := range out {
		if v := p.View.Find(s); v != nil {
			out = append(out, v.Callers...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// verify watches a plan whose steps are all confirmed, for the judgement of record.
func (t *turn) verify(p *plan) {
	p.Phase = Verifying
	t.stop(planTimer(p.ID, timerDeadline))
	length := t.policy.HarmWindow
	for _, c := range p.Expanded.Verify {
		length = max(length, c.For)
	}
	p.Waiting = fmt.Sprintf("%v of watching", length)
	t.emit(watch(p, slices.Clone(p.RestartSet), length))
	t.set(planTimer(p.ID, timerVerify), length+judgeGrace)
}

// measured freezes the baselines of a plan.
func (t *turn) measured(ev Measured) {
	p := t.edit(ev.Plan)
	if p != nil && !p.Phase.Final() && len(p.baselines) == 0 {
		p.baselines = ev.Baselines
	}
}

// judged takes the monitor's verdict.
func (t *turn) judged(ev Judged) {
	p := t.edit(ev.Plan)
	if p == nil || p.Phase != Running && p.Phase != Verifying {
		return
	}
	if ev.Verdict.Label == Harm {
		t.harmed(ev.Verdict, p)
		return
	}
	t.judgedPlan(p, ev.Verdict)
}

// judgedPlan records the label of a plan that was watched to the end.
func (t *turn) judgedPlan(p *plan, v HarmVerdict) {
	switch v.Label {
	case Clean, NotRecovered, Inconclusive:
	default:
		return
	}
	if p.Phase != Verifying || p.Harm.Label != "" {
		return
	}
	p.Harm = v
	t.stop(planTimer(p.ID, timerVerify))
	t.conclude(p)
}

// conclude commits a plan that is judged and has no overlay left. Limits and breakers
// stay until their lease ends, and the plan with them.
func (t *turn) conclude(p *plan) {
	if p.Phase != Verifying || p.Harm.Label == "" {
		return
	}
	for i := range p.steps {
		if p.steps[i].inForce {
			p.Waiting = "the end of the lease of " + string(p.steps[i].Step.ID)
			return
		}
	}
	t.emit(Unwatch{Plan: p.ID})
	if p.Harm.Label == NotRecovered {
		t.emit(Page{Plan: p.ID, Reason: fmt.Sprintf("%s has not recovered: %s", p.Harm.Service, p.Harm.Evidence)})
	}
	t.finish(p, Committed)
}

// harmed aborts every running plan that may have done the harm, the youngest first:
// the one that it was reported for, and all whose radius has the service.
func (t *turn) harmed(v HarmVerdict, reported *plan) {
	for _, q := range slices.Backward(slices.Clone(t.plans)) {
		if q.Phase != Running && q.Phase != Verifying {
			continue
		}
		if q.ID != reported.ID && !mayHarm(q, v.Service) {
			continue
		}
		p := t.edit(q.ID)
		p.Harm = v
		t.abort(p, fmt.Sprintf("harm at %s: %s", v.Service, v.Evidence))
	}
}

func mayHarm(p *plan, service mesh.Service) bool {
	return slices.Contains(p.RestartSet, service) || slices.Contains(p.BlastRadius, service) ||
		slices.Contains(p.locks, service)
}
