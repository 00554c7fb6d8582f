package fakeplane

import (
	"context"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
)

// Verdicts are by the program's id: "hold-..." is held, "reject-..." is rejected,
// "throttle-..." is throttled, all others are admitted.

// Submit implements server.Proposals.
func (p *Plane) Submit(
	_ context.Context, by microkernel.Principal, program isa.Program,
) (microkernel.Verdict, microkernel.Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.frozen != "" {
		return microkernel.Verdict{}, microkernel.Record{}, &driver.Refused{Code: isa.CodeFrozen, Reason: p.frozen}
	}
	if old := p.find(microkernel.PlanID(program.ID)); old != nil {
		verdict := old.Verdict
		if old.Hash == isa.Hash(program, by.Name) {
			verdict.Outcome = microkernel.Replayed
			return verdict, *old, nil
		}
		return p.verdict("reject-id", isa.CodeIDConflict), microkernel.Record{}, nil
	}
	record := p.record(by, program)
	if record.Verdict.Outcome == microkernel.Throttle {
		return record.Verdict, microkernel.Record{}, nil
	}
	p.plans = append(p.plans, record)
	for p.Auto && !record.Phase.Final() && p.advance(record) {
	}
	return record.Verdict, *record, nil
}

// Evaluate implements server.Proposals.
func (p *Plane) Evaluate(by microkernel.Principal, program isa.Program) (microkernel.Verdict, isa.Program, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	record := p.record(by, program)
	return record.Verdict, record.Expanded, nil
}

func (p *Plane) verdict(id string, code isa.Code) microkernel.Verdict {
	verdict := microkernel.Verdict{Outcome: microkernel.Admit, Epoch: p.snapshot.Epoch()}
	fault := isa.Fault{Code: code, Path: "steps[0]", Reason: "the fake says so", Remedy: "use another id"}
	switch {
	case len(id) > 5 && id[:5] == "hold-":
		verdict.Outcome, fault.Code = microkernel.Hold, isa.CodeTooSlow
	case len(id) > 7 && id[:7] == "reject-":
		verdict.Outcome = microkernel.Reject
		if code == "" {
			fault.Code = isa.CodeBlastRadius
		}
	case len(id) > 9 && id[:9] == "throttle-":
		verdict.Outcome, fault.Code, verdict.RetryAfter = microkernel.Throttle, isa.CodeRate, 2*time.Second
	default:
		return verdict
	}
	verdict.Code, verdict.Faults = fault.Code, []isa.Fault{fault}
	return verdict
}

func (p *Plane) record(by microkernel.Principal, program isa.Program) *microkernel.Record {
	expanded, _ := isa.Expand(program, p.env())
	record := &microkernel.Record{
		ID: microkernel.PlanID(program.ID), Proposer: by, Hash: isa.Hash(program, by.Name), Written: program,
		Expanded: expanded, Verdict: p.verdict(program.ID, ""), Phase: microkernel.Running, Proposed: p.instant(),
	}
	for i := range p.world.Services {
		record.View.Services = append(record.View.Services, microkernel.ServiceView{ServiceState: p.world.Services[i]})
	}
	for _, step := range expanded.Steps {
		record.Steps = append(record.Steps, microkernel.StepRecord{Step: step, State: microkernel.StepWaiting})
		if restart, ok := step.Action.(isa.Restart); ok && !slices.Contains(record.RestartSet, restart.Target.Service) {
			record.RestartSet = append(record.RestartSet, restart.Target.Service)
		}
	}
	slices.Sort(record.RestartSet)
	record.BlastRadius = p.snapshot.Blast(record.RestartSet)
	switch record.Verdict.Outcome {
	case microkernel.Hold:
		record.Phase, record.Waiting = microkernel.Held, "approval by another principal"
	case microkernel.Reject:
		record.Phase, record.Reason, record.Ended = microkernel.Refused, "refused", p.instant()
	}
	return record
}

