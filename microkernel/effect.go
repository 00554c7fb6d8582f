package microkernel

import (
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// Effect is an order to the driver. The set is closed; every effect is idempotent
// and may be performed again after a crash.
type Effect interface{ effect() }

// Answer tells the proposer (and the record) the verdict on a plan.
type Answer struct {
	Plan    PlanID
	Verdict Verdict
}

// Recheck asks for the facts of the plan's program as they are now: answered by Viewed
// with the same Look. One with a later Look replaces it.
type Recheck struct {
	Plan PlanID
	Look uint64
}

// Apply pushes an overlay: answered by Applied or Failed.
type Apply struct {
	Plan    PlanID
	Step    isa.StepID
	Overlay mesh.Overlay
}

// Prove asks for proofs about the overlay's target until told otherwise: answered by
// Proved, each time the picture changes for the better, or Failed.
type Prove struct {
	Plan       PlanID
	Step       isa.StepID
	Key        mesh.OverlayKey
	Generation Generation
}

// Extend grants the overlay another lease from now.
type Extend struct {
	Plan       PlanID
	Key        mesh.OverlayKey
	Generation Generation
	Lease      time.Duration
}

// Withdraw removes an overlay, giving traffic back over Ramp: answered by Withdrawn
// or Failed. Withdrawing what is not there is answered by Withdrawn.
type Withdraw struct {
	Plan       PlanID
	Step       isa.StepID
	Key        mesh.OverlayKey
	Generation Generation
	Ramp       time.Duration
}

// Reboot restarts one incarnation of one instance: answered by Restarted or Failed.
// If the registry already lists a later incarnation that came of the same order, it
// is answered by Restarted without a second restart.
type Reboot struct {
	Plan     PlanID
	Step     isa.StepID
	Ref      mesh.Ref
	Mode     isa.Mode
	Deadline time.Duration
}

// SetReplicas scales a workload: answered by Scaled or Failed.
type SetReplicas struct {
	Plan     PlanID
	Step     isa.StepID
	Service  mesh.Service
	Replicas int
}

// SetRevision returns a configuration object to a revision: answered by RolledBack or Failed.
type SetRevision struct {
	Plan     PlanID
	Step     isa.StepID
	Object   string // "kind/namespace/name"
	Revision string
}

// Watch starts the harm monitor for a plan: Services are watched from Since on; if
// For > 0 the verdict falls at the end of it, else the monitor speaks only on Harm.
// A second Watch of the same plan replaces the first.
type Watch struct {
	Plan      PlanID
	Services  []mesh.Service // blast radius and restart set, sorted
	Symptoms  []mesh.Service // those of them that were broken before
	Disturbed []mesh.Service // expected to be slow: there only errors count
	Checks    []isa.Check
	For       time.Duration
	Shed      []mesh.Service // their requests fail on purpose while their drain is in force, sorted
	Baselines []Baseline     // that an earlier watch of the plan froze, none yet at the first
}

// Unwatch ends the watch of a plan.
type Unwatch struct{ Plan PlanID }

// SetTimer asks for Fired after After; setting a timer again replaces it.
type SetTimer struct {
	Timer TimerID
	After time.Duration
}

// StopTimer forgets a timer.
type StopTimer struct{ Timer TimerID }

// Probe asks what is in force in the world: answered by Probed.
type Probe struct{}

// Page calls a human.
type Page struct {
	Plan   PlanID
	Reason string
}

// Finish says that a plan reached a final phase.
type Finish struct {
	Plan  PlanID
	Phase Phase
}

func (Answer) effect()      {}
func (Recheck) effect()     {}
func (Apply) effect()       {}
func (Prove) effect()       {}
func (Extend) effect()      {}
func (Withdraw) effect()    {}
func (Reboot) effect()      {}
func (SetReplicas) effect() {}
func (SetRevision) effect() {}
func (Watch) effect()       {}
func (Unwatch) effect()     {}
func (SetTimer) effect()    {}
func (StopTimer) effect()   {}
func (Probe) effect()       {}
func (Page) effect()        {}
func (Finish) effect()      {}

// Outcome is the kind of a verdict.
type Outcome string

// Outcomes.
const (
	Admit    Outcome = "admit"
	Hold     Outcome = "hold" // needs approval by another principal
	Reject   Outcome = "reject"
	Throttle Outcome = "throttle"
	Replayed Outcome = "replayed" // the same plan again: the first outcome stands
)

// Verdict is the kernel's answer to a proposal.
type Verdict struct {
	Outcome    Outcome
	Code       isa.Code // of the gravest fault, "" on admit
	Faults     []isa.Fault
	Epoch      string        // the epoch that it was judged at
	RetryAfter time.Duration // for Throttle
}

// Phase is where a plan is in its life.
type Phase string

// Phases; the last four are final.
const (
	Held         Phase = "held"
	Queued       Phase = "queued"
	Running      Phase = "running"
	Verifying    Phase = "verifying"
	Compensating Phase = "compensating"
	Committed    Phase = "committed"
	Compensated  Phase = "compensated"
	Frozen       Phase = "frozen"
	Refused      Phase = "refused" // rejected, throttled, expired: never ran
)

// Final reports whether a plan in phase p will never act again (a frozen plan needs
// a human first).
func (p Phase) Final() bool {
	switch p {
	case Committed, Compensated, Frozen, Refused:
		return true
	}
	return false
}
