package microkernel

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
)

// maxAttempts bounds how often an inverse is tried: once, and after 1, 2, 4, 8, 16 s.
const maxAttempts = 6

// aborted stops a plan: its proposer may, and every operator.
func (t *turn) aborted(ev Aborted) {
	p := t.edit(ev.Plan)
	if p == nil || p.Phase.Final() || !mayAbort(p, ev.By) {
		return
	}
	reason := "aborted by " + ev.By.Name
	if ev.Reason != "" {
		reason += ": " + ev.Reason
	}
	t.abort(p, reason)
}

func mayAbort(p *plan, by Principal) bool {
	switch by.Role {
	case Approver, Admin:
		return true
	case Proposer:
		return by.Name == p.Proposer.Name
	}
	return false
}

// abort stops a plan. What it has begun is undone in reverse; a restart under way is
// waited for, because nothing undoes it.
func (t *turn) abort(p *plan, reason string) {
	if p.Reason == "" && !planted("reason-forgotten") {
		p.Reason = reason
	}
	switch p.Phase {
	case Held, Queued:
		t.finish(p, Refused)
		return
	case Running, Verifying:
		p.Phase = Compensating
		p.holding = !planted("locks-released-early")
		t.stop(planTimer(p.ID, timerDeadline))
		t.stop(planTimer(p.ID, timerVerify))
		for i := range p.steps {
			t.drop(p, i)
		}
	}
	t.undo(p)
}

// drop gives up a step that is under way, if it need not be waited for.
func (t *turn) drop(p *plan, i int) {
	s := &p.steps[i]
	if s.State == StepWaiting {
		s.Waiting = ""
	}
	if s.State != StepRunning {
		return
	}
	switch s.Step.Action.(type) {
	case isa.Restart, isa.RestoreTraffic:
		return
	}
	s.State = StepFailed
	s.Ended = t.now
	t.stop(stepTimer(p.ID, s.Step.ID, timerDeadline))
}

// undo goes on with compensation, in the reverse of the order in which steps began.
func (t *turn) undo(p *plan) {
	if p.Phase != Compensating {
		return
	}
	open := false
	for _, i := range p.begun() {
		s := &p.steps[i]
		if _, restart := s.Step.Action.(isa.Restart); restart && s.State == StepRunning {
			open = true
		}
		if s.gaveUp || !s.stands() {
			continue
		}
		open = true
		if !s.undoing && !p.restarting(i) {
			t.inverse(p, i)
		}
	}
	p.Waiting = ""
	if open {
		p.Waiting = "what was begun to be undone"
		return
	}
	t.endUndo(p)
}

// begun lists the steps that have started, the latest first.
func (p *plan) begun() []int {
	var out []int
	for i := range p.steps {
		if p.steps[i].Started != 0 {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b int) int {
		switch x, y := p.steps[a].Started, p.steps[b].Started; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return b - a
	})
	return out
}

// stands reports whether something of the step is left in the world that its inverse
// must take away.
func (s *step) stands() bool {
	recorded := false // what was before
	switch s.Step.Action.(type) {
	case isa.Scale, isa.RollbackConfig:
		recorded = true
	}
	return s.inForce && (s.Acked != 0 || !planted("undo-skips-unacked")) || recorded && !s.foreign && s.State != StepWaiting && s.State != StepUndone
}

// restarting reports whether a restart within the drain of step i is under way.
func (p *plan) restarting(i int) bool {
	for k := range p.steps {
		_, restart := p.steps[k].Step.Action.(isa.Restart)
		if restart && p.steps[k].drain == i && p.steps[k].State == StepRunning {
			return true
		}
	}
	return false
}

// inverse orders what undoes step i.
func (t *turn) inverse(p *plan, i int) {
	s := &p.steps[i]
	if a, scale := s.Step.Action.(isa.Scale); scale {
		s.undoing = true
		former := s.former
		if planted("undo-to-nothing") {
			former = 0
		}
		t.emit(SetReplicas{Plan: p.ID, Step: s.Step.ID, Service: a.Target.Service, Replicas: former})
		t.set(stepTimer(p.ID, s.Step.ID, timerAnswer), answerIn)
		return
	}
	if a, rollback := s.Step.Action.(isa.RollbackConfig); rollback {
		s.undoing = true
		t.emit(SetRevision{Plan: p.ID, Step: s.Step.ID, Object: a.Object, Revision: s.revision})
		t.set(stepTimer(p.ID, s.Step.ID, timerAnswer), answerIn)
		return
	}
	t.withdraw(p, i, s.Step.ID, p.ramp(i))
}

