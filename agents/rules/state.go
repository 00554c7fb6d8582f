package rules

import (
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Settings are the knobs of a planner; see Defaults.
type Settings struct {
	Settle     time.Duration // a diagnosis must stay the same for as long before it is proposed
	SlowSettle time.Duration // the same where requests are slow and none fails: much else passes by itself
	Grace      time.Duration // after a plan's end before the symptom counts as not recovered
	Appear     time.Duration // after which a proposal that the API does not list is lost
	Retry      time.Duration // after a refusal that names no time
	Forget     time.Duration // an incident is over when its symptoms have been gone for as long
	Attempts   int           // proposals for one incident that were not throttled
	StrongFrom float64       // least score of a suspect that a wider rung restarts
}

// Defaults returns the settings of a local mesh.
func Defaults() Settings {
	return Settings{
		Settle: time.Second, SlowSettle: 5 * time.Second, Grace: 15 * time.Second, Appear: 5 * time.Second, Retry: 10 * time.Second,
		Forget: time.Minute, Attempts: 5, StrongFrom: 0.1,
	}
}

// Bounds of what a planner looks at and remembers.
const (
	MaxSymptoms  = 32
	MaxIncidents = 256
)

// Observation is what the API said at one moment.
type Observation struct {
	Now      time.Time
	Symptoms []Symptom                      // with their groups
	Graph    *topology.Snapshot             // the API's graph, for orders of wider restarts
	Facts    map[mesh.Service]compose.Facts // of every service
	Plans    []Plan                         // recent ones, any order
}

// Symptom is a broken service and its group.
type Symptom struct {
	Service mesh.Service
	Onset   time.Time
	Slow    bool // requests are slow, none fails and no instance is down
	Group   topology.Group
}

// Phase is where a plan is, as far as a planner cares.
type Phase string

// Phases of plans.
const (
	Open        Phase = "open" // held, queued, running, verifying, compensating
	Committed   Phase = "committed"
	Compensated Phase = "compensated"
	Refused     Phase = "refused"
	Frozen      Phase = "frozen"
)

// Plan is a plan of any proposer.
type Plan struct {
	ID          string
	Phase       Phase
	Ended       time.Time // zero while Open
	RestartSet  []mesh.Service
	BlastRadius []mesh.Service
}

// State is what a planner remembers; the zero value remembers nothing. Decide and
// Answer return a new one and leave theirs alone.
type State struct {
	Incidents []Incident // sorted by Service
}

// Incident is one breakdown: a first symptom and all that it explains.
type Incident struct {
	Service   mesh.Service // the symptom that plans are named after
	Onset     time.Time
	Covers    []mesh.Service // symptoms that belong to it, sorted
	Culprit   mesh.Service   // that Rung is about; another one starts at the first rung
	Diagnosis string         // what would be restarted
	Since     time.Time      // that Diagnosis has been the same
	Seen      time.Time      // last time one of Covers was a symptom
	Plan      string         // id of the open proposal, "" = none
	Proposed  time.Time
	NotBefore time.Time // no proposal earlier
	Number    int       // of the next proposal, in its id
	Attempts  int       // proposals that were not throttled
	Rung      int       // of escalation
	Failed    int       // plans compensated at this rung
	Human     bool      // nothing left to propose
	resumed   bool      // Rung was learned from plans, before Culprit is known
}

// Proposal is a program to hand in, and why.
type Proposal struct {
	Program isa.Program
	Symptom mesh.Service
	Reason  string // registered names and numbers only
}

// Answer is what became of a proposal.
type Answer struct {
	ID         string
	Verdict    Verdict
	Code       isa.Code
	RetryAfter time.Duration
}

// Verdict is the API's answer to a proposal.
type Verdict string

// Verdicts; Lost says that no answer came.
const (
	Admit    Verdict = "admit"
	Hold     Verdict = "hold"
	Replayed Verdict = "replayed"
	Reject   Verdict = "reject"
	Throttle Verdict = "throttle"
	Lost     Verdict = "lost"
)
