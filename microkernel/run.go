package microkernel

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// answerIn is how long an effect without a deadline of its own may take.
const answerIn = 30 * time.Second

// begin starts to run a plan that holds its locks; order has just checked what it expands to.
func (t *turn) begin(p *plan, order *isa.Checker) {
	p.Phase = Running
	p.Waiting = ""
	p.steps = make([]step, len(p.Expanded.Steps))
	for i := range p.steps {
		s := &p.steps[i]
		s.Step = p.Expanded.Steps[i]
		s.State = StepWaiting
		s.after = append([]int(nil), order.Follows(i)...)
		s.drain = -1
		switch a := s.Step.Action.(type) {
		case isa.Restart:
			s.drain = p.expandedAt(a.Drain)
		case isa.RestoreTraffic:
			s.drain = p.expandedAt(a.Drain)
		case isa.Await:
			s.drain = p.expandedAt(a.Drain)
		}
	}
	t.stop(planTimer(p.ID, timerTTL))
	t.set(planTimer(p.ID, timerDeadline), orDefault(p.Expanded.Deadline, isa.DefaultPlanDeadline))
	t.emit(watch(p, disturbed(p), 0))
	t.advance(p)
}

// expandedAt returns the index of the expanded step with id, -1 if there is none.
func (p *plan) expandedAt(id isa.StepID) int {
	return slices.IndexFunc(p.Expanded.Steps, func(s isa.Step) bool { return s.ID == id })
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// advance starts every step whose predecessors are confirmed and whose gate is open,
// and goes on to verification after the last.
func (t *turn) advance(p *plan) {
	if p.Phase != Running {
		return
	}
	confirmed := 0
	for i := range p.steps {
		switch p.steps[i].State {
		case StepConfirmed:
			confirmed++
		case StepWaiting:
			t.tryStart(p, i)
		}
		if p.Phase != Running {
			return // a step that could not be begun aborted the plan
		}
	}
	p.Waiting = waitingFor(p)
	if confirmed == len(p.steps) {
		t.verify(p)
	}
}

// waitingFor says what the plan waits for now: what its first open step waits for.
func waitingFor(p *plan) string {
	for i := range p.steps {
		if p.steps[i].Waiting != "" {
			return string(p.steps[i].Step.ID) + ": " + p.steps[i].Waiting
		}
	}
	return ""
}

func (t *turn) tryStart(p *plan, i int) {
	s := &p.steps[i]
	for _, before := range s.after {
		if p.steps[before].State != StepConfirmed {
			return
		}
	}
	if s.Waiting = t.gate(p, i); s.Waiting != "" || !t.present(p, i) {
		return
	}
	s.State = StepRunning
	if s.Started == 0 {
		s.Started = t.now
	}
	switch a := s.Step.Action.(type) {
	case isa.Drain:
		t.startDrain(p, i, a)
	case isa.Restart:
		t.startRestart(p, i, a)
	case isa.RestoreTraffic:
		s.Waiting = "the ACK of every proxy that the drain is gone"
		t.withdraw(p, s.drain, s.Step.ID, a.Ramp)
	case isa.CircuitBreak:
		t.startOverlay(p, i, mesh.Overlay{
			Key:   mesh.OverlayKey{Kind: mesh.OverlayBreak, Callee: a.Target.Service, Caller: a.Caller},
			Break: breakOverlay(a), Lease: orDefault(a.Lease, isa.DefaultLease),
		})
	case isa.RateLimit:
		t.startOverlay(p, i, mesh.Overlay{
			Key:   mesh.OverlayKey{Kind: mesh.OverlayLimit, Callee: a.Target.Service, Caller: a.Caller},
			Limit: &mesh.LimitOverlay{PerSecond: a.PerSecond, Burst: a.Burst}, Lease: orDefault(a.Lease, isa.DefaultLease),
		})
	case isa.Scale:
		t.startScale(p, i, a)
	case isa.RollbackConfig:
		t.startRollback(p, i, a)
	case isa.Await:
		t.startAwait(p, i, a)
	default:
		t.fail(p, i, isa.CodeUnsupported, "this kernel cannot do that")
	}
}

// gate says why step i may not begin now, "" if it may. Giving traffic back is always
// allowed.
func (t *turn) gate(p *plan, i int) string {
	s := &p.steps[i]
	if _, restore := s.Step.Action.(isa.RestoreTraffic); restore {
		return ""
	}
	switch {
	case t.Recovering() && !planted("acts-while-recovering"):
		return "a new leader is taking over"
	case t.frozen != "":
		return "the kernel is frozen: " + t.frozen
	case t.paused != "":
		return "everything is paused: " + t.paused
	case p.paused != "":
		return "paused: " + p.paused
	}
	switch a := s.Step.Action.(type) {
	case isa.Drain:
		return p.drainGate(a)
	case isa.Restart:
		return t.restartGate(p, i, a)
	}
	return ""
}

// drainGate keeps an overlay key to one owner. The capacity floor is held by recheck.
func (p *plan) drainGate(a isa.Drain) string {
	for i := range p.steps {
		s := &p.steps[i]
		if s.inForce && s.overlay.Key == drainKey(a) {
			return fmt.Sprintf("drain %s of the same service is still open", s.Step.ID)
		}
	}
	return ""
}

// restartGate is the gate before every restart: the borrowed drain is in force and
// proved by this leader to the grade that policy demands, and its lease outlasts the
// restart's deadline.
func (t *turn) restartGate(p *plan, i int, a isa.Restart) string {
	s := &p.steps[i]
	if s.drain < 0 {
		if v := p.View.Find(a.Target.Service); v == nil || v.Takes {
			return "no drain takes its traffic off"
		}
		return ""
	}
	d := &p.steps[s.drain]
	switch {
	case !d.inForce || d.undoing || d.State != StepConfirmed:
		return fmt.Sprintf("drain %s is not in force", d.Step.ID)
	case d.term != t.term && !planted("proof-outlives-leader") || !d.Grade.AtLeast(t.policy.LeastGrade):
		return d.shut(t.policy)
	case d.overlay.Drain == nil || !slices.Contains(d.overlay.Drain.Instances, a.Target.UID):
		return fmt.Sprintf("drain %s is not about %s", d.Step.ID, a.Target.UID)
	case d.overlay.Lease < restartDeadline(a) || d.leaseEnd <= t.now:
		return fmt.Sprintf("the lease of drain %s does not outlast the restart", d.Step.ID)
	}
	return ""
}

func restartDeadline(a isa.Restart) time.Duration {
	return orDefault(a.Deadline, isa.DefaultRestartDeadline)
}

// startRestart orders the reboot of one incarnation. After a change of leader it is
// the same order again: an incarnation is restarted at most once.
func (t *turn) startRestart(p *plan, i int, a isa.Restart) {
	s := &p.steps[i]
	if !s.ordered {
		ref, known := p.incarnation(a.Target.UID)
		if !known {
			t.fail(p, i, isa.CodeUnknownTarget, fmt.Sprintf("instance %s is gone", a.Target.UID))
			return
		}
		s.Old = ref
		s.ordered = true
	}
	deadline := restartDeadline(a)
	if s.drain >= 0 {
		d := &p.steps[s.drain]
		s.Proof, s.Grade, s.Acks, s.Generation = d.Proof, d.Grade, d.Acks, d.Generation
		if d.leaseEnd.Sub(t.now) < deadline {
			t.extend(p, s.drain)
		}
	}
	s.term = t.term
	s.Waiting = "the instance to be ready again"
	t.emit(Reboot{Plan: p.ID, Step: s.Step.ID, Ref: s.Old, Mode: a.Mode, Deadline: deadline})
	t.set(stepTimer(p.ID, s.Step.ID, timerDeadline), deadline)
}

// incarnation returns the newest incarnation of uid that the plan knows of.
func (p *plan) incarnation(uid mesh.UID) (mesh.Ref, bool) {
	ref, known := mesh.Ref{}, false
	for i := range p.View.Services {
		if in := instance(&p.View.Services[i], uid); in != nil {
			ref, known = in.Ref, true
		}
	}
	for i := range p.steps {
		if n := p.steps[i].New; n.UID == uid && n.Incarnation > ref.Incarnation {
			ref = n
		}
	}
	return ref, known
}

// restarted confirms a restart: the instance is ready as a later incarnation.
func (t *turn) restarted(ev Restarted) {
	p, i := t.step(ev.Plan, ev.Step)
	if p == nil {
		return
	}
	s := &p.steps[i]
	if s.State != StepRunning || !s.ordered || ev.Old != s.Old || ev.New == ev.Old || ev.New.Service != ev.Old.Service {
		return
	}
	if !planted("restart-unrecorded") {
		s.New = ev.New
	}
	t.confirm(p, i)
}

// startRollback orders a revision, and records the one that compensation goes back to.
func (t *turn) startRollback(p *plan, i int, a isa.RollbackConfig) {
	s := &p.steps[i]
	if o := p.View.Object(a.Object); o != nil {
		s.revision = o.Current
	}
	t.emit(SetRevision{Plan: p.ID, Step: s.Step.ID, Object: a.Object, Revision: a.Revision})
	t.set(stepTimer(p.ID, s.Step.ID, timerDeadline), answerIn)
}

// rolledBack confirms a RollbackConfig, or that it was undone.
func (t *turn) rolledBack(ev RolledBack) {
	p, i := t.step(ev.Plan, ev.Step)
	if p == nil {
		return
	}
	s := &p.steps[i]
	a, ok := s.Step.Action.(isa.RollbackConfig)
	switch {
	case !ok:
	case s.undoing && ev.Revision == s.revision:
		t.undone(p, i)
	case s.State == StepRunning && !s.undoing && ev.Revision == a.Revision:
		t.confirm(p, i)
	}
}

func (t *turn) startScale(p *plan, i int, a isa.Scale) {
	s := &p.steps[i]
	if v := p.View.Find(a.Target.Service); v != nil {
		s.former = v.Replicas
		if planted("former-off-by-one") {
			s.former++
		}
	}
	t.emit(SetReplicas{Plan: p.ID, Step: s.Step.ID, Service: a.Target.Service, Replicas: a.Replicas})
	t.set(stepTimer(p.ID, s.Step.ID, timerDeadline), answerIn)
}

// scaled confirms a Scale, or that it was undone.
func (t *turn) scaled(ev Scaled) {
	p, i := t.step(ev.Plan, ev.Step)
	if p == nil {
		return
	}
	s := &p.steps[i]
	a, ok := s.Step.Action.(isa.Scale)
	switch {
	case !ok:
	case s.undoing && ev.Replicas == s.former:
		t.undone(p, i)
	case s.State == StepRunning && !s.undoing && ev.Replicas == a.Replicas:
		t.confirm(p, i)
	}
}

// step returns the open plan and the index of one of its steps, nil if there is none.
func (t *turn) step(id PlanID, step isa.StepID) (*plan, int) {
	p := t.edit(id)
	if p == nil {
		return nil, -1
	}
	i := p.index(step)
	if i < 0 {
		return nil, -1
	}
	return p, i
}

// confirm ends a step well.
func (t *turn) confirm(p *plan, i int) {
	s := &p.steps[i]
	s.State = StepConfirmed
	s.Ended = t.now
	s.Waiting = ""
	t.stop(stepTimer(p.ID, s.Step.ID, timerDeadline))
	t.proceed(p)
}

// proceed goes on with a plan of any phase after something about it has changed.
func (t *turn) proceed(p *plan) {
	switch p.Phase {
	case Running:
		t.advance(p)
	case Verifying:
		t.conclude(p)
	case Compensating:
		t.undo(p)
	}
}

// stepDeadline handles a step that was not confirmed in time.
func (t *turn) stepDeadline(p *plan, i int) {
	s := &p.steps[i]
	if s.State != StepRunning {
		return
	}
	why := "not done within its deadline"
	if s.Waiting != "" {
		why += ": " + s.Waiting
	}
	t.fail(p, i, "", why)
}

// fail ends a step badly, and with it the plan.
func (t *turn) fail(p *plan, i int, code isa.Code, why string) {
	s := &p.steps[i]
	s.State = StepFailed
	s.foreign = code == isa.CodeForeignOwner
	s.Ended = t.now
	s.Waiting = why
	t.stop(stepTimer(p.ID, s.Step.ID, timerDeadline))
	reason := fmt.Sprintf("step %s: %s", s.Step.ID, why)
	if code != "" {
		reason = fmt.Sprintf("step %s: %s: %s", s.Step.ID, code, why)
	}
	if _, restart := s.Step.Action.(isa.Restart); restart && s.ordered {
		t.emit(Page{Plan: p.ID, Reason: reason})
	}
	t.abort(p, reason)
}

// failed handles an effect that cannot be achieved.
func (t *turn) failed(ev Failed) {
	p := t.edit(ev.Plan)
	if p == nil || p.Phase.Final() {
		return
	}
	i := p.index(ev.Step)
	if i < 0 {
		if p.holding {
			t.abort(p, joinCode(ev.Code, ev.Reason))
		}
		return
	}
	if k := p.inverse(i); k >= 0 {
		t.undoFailed(p, k, joinCode(ev.Code, ev.Reason))
		return
	}
	s := &p.steps[i]
	if s.State == StepRunning || s.inForce && s.State == StepConfirmed && p.Phase != Compensating {
		t.fail(p, i, ev.Code, ev.Reason)
	}
}

func joinCode(code isa.Code, reason string) string {
	if code == "" {
		return reason
	}
	return string(code) + ": " + reason
}

// deadline aborts a plan that takes too long. One that only awaits is open on purpose.
func (t *turn) deadline(p *plan) {
	if p.Phase != Running || p.awaits() {
		return
	}
	t.abort(p, "the plan's deadline ran out")
}

// awaits reports whether every step that is not confirmed is an Await under way.
func (p *plan) awaits() bool {
	for i := range p.steps {
		_, await := p.steps[i].Step.Action.(isa.Await)
		if p.steps[i].State != StepConfirmed && (!await || p.steps[i].State != StepRunning) {
			return false
		}
	}
	return true
}