// ramp is what the program says about giving back drain i, once something in it was
// restarted; what was never stopped needs none.
func (p *plan) ramp(i int) time.Duration {
	ramp, cold := time.Duration(0), false
	for k := range p.steps {
		if p.steps[k].drain != i {
			continue
		}
		switch a := p.steps[k].Step.Action.(type) {
		case isa.RestoreTraffic:
			ramp = a.Ramp
		case isa.Restart:
			cold = cold || p.steps[k].ordered
		}
	}
	if !cold {
		return 0
	}
	return ramp
}

// inverse returns the index of the step whose inverse step i is carrying out, -1 if
// none: i itself while it is undone, or the drain that a restore or an await gives back.
func (p *plan) inverse(i int) int {
	return slices.IndexFunc(p.steps, func(s step) bool {
		if !s.undoing || s.gaveUp {
			return false
		}
		if s.inForce {
			return s.removing == p.steps[i].Step.ID || s.Step.ID == p.steps[i].Step.ID
		}
		return s.Step.ID == p.steps[i].Step.ID
	})
}

// undone notes that nothing of step i is left in the world.
func (t *turn) undone(p *plan, i int) {
	s := &p.steps[i]
	by := p.index(s.removing)
	s.inForce, s.undoing, s.removing, s.gaveUp, s.Waiting = false, false, "", false, ""
	t.stop(stepTimer(p.ID, s.Step.ID, timerAnswer))
	t.stop(stepTimer(p.ID, s.Step.ID, timerRetry))
	t.giveBack(p, i)
	if s.State == StepRunning { // given back before it was confirmed
		s.State = StepConfirmed
		s.Ended = t.now
		t.stop(stepTimer(p.ID, s.Step.ID, timerDeadline))
	}
	if p.Phase == Compensating && s.State != StepUndone {
		s.State = StepUndone
		s.Ended = t.now
	}
	if by >= 0 && by != i && p.steps[by].State == StepRunning {
		t.confirm(p, by)
		return
	}
	t.proceed(p)
}

// giveBack ends the restores of drain i that were under way when the plan was aborted:
// the drain is consumed, whoever did it.
func (t *turn) giveBack(p *plan, i int) {
	for k := range p.steps {
		s := &p.steps[k]
		_, restore := s.Step.Action.(isa.RestoreTraffic)
		if restore && s.drain == i && s.State == StepRunning && p.Phase == Compensating {
			s.State = StepConfirmed
			s.Ended = t.now
			s.Waiting = ""
		}
	}
}

// undoFailed tries an inverse again after a while, a bounded number of times.
func (t *turn) undoFailed(p *plan, i int, why string) {
	s := &p.steps[i]
	if !s.undoing || s.gaveUp {
		return
	}
	s.attempts++
	s.Waiting = fmt.Sprintf("attempt %d to undo it: %s", s.attempts, why)
	t.stop(stepTimer(p.ID, s.Step.ID, timerAnswer))
	if s.attempts >= maxAttempts {
		s.gaveUp = true
		lasting := fmt.Sprintf("step %s cannot be undone: %s", s.Step.ID, why)
		if p.Reason != "" {
			lasting = p.Reason + "; " + lasting
		}
		p.Reason = lasting
		t.abort(p, lasting)
		return
	}
	t.set(stepTimer(p.ID, s.Step.ID, timerRetry), time.Second<<(s.attempts-1))
}

func (t *turn) undoAgain(p *plan, i int) {
	s := &p.steps[i]
	if !s.undoing || s.gaveUp {
		return
	}
	if s.inForce {
		t.withdraw(p, i, s.removing, p.ramp(i))
		return
	}
	t.inverse(p, i)
}

// endUndo ends compensation: well, or frozen with a page if something is left.
func (t *turn) endUndo(p *plan) {
	t.emit(Unwatch{Plan: p.ID})
	for i := range p.steps {
		if p.steps[i].gaveUp {
			t.emit(Page{Plan: p.ID, Reason: p.Reason})
			t.finish(p, Frozen)
			return
		}
	}
	t.finish(p, Compensated)
}
