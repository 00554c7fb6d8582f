package microkernel

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// How long the world is left alone before it is looked at again.
const (
	probeAgainIn = time.Second      // it has not answered, or a restart is under way
	strayAgainIn = 10 * time.Second // an overlay that nobody owns was to be withdrawn
)

// led begins a leader's term. What the leader before it had ordered may or may not
// have happened, so nothing is begun until the world has been looked at.
func (t *turn) led(ev Led) {
	if ev.Term <= t.term {
		t.freeze(fmt.Sprintf("term %d follows term %d: the journal is older than the leader", ev.Term, t.term))
		return
	}
	if t.term == 0 || !planted("term-not-taken") {
		t.term = ev.Term
	}
	if ev.Policy.Mode != "" {
		t.policy = ev.Policy
	}
	t.recovering = true
	t.stop(TimerID{Name: timerProbe})
	for _, at := range t.timers {
		t.emit(SetTimer{Timer: at.id, After: max(at.due.Sub(t.now), 0)})
	}
	t.probe()
}

func (t *turn) probe() {
	t.emit(Probe{})
	if !planted("probe-unwatched") {
		t.set(TimerID{Name: timerProbe}, probeAgainIn)
	}
}

// probeAgain looks at the world once more: it has not answered yet, or a restart of
// the leader before this one is still under way.
func (t *turn) probeAgain() {
	if !t.recovering && !t.orphaned() {
		return
	}
	t.probe()
}

// strayAgain looks whether what nobody owns is gone: nobody answers for its withdrawal.
func (t *turn) strayAgain() {
	if t.recovering {
		return // the look that is out tells
	}
	t.emit(Probe{})
	t.set(TimerID{Name: timerStray}, strayAgainIn)
}

// orphaned reports whether a plan waits for a restart that an earlier leader ordered.
func (t *turn) orphaned() bool {
	for _, p := range t.plans {
		for i := range p.steps {
			if p.Phase == Compensating && p.steps[i].orphan(t.term) {
				return true
			}
		}
	}
	return false
}

// orphan reports whether the step is a restart under way that an earlier leader
// ordered, so that nobody will answer for it.
func (s *step) orphan(term uint64) bool {
	_, restart := s.Step.Action.(isa.Restart)
	return restart && s.State == StepRunning && s.term != term
}

// probed tells what is in force. The first answer of a term gives every open plan its
// owner; later ones only tell how orphaned restarts went, and whether strays are gone.
func (t *turn) probed(ev Probed) {
	if t.recovering {
		t.takeOver(ev)
		return
	}
	t.foresee(ev.Overlays)
	t.withdrawStrays(ev.Overlays)
	for _, q := range slices.Clone(t.plans) {
		if q.Phase == Compensating {
			t.adopt(t.edit(q.ID), ev.Instances)
		}
	}
}

func (t *turn) takeOver(ev Probed) {
	t.recovering = false
	t.stop(TimerID{Name: timerProbe})
	t.foresee(ev.Overlays)
	for _, q := range slices.Clone(t.plans) {
		p := t.edit(q.ID)
		if p == nil {
			continue
		}
		switch p.Phase {
		case Queued:
			if p.holding {
				t.ask(p)
			}
		case Running:
			t.takeOverRunning(p, ev)
		case Verifying:
			t.takeOverVerifying(p)
		case Compensating, Frozen:
			t.takeOverCompensating(p, ev)
		}
	}
	t.withdrawStrays(ev.Overlays)
	if t.orphaned() {
		t.set(TimerID{Name: timerProbe}, probeAgainIn)
	}
}

// foresee freezes the kernel if the world knows of changes that the journal does not:
// an older copy of the journal was put back.
func (t *turn) foresee(overlays []mesh.Overlay) {
	for _, o := range overlays {
		t.outrun(o)
		if g := Generation(o.Generation); g > t.generation {
			t.freeze(fmt.Sprintf("the mesh has generation %d of %s %s, the journal only knows %d: it is older than the world",
				g, o.Key.Kind, o.Key.Callee, t.generation))
			t.generation = g
		}
	}
}

// outrun gives what is in force under the key of an open plan's overlay to that plan, if it
// is of a later generation than the journal knows: to withdraw the known one would leave it.
func (t *turn) outrun(o mesh.Overlay) {
	if planted("lost-generation-left") {
		return
	}
	for _, q := range t.plans {
		i := slices.IndexFunc(q.steps, func(s step) bool { return s.inForce && s.overlay.Key == o.Key })
		if i < 0 || q.steps[i].overlay.Generation >= o.Generation {
			continue
		}
		s := &t.edit(q.ID).steps[i]
		s.Generation, s.overlay.Generation = Generation(o.Generation), o.Generation
	}
}

// freeze begins nothing new until an admin resumes; open plans are undone.
func (t *turn) freeze(why string) {
	if t.frozen == "" {
		t.frozen = why
		t.emit(Page{Reason: why})
	}
	for _, q := range slices.Clone(t.plans) {
		if q.Phase == Running && !t.recovering {
			t.abort(t.edit(q.ID), "the kernel is frozen: "+why)
		}
	}
}

// takeOverRunning goes on with a plan in which a restart was ordered and every overlay
// is still in force, and undoes every other one. Going on means that each drain is
// applied and proved anew, by this leader, before any restart is ordered (again).
func (t *turn) takeOverRunning(p *plan, ev Probed) {
	p.asked = false // of the leader before
	switch {
	case t.frozen != "":
		t.abort(p, "the kernel is frozen: "+t.frozen)
	case !p.begunRestart():
		t.abort(p, "the leader changed before anything was restarted")
	case p.lost(ev.Overlays) != "":
		t.abort(p, "the leader changed, and "+p.lost(ev.Overlays))
	default:
		t.goOn(p)
		return
	}
	if p.Phase == Compensating {
		t.adopt(p, ev.Instances)
	}
}