func (p *Plane) env() *isa.Env {
	env := &isa.Env{GraphSize: len(p.world.Services)}
	for i := range p.world.Services {
		env.Services = append(env.Services, isa.ServiceFacts{ServiceState: p.world.Services[i], Takes: true})
	}
	return env
}

func (p *Plane) instant() microkernel.Instant { return microkernel.Instant(p.now.UnixNano()) }

func (p *Plane) find(id microkernel.PlanID) *microkernel.Record {
	for _, record := range p.plans {
		if record.ID == id {
			return record
		}
	}
	return nil
}

// Advance moves the plan by one change, a quarter of a second later, and reports
// whether there was one to make.
func (p *Plane) Advance(id microkernel.PlanID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	record := p.find(id)
	return record != nil && p.advance(record)
}

func (p *Plane) advance(record *microkernel.Record) bool {
	if record.Phase != microkernel.Running && record.Phase != microkernel.Verifying {
		return false
	}
	p.now = p.now.Add(250 * time.Millisecond)
	defer p.publish(record)
	for i := range record.Steps {
		step := &record.Steps[i]
		if step.State == microkernel.StepConfirmed {
			continue
		}
		if _, awaits := step.Step.Action.(isa.Await); awaits {
			step.State, step.Started, step.Waiting = microkernel.StepRunning, p.instant(), "somebody to restore the drain"
			record.Waiting = step.Waiting
			return false
		}
		p.step(record, step)
		return true
	}
	if record.Phase == microkernel.Running {
		record.Phase, record.Waiting = microkernel.Verifying, "10 s of every objective kept"
		return true
	}
	record.Phase, record.Waiting, record.Ended = microkernel.Committed, "", p.instant()
	record.Harm = microkernel.HarmVerdict{Label: microkernel.Clean, Evidence: "2,000 requests, errors 0 %, p99 21 ms"}
	return true
}

// step takes one step from waiting to running to confirmed; drains get more ACKs first.
func (p *Plane) step(record *microkernel.Record, step *microkernel.StepRecord) {
	drain := step.Step.Action.Kind() == isa.KindDrain
	traffic := drain || step.Step.Action.Kind() == isa.KindRestoreTraffic
	switch {
	case step.State == microkernel.StepWaiting:
		step.State, step.Started = microkernel.StepRunning, p.instant()
		if traffic {
			step.Acks = mesh.Acks{Required: 7, Acked: 4}
			step.Waiting = "3 of 7 proxies have not ACKed: ingress, hotel.frontend-0, hotel.frontend-1"
		} else {
			step.Waiting = "the new incarnation is not ready yet"
		}
		record.Waiting = string(step.Step.ID) + ": " + step.Waiting
	case drain && step.Acked == 0:
		step.Acks.Acked, step.Acked = 7, p.instant()
		step.Proof = mesh.Proof{Required: 7, Acked: 7, Reported: 6, InFlight: 3}
		step.Waiting = "3 requests are in flight, 6 of 7 proxies have reported"
		record.Waiting = string(step.Step.ID) + ": " + step.Waiting
	default:
		step.State, step.Ended, step.Waiting, record.Waiting = microkernel.StepConfirmed, p.instant(), "", ""
		if traffic {
			step.Acks.Acked, step.Acked = 7, p.instant()
		}
		if drain {
			step.Grade = mesh.GradeA
			step.Proof = mesh.Proof{Required: 7, Acked: 7, Reported: 7, Quiet: 50 * time.Millisecond}
		}
	}
}

func (p *Plane) overlays() []mesh.Overlay {
	var out []mesh.Overlay
	for _, record := range p.plans {
		if record.Phase == microkernel.Compensated {
			continue
		}
		restored := map[isa.StepID]bool{}
		for _, step := range record.Steps {
			if restore, ok := step.Step.Action.(isa.RestoreTraffic); ok && step.State == microkernel.StepConfirmed {
				restored[restore.Drain] = true
			}
		}
		for _, step := range record.Steps {
			drain, ok := step.Step.Action.(isa.Drain)
			if ok && step.State != microkernel.StepWaiting && !restored[step.Step.ID] {
				out = append(out, mesh.Overlay{
					Key:   mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: drain.Target.Service},
					Drain: &mesh.DrainOverlay{Share: 100, OnEmpty: drain.OnEmpty},
				})
			}
		}
	}
	return out
}

