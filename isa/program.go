package isa

import (
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// StepID names a step within its program: 1-64 of [a-z0-9-].
type StepID string

// Program is a plan: steps, their order, and what to verify at the end. Identity
// of a plan is Hash of its canonical expanded program together with its proposer.
type Program struct {
	ID       string        // opaque, 1-64 of [a-z0-9-]
	Epoch    string        // topology epoch it was made against, "" = any
	Deadline time.Duration // for the whole program, 0 = the policy's
	Steps    []Step
	Verify   []Check
}

// Step is one action and the steps that must be confirmed before it starts.
type Step struct {
	ID     StepID
	After  []StepID
	Action Action
}

// Check asks that Service keeps its objective for For after the last step.
type Check struct {
	Service mesh.Service
	For     time.Duration
}

// Action is one of the seven instructions, or Await, which ends a program that
// leaves traffic off on purpose. The set is closed.
type Action interface {
	// Kind returns the instruction's name in every spelling.
	Kind() Kind
}

// Kind names an instruction.
type Kind string

// The seven instructions, and await.
const (
	KindRestart        Kind = "restart"
	KindDrain          Kind = "drain"
	KindRestoreTraffic Kind = "restoreTraffic"
	KindCircuitBreak   Kind = "circuitBreak"
	KindRateLimit      Kind = "rateLimit"
	KindScale          Kind = "scale"
	KindRollbackConfig Kind = "rollbackConfig"
	KindAwait          Kind = "await"
)

// Target is what an action is about: a service, optionally narrowed to one
// instance (by UID once expanded) or to a subset; or, for Restart only, a group.
// Exactly one of Service and Group is set.
type Target struct {
	Service  mesh.Service
	Instance string   // instance name, as an operator writes it
	UID      mesh.UID // instance by UID; what expansion writes
	Zone     string   // subset: the instances of one zone
	Version  string   // subset: the instances of one version
	Group    []mesh.Service
	UIDs     []mesh.UID // members of a subset as expansion found them; sorted, see Selects
}

// Mode is how a restart is carried out.
type Mode string

// Restart modes.
const (
	Rolling Mode = "rolling"  // instance after instance
	Replace Mode = "replace"  // another instance first, then away with the sick one
	InPlace Mode = "in-place" // the same instance, next incarnation
)

// Restart reboots its target. With Drain it borrows that drain; without, it is a
// macro that Expand turns into (drain, restart, restore) for each instance.
type Restart struct {
	Target   Target
	Mode     Mode          // "" = Rolling
	Drain    StepID        // borrowed drain, "" = none
	NoDrain  bool          // "drain: none": admitted only for what takes no traffic
	Deadline time.Duration // 0 = DefaultRestartDeadline
}

// Drain takes traffic off its target and yields a linear capability, named by its
// step's ID, that exactly one RestoreTraffic consumes on every path.
type Drain struct {
	Target   Target
	Share    int          // percent, 1-100, 0 = 100
	To       mesh.Service // reroute there; excludes OnEmpty
	OnEmpty  mesh.OnEmpty
	Streams  mesh.StreamPolicy // "" = wait
	Deadline time.Duration     // until proved out of service, 0 = DefaultDrainDeadline
	Lease    time.Duration     // 0 = DefaultLease
}

// RestoreTraffic consumes the drain of step Drain and gives traffic back over Ramp.
type RestoreTraffic struct {
	Drain StepID
	Ramp  time.Duration
}

// CircuitBreak lowers thresholds towards a callee, of one caller or of all.
type CircuitBreak struct {
	Target         Target       // callee
	Caller         mesh.Service // "" = all
	MaxRequests    uint32       // 0 = leave
	MaxConnections uint32
	MaxPending     uint32
	MaxRetries     uint32
	Consecutive5xx uint32 // outlier detection, 0 = leave
	Lease          time.Duration
}

// RateLimit bounds requests to a callee, of one caller or of all.
type RateLimit struct {
	Target    Target
	Caller    mesh.Service
	PerSecond float64
	Burst     uint32 // 0 = what passes in one second, at least 1
	Lease     time.Duration
}

// Scale sets the number of wanted instances.
type Scale struct {
	Target   Target
	Replicas int
}

// RollbackConfig returns an object to a known good revision.
type RollbackConfig struct {
	Object   string // "kind/namespace/name"
	Revision string
}

// AwaitUntil is what ends an Await.
type AwaitUntil string

// What an Await waits for.
const (
	AwaitRestore AwaitUntil = "restore" // until somebody restores the drain
	AwaitLease   AwaitUntil = "lease"   // until the drain's lease ends
)

// Await leaves the drain of step Drain open on purpose; the plan keeps its lock.
type Await struct {
	Drain StepID
	Until AwaitUntil
}

// Kind implements Action.
func (Restart) Kind() Kind { return KindRestart }

// Kind implements Action.
func (Drain) Kind() Kind { return KindDrain }

// Kind implements Action.
func (RestoreTraffic) Kind() Kind { return KindRestoreTraffic }

// Kind implements Action.
func (CircuitBreak) Kind() Kind { return KindCircuitBreak }

// Kind implements Action.
func (RateLimit) Kind() Kind { return KindRateLimit }

// Kind implements Action.
func (Scale) Kind() Kind { return KindScale }

// Kind implements Action.
func (RollbackConfig) Kind() Kind { return KindRollbackConfig }

// Kind implements Action.
func (Await) Kind() Kind { return KindAwait }

// Defaults that an omitted operand stands for (RecoveryPolicy).
const (
	DefaultRestartDeadline = 20 * time.Second
	DefaultDrainDeadline   = 30 * time.Second
	DefaultLease           = 60 * time.Second
	DefaultPlanDeadline    = 5 * time.Minute
)

// Size limits of a program (RecoveryPolicy, "plan"). Static and not negotiable.
const (
	MaxBytes         = 64 << 10
	MaxSteps         = 64
	MaxExpandedSteps = 2048
	MaxDepth         = 8
)
