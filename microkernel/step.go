package microkernel

import (
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
)

// Step returns the state after ev and the effects that the driver must carry out, in
// order. It is total and deterministic (no clock, no randomness, no I/O), so replaying
// the journal rebuilds the state. s is not changed. An event that does not fit the
// state (a repeat, a late answer, a stranger's) changes nothing but the time.
func Step(s State, ev Event) (State, []Effect) {
	t := turn{State: s}
	t.events++
	t.now = max(s.now, ev.When())
	t.handle(ev)
	t.schedule()
	return t.State, t.out
}

// turn is one call of Step: the state that it builds, and the effects so far.
type turn struct {
	State
	out       []Effect
	looked    PlanID // the facts of this plan came with this event: its gates may open
	ownPlans  bool   // plans is this turn's own slice
	ownTimers bool
}

func (t *turn) handle(ev Event) {
	switch ev := ev.(type) {
	case Submitted:
		t.submitted(ev)
	case Unread:
		t.unread(ev)
	case Approved:
		t.approved(ev)
	case Aborted:
		t.aborted(ev)
	case Viewed:
		t.viewed(ev)
	case Applied:
		t.applied(ev)
	case Proved:
		t.proved(ev)
	case Restarted:
		t.restarted(ev)
	case Withdrawn:
		t.withdrawn(ev)
	case Scaled:
		t.scaled(ev)
	case RolledBack:
		t.rolledBack(ev)
	case Failed:
		t.failed(ev)
	case Fired:
		t.fired(ev)
	case Judged:
		t.judged(ev)
	case Measured:
		t.measured(ev)
	default:
		t.handleKernel(ev)
	}
}

// handleKernel handles the events that are about the kernel as a whole.
func (t *turn) handleKernel(ev Event) {
	switch ev := ev.(type) {
	case Led:
		t.led(ev)
	case Probed:
		t.probed(ev)
	case Compacted:
		t.State = ev.State.state()
	case Violated:
		t.freeze("an invariant is broken: " + ev.Invariant)
	case Paused:
		t.pause(ev)
	case Resumed:
		t.resume(ev)
	}
}

// emit adds an effect.
func (t *turn) emit(e Effect) { t.out = append(t.out, e) }

// edit returns the open plan with id, ready to be changed; nil if there is none.
func (t *turn) edit(id PlanID) *plan {
	i := slices.IndexFunc(t.plans, func(p *plan) bool { return p.ID == id })
	if i < 0 {
		return nil
	}
	if t.plans[i].edited == t.events || planted("edits-in-place") {
		return t.plans[i]
	}
	if !t.ownPlans {
		t.plans = slices.Clone(t.plans)
		t.ownPlans = true
	}
	t.plans[i] = t.plans[i].clone()
	t.plans[i].edited = t.events
	return t.plans[i]
}

// insert adds a new plan to the open ones.
func (t *turn) insert(p *plan) {
	t.sequence++
	p.sequence = t.sequence
	p.edited = t.events
	t.plans = append(t.plans[:len(t.plans):len(t.plans)], p)
	t.ownPlans = true
}

// finish ends p in a final phase. A frozen plan keeps its locks and stays open to
// an admin; every other one is only remembered.
func (t *turn) finish(p *plan, phase Phase) {
	p.Phase = phase
	p.Ended = t.now
	p.Waiting = ""
	p.asked = false
	p.Present, p.baselines = View{}, nil
	t.stopTimers(p.ID)
	t.emit(Finish{Plan: p.ID, Phase: phase})
	if phase == Frozen {
		return
	}
	p.holding = false
	if phase == Refused {
		t.refund(p)
	}
	t.plans = slices.DeleteFunc(slices.Clone(t.plans), func(q *plan) bool { return q == p })
	t.ownPlans = true
	t.remember(p)
}

// remember keeps a final plan for replays of its id. Ids are forgotten when they are old
// enough; of too many, those that never ran go first, so that a flood of refused plans
// cannot make room for a second run of one that did.
func (t *turn) remember(p *plan) {
	since := t.now.Add(-t.policy.RememberIDs)
	keep := slices.DeleteFunc(slices.Clone(t.done), func(q *plan) bool { return q.Ended < since })
	if len(keep) >= maxDone {
		i := max(0, slices.IndexFunc(keep, func(q *plan) bool { return q.Phase == Refused }))
		keep = slices.Delete(keep, i, i+1)
	}
	t.done = append(keep, p)
}