// begunRestart reports whether any restart was ordered.
func (p *plan) begunRestart() bool {
	return slices.ContainsFunc(p.steps, func(s step) bool { return s.ordered })
}

// lost says which overlay of the plan is not in force any more, "" if none.
func (p *plan) lost(overlays []mesh.Overlay) string {
	for i := range p.steps {
		s := &p.steps[i]
		if !s.inForce || s.undoing {
			continue
		}
		if !slices.ContainsFunc(overlays, func(o mesh.Overlay) bool {
			return o.Key == s.overlay.Key && o.Plan == string(p.ID) && o.Step == string(s.Step.ID)
		}) {
			return fmt.Sprintf("the overlay of step %s is gone", s.Step.ID)
		}
	}
	return ""
}

// goOn continues a plan under a new leader.
func (t *turn) goOn(p *plan) {
	t.emit(watch(p, disturbed(p), 0))
	for i := range p.steps {
		s := &p.steps[i]
		switch a := s.Step.Action.(type) {
		case isa.Restart:
			if s.State == StepConfirmed && planted("restarts-again") {
				s.State, s.ordered = StepWaiting, false
			}
			if s.State == StepRunning {
				s.State = StepWaiting // the same incarnation is ordered again, once it is proved drained
				t.stop(stepTimer(p.ID, s.Step.ID, timerDeadline))
			}
		case isa.Scale:
			if s.State == StepRunning {
				t.startScale(p, i, a)
			}
		case isa.RollbackConfig:
			if s.State == StepRunning {
				t.startRollback(p, i, a)
			}
		}
		switch {
		case s.inForce && s.undoing:
			t.withdraw(p, i, s.removing, p.ramp(i))
		case s.inForce && (s.State == StepRunning || p.restartsIn(i) && !planted("proof-outlives-leader")):
			s.State = StepRunning
			t.startOverlay(p, i, s.overlay)
		}
	}
	t.advance(p)
}

// restartsIn reports whether a restart within the drain of step i is still to come.
func (p *plan) restartsIn(i int) bool {
	for k := range p.steps {
		_, restart := p.steps[k].Step.Action.(isa.Restart)
		if restart && p.steps[k].drain == i && p.steps[k].State != StepConfirmed {
			return true
		}
	}
	return false
}

// takeOverVerifying ends what is still in force, and watches anew.
func (t *turn) takeOverVerifying(p *plan) {
	for i := range p.steps {
		s := &p.steps[i]
		if s.inForce {
			s.undoing, s.gaveUp = false, false
			t.withdraw(p, i, s.Step.ID, 0)
		}
	}
	if p.Harm.Label == "" {
		t.verify(p)
	}
}

// takeOverCompensating orders every inverse again that was not answered. What a frozen
// plan left in force is withdrawn too, though the plan stays frozen.
func (t *turn) takeOverCompensating(p *plan, ev Probed) {
	for _, i := range p.begun() {
		s := &p.steps[i]
		if !s.undoing {
			continue
		}
		switch {
		case s.inForce && p.Phase == Frozen:
			t.emit(Withdraw{Plan: p.ID, Step: s.removing, Key: s.overlay.Key, Generation: s.Generation})
		case s.gaveUp:
		case s.inForce:
			t.withdraw(p, i, s.removing, p.ramp(i))
		default:
			t.inverse(p, i)
		}
	}
	if p.Phase == Compensating {
		t.adopt(p, ev.Instances)
	}
}

// adopt decides restarts that an earlier leader ordered, from what the registry shows.
func (t *turn) adopt(p *plan, instances []mesh.Instance) {
	for i := range p.steps {
		s := &p.steps[i]
		if !s.orphan(t.term) {
			continue
		}
		k := slices.IndexFunc(instances, func(in mesh.Instance) bool { return in.UID == s.Old.UID })
		switch {
		case k < 0:
			t.giveUpRestart(p, i, "the instance is gone")
		case instances[k].State != mesh.Ready:
			// under way, or never to come: its deadline decides
		case instances[k].Incarnation > s.Old.Incarnation:
			s.New = instances[k].Ref
			s.State = StepConfirmed
			s.Ended = t.now
			t.stop(stepTimer(p.ID, s.Step.ID, timerDeadline))
		default:
			t.giveUpRestart(p, i, "the leader changed before the restart was carried out")
		}
	}
	t.undo(p)
}

func (t *turn) giveUpRestart(p *plan, i int, why string) {
	s := &p.steps[i]
	s.State = StepFailed
	s.Ended = t.now
	s.Waiting = why
	t.stop(stepTimer(p.ID, s.Step.ID, timerDeadline))
}

// withdrawStrays removes overlays that no open plan owns, and looks again later whether
// that was done: a plan that is not known has no step that could wait for it.
func (t *turn) withdrawStrays(overlays []mesh.Overlay) {
	t.stop(TimerID{Name: timerStray})
	stray := false
	for _, o := range overlays {
		owned := slices.ContainsFunc(t.plans, func(p *plan) bool {
			return slices.ContainsFunc(p.steps, func(s step) bool { return s.inForce && s.overlay.Key == o.Key })
		})
		if !owned && !planted("strays-left") {
			stray = true
			t.emit(Withdraw{Plan: PlanID(o.Plan), Step: isa.StepID(o.Step), Key: o.Key, Generation: Generation(o.Generation)})
		}
	}
	if stray && !planted("stray-tried-once") {
		t.set(TimerID{Name: timerStray}, strayAgainIn)
	}
}
