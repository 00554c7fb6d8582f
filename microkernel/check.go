package microkernel

import (
	"fmt"
	"slices"

	"github.com/sluicemesh/sluice/isa"
)

// Invariant is what can be seen of one of I1-I9 (docs/architecture.md) in a state alone.
type Invariant struct {
	Name   string                // "I1" ... "I9"
	Broken func(s *State) string // how s breaks it, "" if it keeps it
}

// Invariants returns the invariants that can be judged on a state, each by itself. I6
// is not among them: it needs a replay.
func Invariants() []Invariant {
	return []Invariant{
		{"I1", everyPlan(withinActions)}, {"I2", everyPlan(gated)}, {"I3", floors}, {"I4", disjointLocks},
		{"I5", progress}, {"I7", singleLeader}, {"I8", everyPlan(explained)}, {"I9", fairlyDecided},
	}
}

// Check returns the first invariant that s breaks, as "I2: ...", or "" if it keeps all
// that can be seen in a state.
func Check(s State) string {
	for _, rule := range Invariants() {
		if why := rule.Broken(&s); why != "" {
			return why
		}
	}
	return ""
}

// everyPlan asks rule about every open plan, and about the newest of the final ones,
// which stands for them: they do not change.
func everyPlan(rule func(*State, *plan) string) func(*State) string {
	return func(s *State) string {
		for _, p := range s.plans {
			if why := rule(s, p); why != "" {
				return fmt.Sprintf("%s (plan %s, %s)", why, p.ID, p.Phase)
			}
		}
		if n := len(s.done); n > 0 {
			if why := rule(s, s.done[n-1]); why != "" {
				return fmt.Sprintf("%s (plan %s, %s)", why, s.done[n-1].ID, s.done[n-1].Phase)
			}
		}
		return ""
	}
}

// progress is I5: nothing is left behind, and something moves every plan on.
func progress(s *State) string {
	if why := neverSilent(s); why != "" {
		return why
	}
	return everyPlan(ends)(s)
}

// floors is I3: of each plan, and of callers over all of them.
func floors(s *State) string {
	if why := everyPlan(aboveFloor)(s); why != "" {
		return why
	}
	return uncrowded(s)
}

// withinActions is I1: what is in force belongs to an overlay action, on a service in
// the write set of its plan, and a key has one owner.
func withinActions(s *State, p *plan) string {
	for i := range p.steps {
		o := &p.steps[i].overlay
		if !p.steps[i].inForce {
			continue
		}
		switch p.steps[i].Step.Action.(type) {
		case isa.Drain, isa.CircuitBreak, isa.RateLimit:
		default:
			return fmt.Sprintf("I1: step %s has an overlay in force", p.steps[i].Step.ID)
		}
		if !slices.Contains(p.locks, o.Key.Callee) {
			return fmt.Sprintf("I1: %s is changed, but not in the write set", o.Key.Callee)
		}
		for k := range p.steps[:i] {
			if p.steps[k].inForce && p.steps[k].overlay.Key == o.Key {
				return fmt.Sprintf("I1: %s %s has two owners", o.Key.Kind, o.Key.Callee)
			}
		}
	}
	return ""
}

// gated is I2: a restart under way has its drain in force; one that this leader
// ordered has it proved by this leader to the grade of the policy.
func gated(s *State, p *plan) string {
	for i := range p.steps {
		r := &p.steps[i]
		a, restart := r.Step.Action.(isa.Restart)
		if !restart || r.State != StepRunning {
			continue
		}
		if r.drain < 0 {
			if v := p.View.Find(a.Target.Service); v == nil || v.Takes {
				return fmt.Sprintf("I2: %s restarts what takes traffic, without a drain", r.Step.ID)
			}
			continue
		}
		d := &p.steps[r.drain]
		switch {
		case d.undoing || !d.inForce:
			return fmt.Sprintf("I2: %s is under way, its drain %s is not in force", r.Step.ID, d.Step.ID)
		case r.term == s.term && !r.Grade.AtLeast(s.policy.LeastGrade):
			return fmt.Sprintf("I2: %s was ordered on a proof of grade %q", r.Step.ID, r.Grade)
		case !slices.Contains(d.overlay.Drain.Instances, a.Target.UID):
			return fmt.Sprintf("I2: %s restarts what %s does not drain", r.Step.ID, d.Step.ID)
		}
	}
	return ""
}

