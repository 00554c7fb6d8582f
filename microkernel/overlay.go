package microkernel

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

func drainKey(a isa.Drain) mesh.OverlayKey {
	return mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: a.Target.Service}
}

// drainOverlay is what a drain comes to with the instances of the view.
func drainOverlay(a isa.Drain, view *View, policy *Policy) *mesh.DrainOverlay {
	out := new(mesh.DrainOverlay)
	fillDrain(out, &a, view, policy)
	return out
}

// fillDrain is drainOverlay with the instances appended to those of out, which has none.
func fillDrain(out *mesh.DrainOverlay, a *isa.Drain, view *View, policy *Policy) {
	out.Share, out.To, out.OnEmpty, out.Streams = a.Share, a.To, a.OnEmpty, a.Streams
	if out.Streams == "" {
		out.Streams = mesh.StreamsWait
	}
	s := view.Find(a.Target.Service)
	if s == nil {
		return
	}
	for i := range s.Instances {
		if a.Target.Selects(&s.Instances[i]) || planted("drain-of-one-more") && i == len(s.Instances)-1 {
			out.Instances = append(out.Instances, s.Instances[i].UID)
		}
	}
	slices.Sort(out.Instances)
	if a.OnEmpty == mesh.OnEmptyHold {
		out.Hold = policy.MaxHold
		if s.CallerDeadline > 0 {
			out.Hold = min(out.Hold, s.CallerDeadline)
		}
	}
}

func breakOverlay(a isa.CircuitBreak) *mesh.BreakOverlay {
	return &mesh.BreakOverlay{
		MaxRequests: a.MaxRequests, MaxConnections: a.MaxConnections, MaxPending: a.MaxPending,
		MaxRetries: a.MaxRetries, Consecutive5xx: a.Consecutive5xx,
	}
}

func (t *turn) startDrain(p *plan, i int, a isa.Drain) {
	drain := drainOverlay(a, &p.Present, &t.policy)
	p.steps[i].floor = a.To != "" || a.OnEmpty != mesh.OnEmptyNone
	t.startOverlay(p, i, mesh.Overlay{Key: drainKey(a), Drain: drain, Lease: orDefault(a.Lease, isa.DefaultLease)})
}

// startOverlay orders an overlay with the next generation.
func (t *turn) startOverlay(p *plan, i int, overlay mesh.Overlay) {
	s := &p.steps[i]
	t.generation++
	if planted("generation-outside-state") {
		t.generation = outside()
	}
	overlay.Plan, overlay.Step, overlay.Generation = string(p.ID), string(s.Step.ID), uint64(t.generation)
	s.overlay = overlay
	s.Generation = t.generation
	s.inForce = true
	s.leaseEnd = t.now.Add(overlay.Lease)
	s.Acked, s.Acks, s.Proof, s.Grade, s.term = 0, mesh.Acks{}, mesh.Proof{}, "", 0
	s.Waiting = "the ACK of every required proxy"
	t.emit(Apply{Plan: p.ID, Step: s.Step.ID, Overlay: overlay})
	t.set(stepTimer(p.ID, s.Step.ID, timerDeadline), applyDeadline(s.Step.Action))
	if overlay.Drain != nil {
		t.set(stepTimer(p.ID, s.Step.ID, timerLease), overlay.Lease/3)
	} else if !planted("limit-never-expires") {
		t.set(stepTimer(p.ID, s.Step.ID, timerExpire), overlay.Lease)
	}
}

func applyDeadline(a isa.Action) time.Duration {
	if drain, ok := a.(isa.Drain); ok {
		return orDefault(drain.Deadline, isa.DefaultDrainDeadline)
	}
	return answerIn
}

// applied notes that every required proxy ACKed; a drain is then to be proved.
func (t *turn) applied(ev Applied) {
	p, i := t.step(ev.Plan, ev.Step)
	if p == nil {
		return
	}
	s := &p.steps[i]
	if s.State != StepRunning || !s.inForce || s.undoing || ev.Generation != s.Generation || s.Acked != 0 {
		return
	}
	s.Acked = t.now
	s.Acks = ev.Acks
	if planted("ack-is-proof") {
		s.Grade, s.term, s.Proof.Generation = mesh.GradeA, t.term, uint64(s.Generation)
	}
	if s.overlay.Drain == nil || planted("ack-is-proof") {
		t.confirm(p, i)
		return
	}
	s.Waiting = "proof that the target is out of service"
	if p.Phase == Running {
		t.emit(Prove{Plan: p.ID, Step: s.Step.ID, Key: s.overlay.Key, Generation: s.Generation})
	}
}