// Refuse implements server.Proposals.
func (p *Plane) Refuse(
	_ context.Context, _ microkernel.Principal, _ []byte, faults []isa.Fault,
) (microkernel.Verdict, error) {
	return microkernel.Verdict{Outcome: microkernel.Reject, Code: faults[0].Code, Faults: faults}, nil
}

// Approve implements server.Control.
func (p *Plane) Approve(
	_ context.Context, by microkernel.Principal, id microkernel.PlanID,
) (microkernel.Verdict, microkernel.Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	record := p.find(id)
	if record.Proposer == by {
		verdict := microkernel.Verdict{Outcome: microkernel.Reject, Code: isa.CodeAuthz}
		return verdict, *record, nil
	}
	if record.Phase == microkernel.Held {
		record.Phase, record.Waiting, record.Approver = microkernel.Running, "", by
		p.publish(record)
	}
	return record.Verdict, *record, nil
}

// Abort implements server.Control: what was begun is undone at once.
func (p *Plane) Abort(
	_ context.Context, _ microkernel.Principal, id microkernel.PlanID, reason string,
) (microkernel.Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	record := p.find(id)
	for i := range record.Steps {
		if record.Steps[i].State != microkernel.StepWaiting {
			record.Steps[i].State, record.Steps[i].Waiting = microkernel.StepUndone, ""
		}
	}
	record.Phase, record.Reason, record.Ended, record.Waiting = microkernel.Compensated, reason, p.instant(), ""
	p.publish(record)
	return *record, nil
}

// Pause implements server.Control.
func (p *Plane) Pause(_ context.Context, _ microkernel.Principal, _ microkernel.PlanID, reason string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = "paused: " + reason
	return nil
}

// Resume implements server.Control.
func (p *Plane) Resume(context.Context, microkernel.Principal, microkernel.PlanID) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.paused = ""
	return nil
}

// Record implements server.Records.
func (p *Plane) Record(id microkernel.PlanID) (microkernel.Record, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if record := p.find(id); record != nil {
		return copied(record), true
	}
	return microkernel.Record{}, false
}

// Records implements server.Records.
func (p *Plane) Records() []microkernel.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []microkernel.Record
	for _, record := range slices.Backward(p.plans) {
		out = append(out, copied(record))
	}
	return out
}

func copied(record *microkernel.Record) microkernel.Record {
	out := *record
	out.Steps = slices.Clone(record.Steps)
	return out
}

// Status implements server.Records.
func (p *Plane) Status() driver.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	status := driver.Status{
		Mode: microkernel.Enforce, Term: 3, Paused: p.paused, Frozen: p.frozen, Started: p.Start.Add(-10 * time.Minute),
	}
	for _, record := range p.plans {
		if !record.Phase.Final() {
			status.Open++
		}
	}
	return status
}

// Watch implements server.Records. Every record is sent: a slow reader would block, so
// the channel holds more than any test sends.
func (p *Plane) Watch(id microkernel.PlanID) (<-chan microkernel.Record, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := make(chan microkernel.Record, 1024)
	record := p.find(id)
	if record == nil {
		close(c)
		return c, func() {}
	}
	c <- copied(record)
	if record.Phase.Final() {
		close(c)
		return c, func() {}
	}
	p.watches[id] = append(p.watches[id], c)
	return c, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if i := slices.Index(p.watches[id], c); i >= 0 {
			p.watches[id] = slices.Delete(p.watches[id], i, i+1)
			close(c)
		}
	}
}

func (p *Plane) publish(record *microkernel.Record) {
	for _, c := range p.watches[record.ID] {
		c <- copied(record)
		if record.Phase.Final() {
			close(c)
		}
	}
	if record.Phase.Final() {
		delete(p.watches, record.ID)
	}
}
