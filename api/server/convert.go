package server

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicemesh/sluice/api/report"
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
	targets := report.NewTargets(&record)
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

func stepOut(record *microkernel.StepRecord, targets report.Targets) *sluicev1.PlanStep {
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
		step.Target = targets.Of(record.Step.Action)
	}
	return step
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
