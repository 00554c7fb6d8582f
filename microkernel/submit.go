package microkernel

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
)

// submitted takes in a proposal: who asks and how often comes before what is asked.
func (t *turn) submitted(ev Submitted) {
	id := PlanID(ev.Program.ID)
	if verdict, shut := t.door(ev); shut {
		verdict.Epoch = ev.View.Epoch
		t.emit(Answer{Plan: id, Verdict: verdict})
		return
	}
	p := &plan{Record: Record{ID: id, Proposer: ev.By, Written: ev.Program, Proposed: t.now}}
	t.insert(p)
	t.judge(p, ev.View)
}

// unread answers what could not be read: as a refusal, until it is too much of it.
func (t *turn) unread(ev Unread) {
	v := Verdict{Outcome: Reject, Faults: ev.Faults}
	if len(ev.Faults) > 0 {
		v.Code = ev.Faults[0].Code
	}
	if wait := t.meter(ev.By.Name); wait > 0 {
		v = tooOften(ev.By.Name, t.policy.PlansPerSecond, wait)
	}
	t.emit(Answer{Verdict: v})
}

func tooOften(name string, rate float64, wait time.Duration) Verdict {
	v := refusal(Throttle, fault(isa.CodeRate, "", fmt.Sprintf("more than %g plans a second of %s", rate, name), "ask again later"))
	v.RetryAfter = wait
	return v
}

// door answers what needs no look at the program, and is not kept as a plan.
func (t *turn) door(ev Submitted) (Verdict, bool) {
	switch ev.By.Role {
	case Proposer, Approver, Admin:
	default:
		return refusal(Reject, fault(isa.CodeAuthz, "", fmt.Sprintf("role %q may not propose", ev.By.Role),
			"use a token of a proposer")), true
	}
	if wait := t.meter(ev.By.Name); wait > 0 {
		return tooOften(ev.By.Name, t.policy.PlansPerSecond, wait), true
	}
	if old := t.find(PlanID(ev.Program.ID)); old != nil && !t.forgetThrottled(old) {
		return replay(old, ev), true
	}
	return t.closed()
}

// closed answers while nothing new is taken in.
func (t *turn) closed() (Verdict, bool) {
	switch {
	case t.frozen != "":
		return refusal(Reject, fault(isa.CodeFrozen, "", t.frozen, "an admin must look, and resume")), true
	case t.paused != "":
		return refusal(Reject, fault(isa.CodePaused, "", t.paused, "propose again after resume")), true
	case t.Recovering():
		v := refusal(Throttle, fault(isa.CodePaused, "", "a new leader is taking over the open plans",
			"ask again in a second"))
		v.RetryAfter = time.Second
		return v, true
	case len(t.plans) >= maxOpen:
		v := refusal(Throttle, fault(isa.CodeRate, "", fmt.Sprintf("%d plans are open", len(t.plans)),
			"abort what is not needed"))
		v.RetryAfter = time.Minute
		return v, true
	}
	return Verdict{}, false
}

// forgetThrottled drops a plan that was only asked to come later, and reports if so.
func (t *turn) forgetThrottled(old *plan) bool {
	if old.Phase != Refused || old.Verdict.Outcome != Throttle {
		return false
	}
	t.done = slices.DeleteFunc(slices.Clone(t.done), func(p *plan) bool { return p == old })
	return true
}

// replay answers an id that is known: the first outcome for the same program of the
// same principal, a conflict for any other.
func replay(old *plan, ev Submitted) Verdict {
	if old.Proposer.Name != ev.By.Name || !same(old.Written, ev.Program) {
		return refusal(Reject, fault(isa.CodeIDConflict, "id",
			fmt.Sprintf("id %s belongs to another program", old.ID), "choose an id that was never used"))
	}
	v := old.Verdict
	v.Outcome = Replayed
	return v
}

