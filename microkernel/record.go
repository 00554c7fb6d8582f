package microkernel

import (
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// Record is everything that is known of one plan: what surfaces show and reports
// are made of. It is derived from the state alone, so replay yields the same.
type Record struct {
	ID          PlanID
	Proposer    Principal
	Approver    Principal // zero if nobody had to
	Hash        string    // of the canonical expanded program and proposer
	Written     isa.Program
	Expanded    isa.Program
	View        View // the facts that the last verdict rests on
	Verdict     Verdict
	Phase       Phase
	Reason      string // why it was aborted, frozen or refused
	Steps       []StepRecord
	RestartSet  []mesh.Service
	BlastRadius []mesh.Service
	Harm        HarmVerdict
	Proposed    Instant
	Locked      Instant // 0 = never
	Ended       Instant // 0 = not yet
	Waiting     string  // what it waits for now, "" if nothing
	Present     View    // the facts at its last gate; zero before it has locks and after its end
}

// StepState is where a step is in its life.
type StepState string

// Step states.
const (
	StepWaiting   StepState = "waiting"
	StepRunning   StepState = "running"
	StepConfirmed StepState = "confirmed"
	StepFailed    StepState = "failed"
	StepUndone    StepState = "undone"
)

// StepRecord is the history of one step of the expanded program. Instants are 0 until
// they happen.
type StepRecord struct {
	Step       isa.Step
	State      StepState
	Generation Generation // of its overlay, 0 = none
	Started    Instant
	Acked      Instant // every required proxy
	Ended      Instant
	Acks       mesh.Acks
	Proof      mesh.Proof // the one that opened the gate, or the last that did not
	Grade      mesh.Grade // "" until proved
	Old, New   mesh.Ref   // of a restart
	Waiting    string     // why its gate is shut now
}