// proved judges a proof. The gate opens with the first that suffices; one that comes
// later and does not suffice shuts it again for restarts that have not begun.
func (t *turn) proved(ev Proved) {
	p, i := t.step(ev.Plan, ev.Step)
	if p == nil {
		return
	}
	s := &p.steps[i]
	open := s.State == StepRunning || s.State == StepConfirmed
	if p.Phase != Running || !open || !s.inForce || s.undoing || s.Acked == 0 || s.overlay.Drain == nil ||
		ev.Proof.Key != s.overlay.Key || Generation(ev.Proof.Generation) != s.Generation {
		return
	}
	s.Proof = ev.Proof
	s.Grade = Grade(ev.Proof, s.Generation, t.policy.Settle)
	s.term = t.term
	s.Waiting = ""
	if !s.Grade.AtLeast(t.policy.LeastGrade) {
		s.Waiting = s.shut(t.policy)
	}
	switch {
	case ev.Proof.Lapsed:
		t.fail(p, i, isa.CodeLease, "the lease lapsed at a proxy")
	case s.Waiting == "" && s.State == StepRunning:
		t.confirm(p, i)
	default:
		t.advance(p)
	}
}

// shut says why the drain does not open the gate before a restart.
func (s *step) shut(policy Policy) string {
	if s.Acked == 0 || s.Proof.Generation == 0 {
		return "no proof that the target is out of service"
	}
	return shut(s.Proof, s.Generation, policy.Settle, policy.LeastGrade)
}

// renew extends the lease of a drain, a third of which is over. A pause grants no new
// lease, and a lease that is over ends the plan.
func (t *turn) renew(p *plan, i int) {
	s := &p.steps[i]
	if !s.inForce || s.undoing || p.Phase.Final() || p.lapsing(i) {
		return
	}
	if s.leaseEnd <= t.now {
		t.fail(p, i, isa.CodeLease, "the lease ran out")
		return
	}
	if t.frozen != "" || t.paused != "" || p.paused != "" {
		t.set(stepTimer(p.ID, s.Step.ID, timerLease), min(s.overlay.Lease/3, s.leaseEnd.Sub(t.now)))
		return
	}
	t.extend(p, i)
}

// extend grants the overlay of step i its lease anew.
func (t *turn) extend(p *plan, i int) {
	s := &p.steps[i]
	s.leaseEnd = t.now.Add(s.overlay.Lease)
	t.emit(Extend{Plan: p.ID, Key: s.overlay.Key, Generation: s.Generation, Lease: s.overlay.Lease})
	t.set(stepTimer(p.ID, s.Step.ID, timerLease), s.overlay.Lease/3)
}

// lapsing reports whether the drain of step i is left to the end of its lease.
func (p *plan) lapsing(i int) bool {
	for k := range p.steps {
		a, await := p.steps[k].Step.Action.(isa.Await)
		if await && a.Until == isa.AwaitLease && p.steps[k].drain == i && p.steps[k].State == StepRunning {
			return true
		}
	}
	return false
}

// startAwait leaves a drain open on purpose: until its lease ends, or until somebody
// aborts the plan, which gives the traffic back.
func (t *turn) startAwait(p *plan, i int, a isa.Await) {
	s := &p.steps[i]
	if s.drain < 0 {
		t.fail(p, i, isa.CodeUnknownStep, "there is no drain to await")
		return
	}
	d := &p.steps[s.drain]
	s.Waiting = "somebody to restore " + string(d.Step.ID)
	if a.Until == isa.AwaitLease {
		s.Waiting = "the end of the lease of " + string(d.Step.ID)
		t.stop(stepTimer(p.ID, d.Step.ID, timerLease))
		t.set(stepTimer(p.ID, d.Step.ID, timerExpire), d.leaseEnd.Sub(t.now))
	}
}

// expire withdraws an overlay whose lease nobody renews.
func (t *turn) expire(p *plan, i int) {
	s := &p.steps[i]
	if !s.inForce || s.undoing || p.Phase.Final() {
		return
	}
	by := s.Step.ID
	for k := range p.steps {
		if _, await := p.steps[k].Step.Action.(isa.Await); await && p.steps[k].drain == i {
			by = p.steps[k].Step.ID
		}
	}
	t.withdraw(p, i, by, 0)
}

// withdraw removes the overlay of step i, in the name of step by.
func (t *turn) withdraw(p *plan, i int, by isa.StepID, ramp time.Duration) {
	if i < 0 || !p.steps[i].inForce {
		if k := p.index(by); k >= 0 && k != i && p.steps[k].State == StepRunning {
			t.confirm(p, k) // nothing is left to be given back
		}
		return
	}
	s := &p.steps[i]
	s.undoing = true
	s.removing = by
	t.stop(stepTimer(p.ID, s.Step.ID, timerLease))
	t.stop(stepTimer(p.ID, s.Step.ID, timerExpire))
	t.emit(Withdraw{Plan: p.ID, Step: by, Key: s.overlay.Key, Generation: s.Generation, Ramp: ramp})
	if !planted("withdraw-unwatched") {
		t.set(stepTimer(p.ID, s.Step.ID, timerAnswer), ramp+answerIn/3)
	}
}

// withdrawn notes that an overlay is gone.
func (t *turn) withdrawn(ev Withdrawn) {
	p := t.edit(ev.Plan)
	if p == nil {
		return
	}
	i := slices.IndexFunc(p.steps, func(s step) bool {
		return s.inForce && s.undoing && s.removing == ev.Step && s.Generation == ev.Generation
	})
	if i < 0 {
		return
	}
	t.undone(p, i)
}