// set sets a timer.
func (t *turn) set(id TimerID, after time.Duration) {
	after = max(after, 0)
	t.ownTimerList()
	i, found := t.timer(id)
	if !found {
		t.timers = slices.Insert(t.timers, i, timer{id: id})
	}
	t.timers[i].due = t.now.Add(after)
	t.emit(SetTimer{Timer: id, After: after})
}

// stop forgets a timer, if it is set.
func (t *turn) stop(id TimerID) {
	i, found := t.timer(id)
	if !found {
		return
	}
	t.ownTimerList()
	t.timers = slices.Delete(t.timers, i, i+1)
	t.emit(StopTimer{Timer: id})
}

// stopTimers forgets every timer of a plan.
func (t *turn) stopTimers(plan PlanID) {
	for i := len(t.timers) - 1; i >= 0; i-- {
		if t.timers[i].id.Plan == plan {
			t.stop(t.timers[i].id)
		}
	}
}

func (t *turn) ownTimerList() {
	if !t.ownTimers {
		t.timers = slices.Clone(t.timers)
		t.ownTimers = true
	}
}

// timer returns where the timer stands, or would stand.
func (t *turn) timer(id TimerID) (int, bool) {
	return slices.BinarySearchFunc(t.timers, id, func(a timer, id TimerID) int {
		if c := strings.Compare(string(a.id.Plan), string(id.Plan)); c != 0 {
			return c
		}
		if c := strings.Compare(string(a.id.Step), string(id.Step)); c != 0 {
			return c
		}
		return strings.Compare(a.id.Name, id.Name)
	})
}

// Names of timers.
const (
	timerHeld     = "held"     // of a plan that nobody approves
	timerTTL      = "ttl"      // of a plan that waits for its locks
	timerDeadline = "deadline" // of a plan, or of a step under way
	timerVerify   = "verify"   // of a monitor that never judges
	timerLease    = "lease"    // a third of a lease is over
	timerExpire   = "expire"   // a lease that nobody renews is over
	timerAnswer   = "answer"   // an inverse that nobody answers
	timerRetry    = "retry"    // an inverse that failed is tried again
	timerProbe    = "probe"    // the world is looked at again
	timerStray    = "stray"    // an overlay that nobody owned is looked for again
	timerLook     = "look"     // nobody told the facts at a gate
)

func planTimer(plan PlanID, name string) TimerID { return TimerID{Plan: plan, Name: name} }

func stepTimer(plan PlanID, step isa.StepID, name string) TimerID {
	return TimerID{Plan: plan, Step: step, Name: name}
}

// fired dispatches a timer. One that is not set any more, or was set anew, is stale.
func (t *turn) fired(ev Fired) {
	i, found := t.timer(ev.Timer)
	if !found {
		return
	}
	if left := t.timers[i].due.Sub(t.now); left > 0 {
		t.emit(SetTimer{Timer: ev.Timer, After: left}) // fired early: a clock that was set back
		return
	}
	t.ownTimerList()
	t.timers = slices.Delete(t.timers, i, i+1)
	if ev.Timer.Plan == "" {
		t.kernelFired(ev.Timer.Name)
		return
	}
	p := t.edit(ev.Timer.Plan)
	if p == nil {
		return
	}
	if ev.Timer.Step != "" {
		t.stepFired(p, p.index(ev.Timer.Step), ev.Timer.Name)
		return
	}
	t.planFired(p, ev.Timer.Name)
}

func (t *turn) kernelFired(name string) {
	if name == timerStray {
		t.strayAgain()
		return
	}
	t.probeAgain()
}

func (t *turn) planFired(p *plan, name string) {
	switch name {
	case timerHeld:
		t.refuse(p, fault(isa.CodeExpired, "", "nobody approved the plan in time", "propose it again"))
	case timerTTL:
		t.expired(p)
	case timerDeadline:
		t.deadline(p)
	case timerVerify:
		t.judgedPlan(p, HarmVerdict{Label: Inconclusive, Evidence: "the monitor gave no verdict in time"})
	case timerLook:
		t.lookAgain(p)
	}
}

func (t *turn) stepFired(p *plan, i int, name string) {
	if i < 0 {
		return
	}
	switch name {
	case timerDeadline:
		t.stepDeadline(p, i)
	case timerLease:
		t.renew(p, i)
	case timerExpire:
		t.expire(p, i)
	case timerAnswer:
		t.undoFailed(p, i, "no answer in time")
	case timerRetry:
		t.undoAgain(p, i)
	}
}
