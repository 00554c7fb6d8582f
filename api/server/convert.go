package server

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// planOut translates a record.
func planOut(record microkernel.Record) *sluicev1.Plan {
	plan := &sluicev1.Plan{
		Id: string(record.ID), Proposer: record.Proposer.Name, Approver: record.Approver.Name,
		Phase: string(record.Phase), Verdict: string(record.Verdict.Outcome), Code: string(record.Verdict.Code),
		Faults: faultsOut(record.Verdict.Faults), Program: spell(record.Expanded),
		Proposed: instantOut(record.Proposed), Ended: instantOut(record.Ended),
		Harm: string(record.Harm.Label), HarmEvidence: harmOut(record.Harm), Reason: record.Reason,
		RestartSet: servicesOut(record.RestartSet), BlastRadius: servicesOut(record.BlastRadius),
		Hash: record.Hash, Epoch: record.Verdict.Epoch, Waiting: record.Waiting,
	}
	targets := newTargets(&record)
	for i := range record.Steps {
		plan.Steps = append(plan.Steps, stepOut(&record.Steps[i], targets))
	}
	return plan
}

func harmOut(verdict microkernel.HarmVerdict) string {
	if verdict.Service == "" {
		return verdict.Evidence
	}
	return string(verdict.Service) + ": " + verdict.Evidence
}

func stepOut(record *microkernel.StepRecord, targets targets) *sluicev1.PlanStep {
	step := &sluicev1.PlanStep{
		Id: string(record.Step.ID), State: string(record.State),
		Started: instantOut(record.Started), Acked: instantOut(record.Acked), Ended: instantOut(record.Ended),
		Acks:           int32(max(record.Acks.Acked, record.Proof.Acked)),
		Required:       int32(max(record.Acks.Required, record.Proof.Required)),
		InFlightAtGate: int32(record.Proof.InFlight), ProofGrade: string(record.Grade),
		Cut: int32(record.Proof.Cut), Waiting: record.Waiting,
	}
	if record.Step.Action != nil {
		step.Action = string(record.Step.Action.Kind())
		step.Target = targets.of(record.Step.Action)
	}
	return step
}

// targets names what steps act on, with instances by name where the view knows them.
type targets struct {
	drains map[isa.StepID]isa.Drain
	names  map[mesh.UID]string
}

func newTargets(record *microkernel.Record) targets {
	t := targets{drains: map[isa.StepID]isa.Drain{}, names: map[mesh.UID]string{}}
	for i := range record.Steps {
		if drain, ok := record.Steps[i].Step.Action.(isa.Drain); ok {
			t.drains[record.Steps[i].Step.ID] = drain
		}
	}
	for i := range record.View.Services {
		for j := range record.View.Services[i].Instances {
			instance := &record.View.Services[i].Instances[j]
			t.names[instance.UID] = instance.Name
		}
	}
	return t
}

// of names what action acts on; a restore acts on its drain's target.
func (t targets) of(action isa.Action) string {
	switch action := action.(type) {
	case isa.RestoreTraffic:
		return t.text(t.drains[action.Drain].Target)
	case isa.Await:
		return t.text(t.drains[action.Drain].Target)
	case isa.RollbackConfig:
		return action.Object
	}
	target, _ := isa.TargetOf(action)
	return t.text(target)
}

func (t targets) text(target isa.Target) string {
	if name := t.names[target.UID]; name != "" {
		target.Instance, target.UID = name, ""
	}
	target.UIDs = nil
	return isa.FormatTarget(target)
}

func faultsOut(faults []isa.Fault) []*sluicev1.Fault {
	out := make([]*sluicev1.Fault, 0, len(faults))
	for _, fault := range faults {
		out = append(out, &sluicev1.Fault{
			Code: string(fault.Code), Line: int32(fault.Line), Column: int32(fault.Column),
			Path: fault.Path, Reason: fault.Reason, Remedy: fault.Remedy,
		})
	}
	return out
}

func servicesOut(services []mesh.Service) []string {
	out := make([]string, 0, len(services))
	for _, service := range services {
		out = append(out, string(service))
	}
	return out
}

// instantOut is unset for an instant that has not come.
func instantOut(at microkernel.Instant) *timestamppb.Timestamp {
	if at == 0 {
		return nil
	}
	return timeOut(time.Unix(0, int64(at)))
}

func timeOut(at time.Time) *timestamppb.Timestamp {
	if at.IsZero() {
		return nil
	}
	return timestamppb.New(at)
}
