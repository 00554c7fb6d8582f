package microkernel

import (
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// Mode is how far Sluice goes by itself.
type Mode string

// Modes.
const (
	Observe Mode = "Observe" // record what would have been done
	Propose Mode = "Propose" // every plan waits for approval
	Enforce Mode = "Enforce"
)

// Policy is RecoveryPolicy: the limits that verdicts rest on. It comes with each Led and
// so stands in the journal: what was judged by former limits is replayed by them.
type Policy struct {
	Mode                Mode
	LeastGrade          mesh.Grade
	MaxGroupSize        int // services in one restart set
	FanInMustDrain      int
	MaxPlanServices     int     // restarted by one plan beyond the groups' own restart sets ...
	MaxPlanShare        float64 // ... or this share of the graph, whichever is greater ...
	MaxPlanCeiling      int     // ... but never more than this
	AgentServices10m    int     // distinct services of one agent in 10 min, then throttle
	AgentServices60m    int     // in 60 min, then hold
	FleetServices10m    int     // distinct services fleet-wide in 10 min ...
	FleetShare10m       float64 // ... or this share of the graph, then reject
	RestartsPerService  int     // in 10 min, the next is rejected
	DrainsPerTarget     int     // in 10 min, then throttle
	DrainsPerTargetHold int     // in 10 min, then hold
	LimitShareOfLoad    float64 // least RateLimit as a share of the 5-minute p95 load
	BreakConcurrency    float64 // least CircuitBreak as a multiple of p99 concurrency
	Headroom            float64 // share of capacity that must stay free
	PlanTTL             time.Duration
	HeldTTL             time.Duration
	RememberIDs         time.Duration
	Settle              time.Duration
	RestartTime         time.Duration // without history
	HarmWindow          time.Duration
	MaxLease            time.Duration
	MaxDrainDeadline    time.Duration
	MaxHold             time.Duration
	PlansPerSecond      float64
	PlansBurst          int
	LeastRequests       uint64
	LeastSampling       float64
	ProtectedNamespaces []string
	ProtectedServices   []mesh.Service
	Self                []mesh.Service // the control plane's own parts
	EvidenceAge         time.Duration  // what declares nothing must be known for as long, else hold; 0 = off
	Scopes              []Scope        // what some principals are confined to; the others may act everywhere
}

// Scope confines a principal to namespaces. Deny wins over Allow.
type Scope struct {
	Principal string
	Allow     []string // empty = every namespace that is not denied
	Deny      []string
}

// DefaultPolicy returns the documented defaults, for plain Envoy in mode Enforce.
func DefaultPolicy() Policy {
	return Policy{
		Mode:                Enforce,
		LeastGrade:          mesh.GradeA,
		MaxGroupSize:        30,
		FanInMustDrain:      20,
		MaxPlanServices:     8,
		MaxPlanShare:        0.25,
		MaxPlanCeiling:      30,
		AgentServices10m:    10,
		AgentServices60m:    30,
		FleetServices10m:    50,
		FleetShare10m:       0.10,
		RestartsPerService:  4,
		DrainsPerTarget:     5,
		DrainsPerTargetHold: 10,
		LimitShareOfLoad:    0.5,
		BreakConcurrency:    2,
		Headroom:            0.2,
		PlanTTL:             5 * time.Minute,
		HeldTTL:             60 * time.Minute,
		RememberIDs:         24 * time.Hour,
		Settle:              50 * time.Millisecond,
		RestartTime:         20 * time.Second,
		HarmWindow:          5 * time.Second,
		MaxLease:            120 * time.Second,
		MaxDrainDeadline:    30 * time.Second,
		MaxHold:             15 * time.Second,
		PlansPerSecond:      10,
		PlansBurst:          20,
		LeastRequests:       100,
		LeastSampling:       0.01,
		ProtectedNamespaces: isa.DefaultLimits().ProtectedNamespaces,
		Self:                []mesh.Service{"sluice/sluiced", "sluice/agents", "sluice-system/sluice"},
	}
}
