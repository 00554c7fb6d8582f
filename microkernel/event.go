package microkernel

import (
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// Instant is a moment of the driver's clock in nanoseconds of Unix time. The core
// never reads a clock; it only compares the instants that events carry. They do not
// decrease from one event to the next.
type Instant int64

// Add returns the instant d later.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns the time from u to t.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// PlanID is a program's ID; unique among the plans that the kernel remembers.
type PlanID string

// Generation numbers the changes of one overlay key, across restarts too.
type Generation uint64

// Principal is who asked, as authenticated by the surface; never read from a plan.
type Principal struct {
	Name string
	Role Role
}

// Role is what a principal may do.
type Role string

// Roles.
const (
	Viewer   Role = "viewer"
	Proposer Role = "proposer"
	Approver Role = "approver"
	Admin    Role = "admin"
)

// Event is a fact. The set is closed; each event carries the instant at which the
// driver learned of it.
type Event interface{ When() Instant }

// Stamp is embedded in every event.
type Stamp struct{ At Instant }

// When implements Event.
func (s Stamp) When() Instant { return s.At }

// Submitted says: a principal handed in a program. View holds the facts at that moment.
type Submitted struct {
	Stamp
	By      Principal
	Program isa.Program // as written, before expansion
	View    View
}

// Unread says: a principal handed in what is no program. It is recorded and counted
// against the principal's rate, and changes nothing else.
type Unread struct {
	Stamp
	By     Principal
	Digest string // SHA-256 of what came, hex
	Faults []isa.Fault
}

// Approved says: another principal allows a held plan. View is taken anew.
type Approved struct {
	Stamp
	Plan PlanID
	By   Principal
	View View
}

// Aborted says: somebody with the right to do so stops a plan.
type Aborted struct {
	Stamp
	Plan   PlanID
	By     Principal
	Reason string
}

// Viewed answers Recheck: the facts when the plan has got its locks, and again at each
// gate before a drain or a restart.
type Viewed struct {
	Stamp
	Plan PlanID
	View View
	Look uint64 // of the Recheck that it answers; 0 = of any
}

// Applied says: every required proxy ACKed the overlay of this generation.
type Applied struct {
	Stamp
	Plan       PlanID
	Step       isa.StepID
	Generation Generation
	Acks       mesh.Acks
}

// Proved says: what was observed about a drained target. The core decides if it suffices.
type Proved struct {
	Stamp
	Plan  PlanID
	Step  isa.StepID
	Proof mesh.Proof
}

// Restarted says: the instance is up and ready again as the incarnation that Ref names.
type Restarted struct {
	Stamp
	Plan PlanID
	Step isa.StepID
	Old  mesh.Ref
	New  mesh.Ref
}

// Withdrawn says: every required proxy ACKed that the overlay is gone.
type Withdrawn struct {
	Stamp
	Plan       PlanID
	Step       isa.StepID
	Generation Generation
}

// Scaled says: the workload now wants Replicas; Former is what it wanted before.
type Scaled struct {
	Stamp
	Plan             PlanID
	Step             isa.StepID
	Former, Replicas int
}

// RolledBack says: the object now is at Revision; Former is where it was before.
type RolledBack struct {
	Stamp
	Plan             PlanID
	Step             isa.StepID
	Former, Revision string
}

// Failed says: an effect of the step cannot be achieved: NACK, refused by the cluster,
// lost lease, foreign writer. Code is CodeUnsupported, CodeForeignOwner, ... or "".
type Failed struct {
	Stamp
	Plan   PlanID
	Step   isa.StepID
	Code   isa.Code
	Reason string
}

// Fired says: a timer that SetTimer set ran out.
type Fired struct {
	Stamp
	Timer TimerID
}

// Judged says: the monitor's verdict on a plan under watch.
type Judged struct {
	Stamp
	Plan    PlanID
	Verdict HarmVerdict
}

// Led says: this process became leader with a term greater than any before it. Proofs of
// the former leader are void.
type Led struct {
	Stamp
	Term   uint64
	Policy Policy // the limits from now on; without a Mode, those before stay
}

// Probed answers Probe: what is in force in the world, after a Led.
type Probed struct {
	Stamp
	Overlays  []mesh.Overlay  // believed installed, sorted by key
	Instances []mesh.Instance // every instance of the registry, sorted by UID
}

// Paused says: no new effect of any plan (or of one, if Plan is set) except restore.
type Paused struct {
	Stamp
	Plan   PlanID // "" = all
	By     Principal
	Reason string
}

// Resumed ends a pause; by an admin it also clears a freeze.
type Resumed struct {
	Stamp
	Plan PlanID
	By   Principal
}

// Violated says: the driver saw the state break an invariant. Nothing new is begun until
// an admin has looked, and what runs is undone.
type Violated struct {
	Stamp
	Invariant string // which, and how, as Check says it
}

// Measured says: how the services of a plan, and others to compare with, did before it
// acted. The first of a plan counts: its baselines are frozen.
type Measured struct {
	Stamp
	Plan      PlanID
	Baselines []Baseline // sorted by service
}

// Baseline is what a service was like before a plan.
type Baseline struct {
	Service   mesh.Service
	Objective mesh.Objective
	Broken    bool            // it was not healthy
	Control   bool            // the plan cannot have hurt it: it tells how the machine does
	Before    Level           // the 60 s before the plan; of a broken service, since its onset
	Healthy   Level           // of a broken service: before its onset, if that is known
	Shape     []time.Duration // quantiles of the latencies of Before at equal steps; none = not known
	// How much the seconds of Before varied beyond what their requests explain: the mean
	// rank of their latencies, and the count of slow requests; 0 = not known.
	Drift, Dispersion float64
}

// Level is how a service did over some time.
type Level struct {
	Requests uint64
	Errors   float64 // share of Requests
	P99      time.Duration
}

// Compacted says: State is what all events before come to. A journal may begin with it.
type Compacted struct {
	Stamp
	State Snapshot
}

// HarmVerdict is what the harm monitor says of the services in a plan's radius.
type HarmVerdict struct {
	Label    HarmLabel
	Service  mesh.Service // the worst one, "" if clean
	Evidence string       // numbers, for the record and the report
}

// HarmLabel is the outcome of watching a plan.
type HarmLabel string

// Labels.
const (
	Clean        HarmLabel = "clean"         // watched to the end, every check kept
	Harm         HarmLabel = "harm"          // made worse: abort and compensate
	NotRecovered HarmLabel = "not-recovered" // to the end, and still broken
	Inconclusive HarmLabel = "inconclusive"  // to the end, too little traffic to say
)

// TimerID names a timer of a plan (or of the kernel, with Plan "").
type TimerID struct {
	Plan PlanID
	Step isa.StepID
	Name string
}