// judge gives the verdict on p with fresh facts, and acts on it.
func (t *turn) judge(p *plan, view View) {
	p.View = view
	j := examine(&t.State, p, budgeted)
	p.Expanded = j.expanded()
	p.Hash = isa.Hash(p.Expanded, p.Proposer.Name)
	p.RestartSet, p.BlastRadius = slices.Clone(view.RestartSet), slices.Clone(view.BlastRadius)
	p.Verdict = j.verdict(view.Epoch)
	t.modes(p)
	switch p.Verdict.Outcome {
	case Admit:
		t.emit(Answer{Plan: p.ID, Verdict: p.Verdict})
		t.charge(p, j)
		t.enqueue(p)
	case Hold:
		t.emit(Answer{Plan: p.ID, Verdict: p.Verdict})
		t.hold(p)
	default:
		if j.counted {
			t.chargeAsked(p, j)
		}
		t.emit(Answer{Plan: p.ID, Verdict: p.Verdict})
		p.Reason = p.Verdict.Faults[0].Reason
		t.finish(p, Refused)
	}
}

// modes turns what would be admitted into what the mode allows.
func (t *turn) modes(p *plan) {
	if p.Verdict.Outcome != Admit && p.Verdict.Outcome != Hold {
		return
	}
	switch {
	case t.policy.Mode == Observe:
		would := p.Verdict.Outcome
		p.Verdict = refusal(Reject, append(p.Verdict.Faults, fault(isa.CodeObserve, "",
			fmt.Sprintf("mode Observe: the verdict would have been %s", would), "set mode Propose or Enforce"))...)
		p.Verdict.Code = isa.CodeObserve
	case t.policy.Mode == Propose && p.Approver.Name == "" && p.Verdict.Outcome == Admit:
		p.Verdict = refusal(Hold, fault(isa.CodePropose, "", "mode Propose: every plan needs approval",
			"let another principal approve it"))
	}
	p.Verdict.Epoch = p.View.Epoch
}

// hold lets p wait for approval; the wait is counted from the first hold.
func (t *turn) hold(p *plan) {
	if p.Phase == Held {
		return
	}
	p.Phase = Held
	p.Waiting = "approval by another principal: " + p.Verdict.Faults[0].Reason
	t.set(planTimer(p.ID, timerHeld), t.policy.HeldTTL)
}

// approved judges a held plan again, with facts of now and what approval lifts.
func (t *turn) approved(ev Approved) {
	p := t.edit(ev.Plan)
	if why := approvable(p, ev.By); why != "" {
		v := refusal(Reject, fault(isa.CodeAuthz, "", why, "another principal with role approver must approve"))
		t.emit(Answer{Plan: ev.Plan, Verdict: v})
		return
	}
	if v, shut := t.closed(); shut {
		t.emit(Answer{Plan: ev.Plan, Verdict: v})
		return
	}
	p.Approver = ev.By
	t.stop(planTimer(p.ID, timerHeld))
	t.judge(p, ev.View)
}

func approvable(p *plan, by Principal) string {
	switch {
	case p == nil:
		return "no open plan has this id"
	case p.Phase != Held:
		return fmt.Sprintf("plan %s is %s, not held", p.ID, p.Phase)
	case by.Role != Approver && by.Role != Admin && !planted("anybody-approves"):
		return fmt.Sprintf("role %q may not approve", by.Role)
	case by.Name == p.Proposer.Name && !planted("own-approval"):
		return fmt.Sprintf("%s proposed the plan and cannot approve it", by.Name)
	}
	return ""
}

// refuse ends a plan that has not begun, with f as the reason.
func (t *turn) refuse(p *plan, faults ...isa.Fault) {
	v := refusal(Reject, faults...)
	v.Epoch = p.View.Epoch
	if planted("remedy-dropped") {
		v.Faults[0].Remedy = ""
	}
	p.Verdict = v
	p.Reason = v.Faults[0].Reason
	t.emit(Answer{Plan: p.ID, Verdict: v})
	t.finish(p, Refused)
}

// refusal is a verdict of outcome with the code of the first fault.
func refusal(outcome Outcome, faults ...isa.Fault) Verdict {
	return Verdict{Outcome: outcome, Code: faults[0].Code, Faults: faults}
}

func fault(code isa.Code, path, reason, remedy string) isa.Fault {
	return isa.Fault{Code: code, Path: path, Reason: reason, Remedy: remedy}
}