// aboveFloor is I3: what drains leave of a service is at or above its floor, unless
// all of its traffic is rerouted, held or shed.
func aboveFloor(s *State, p *plan) string {
	for i := range p.steps {
		a, drain := p.steps[i].Step.Action.(isa.Drain)
		if !drain || !p.steps[i].inForce {
			continue
		}
		if why := beside(&a, p.steps[i].overlay.Drain, &p.View, &p.View, &s.policy); why != "" {
			return "I3: " + why
		}
	}
	if p.Phase != Running {
		return ""
	}
	if why := p.tight(&p.Present, s.policy); why != "" {
		return "I3: " + why
	}
	return ""
}

// disjointLocks is I4.
func disjointLocks(s *State) string {
	for i, p := range s.plans {
		for _, q := range s.plans[:i] {
			if p.holding && q.holding && !disjoint(p.locks, q.locks) {
				return fmt.Sprintf("I4: %s and %s have locked the same service", q.ID, p.ID)
			}
		}
	}
	return ""
}

// ends is I5: a plan that is not final has something that will move it on; a final
// one has left nothing behind, unless it is frozen.
func ends(s *State, p *plan) string {
	switch p.Phase {
	case Committed, Compensated, Refused:
		for i := range p.steps {
			if p.steps[i].inForce {
				return fmt.Sprintf("I5: overlay of %s outlives its plan", p.steps[i].Step.ID)
			}
		}
		return ""
	case Frozen:
		return ""
	}
	if s.Recovering() || p.holding && p.Phase == Queued && p.asked {
		return ""
	}
	if !slices.ContainsFunc(s.timers, func(t timer) bool { return t.id.Plan == p.ID }) {
		return "I5: nothing will move the plan on"
	}
	return ""
}

// singleLeader is I7: nothing is of a term to come, and no restart that this leader
// ordered rests on the proof of another.
func singleLeader(s *State) string {
	for _, p := range s.plans {
		for i := range p.steps {
			r := &p.steps[i]
			if r.term > s.term {
				return fmt.Sprintf("I7: %s/%s is of a term to come", p.ID, r.Step.ID)
			}
			_, restart := r.Step.Action.(isa.Restart)
			if restart && r.State == StepRunning && r.drain >= 0 && r.term == s.term && p.steps[r.drain].term != s.term {
				return fmt.Sprintf("I7: %s/%s was ordered on the proof of another leader", p.ID, r.Step.ID)
			}
		}
	}
	return ""
}

// explained is I8: the record alone says why.
func explained(s *State, p *plan) string {
	v := &p.Verdict
	if v.Outcome != Admit && (v.Code == "" || len(v.Faults) == 0 || v.Faults[0].Reason == "" || v.Faults[0].Remedy == "") {
		return fmt.Sprintf("I8: verdict %s says nothing", v.Outcome)
	}
	switch p.Phase {
	case Compensating, Compensated, Frozen, Refused:
		if p.Reason == "" {
			return "I8: no reason is recorded"
		}
	}
	for i := range p.steps {
		r := &p.steps[i]
		_, restart := r.Step.Action.(isa.Restart)
		if restart && r.State == StepConfirmed && (r.Old.UID == "" || r.New.UID == "") {
			return fmt.Sprintf("I8: %s does not say what was restarted", r.Step.ID)
		}
	}
	return ""
}

// fairlyDecided is I9: what runs was admitted, and nobody approved a plan of his own.
func fairlyDecided(s *State) string {
	for _, p := range s.plans {
		if len(p.steps) > 0 && p.Verdict.Outcome != Admit {
			return fmt.Sprintf("I9: plan %s runs with verdict %s", p.ID, p.Verdict.Outcome)
		}
		if p.Approver.Name == "" {
			continue
		}
		if p.Approver.Name == p.Proposer.Name || !operates(p.Approver) {
			return fmt.Sprintf("I9: plan %s was approved by %s", p.ID, p.Approver.Name)
		}
	}
	return ""
}

// neverSilent is I5 for the kernel itself: a leader that takes over looks again.
func neverSilent(s *State) string {
	if !s.recovering {
		return ""
	}
	if !slices.ContainsFunc(s.timers, func(t timer) bool { return t.id.Name == timerProbe && t.id.Plan == "" }) {
		return "I5: the new leader waits for nothing"
	}
	return ""
}
