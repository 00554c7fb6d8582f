package microkernel

import (
	"slices"
	"strings"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// State is everything that the kernel knows. It is a value: Step returns a new one and
// never changes the one that it was given, so a reader may keep any State for as long
// as it likes. Parts that an event did not touch are shared.
type State struct {
	policy     Policy
	events     uint64 // steps taken; marks which plans this step has cloned
	now        Instant
	term       uint64 // of the present leader, 0 = none yet
	recovering bool   // from Led until Probed: nothing new is begun
	frozen     string // why nothing new is begun until an admin resumes, "" = not frozen
	paused     string // why nothing new is begun until somebody resumes, "" = not paused
	plans      []*plan
	done       []*plan // of a final phase, without locks; oldest first
	timers     []timer // sorted by ID
	acts       []act   // what budgets count, oldest first
	buckets    []bucket
	sequence   uint64     // of the plan that was proposed last
	generation Generation // given out last, over all keys
}

// Bounds of what is kept for replays of ids and for the record.
const (
	maxDone    = 2048 // final plans; the oldest that never ran is forgotten first
	maxBuckets = 256  // principals whose rate is metered
	maxOpen    = 1024 // plans that are not final
)

// plan is one plan on its way. Record.Steps is empty: Steps are in steps.
type plan struct {
	Record
	edited   uint64 // State.events at which it was cloned
	sequence uint64
	locks    []mesh.Service // restart set, group and write set; sorted
	callers  []mesh.Service // direct ones of what it drains or restarts; sorted
	steps    []step
	holding  bool   // the locks are its own
	asked    bool   // Recheck number look is out
	look     uint64 // of the last Recheck
	paused   string // why it begins nothing new

	baselines []Baseline // of its services, frozen; not kept after its end
}

// step is one step of the expanded program on its way.
type step struct {
	StepRecord
	after    []int // indexes of the steps that come before it
	drain    int   // index of the drain that it borrows, consumes or awaits; -1 = none
	overlay  mesh.Overlay
	inForce  bool    // ordered, and not known to be gone
	leaseEnd Instant // of the overlay, or of the drain's capability
	term     uint64  // of the leader under which Proof was had
	ordered  bool    // a Reboot of Old is out, or was before the leader changed
	former   int     // replicas before a Scale
	revision string  // of the object before a RollbackConfig
	floor    bool    // its drain may leave nothing: to, hold or shed
	removing isa.StepID
	undoing  bool // its inverse is out
	attempts int  // of the inverse that failed
	gaveUp   bool // the inverse failed for good
	foreign  bool // its object has another owner: nothing was done, and nothing is undone
}

// timer is a timer that was set and has neither fired nor been stopped.
type timer struct {
	id  TimerID
	due Instant
}

// New returns the state of a kernel that has seen nothing. It has no leader: every
// proposal is throttled until Led and Probed.
func New(policy Policy) State { return State{policy: policy} }

// Policy returns the limits that the state decides by.
func (s State) Policy() Policy { return s.policy }

// Term returns the term of the present leader, 0 before the first Led.
func (s State) Term() uint64 { return s.term }

// Frozen returns why nothing new is begun until an admin resumes, "" if it may be.
func (s State) Frozen() string { return s.frozen }

// Paused returns why nothing new is begun until somebody resumes, "" if it may be.
func (s State) Paused() string { return s.paused }

// Recovering reports whether a new leader is still taking over the open plans.
func (s State) Recovering() bool { return s.recovering || s.term == 0 }

// Overlays returns the overlays that are believed in force, sorted by key.
func (s State) Overlays() []mesh.Overlay {
	var out []mesh.Overlay
	for _, p := range s.plans {
		for i := range p.steps {
			if p.steps[i].inForce {
				out = append(out, p.steps[i].overlay)
			}
		}
	}
	slices.SortFunc(out, func(a, b mesh.Overlay) int { return compareKeys(a.Key, b.Key) })
	return out
}

// Record returns the record of the plan with id.
func (s State) Record(id PlanID) (Record, bool) {
	p := s.find(id)
	if p == nil {
		return Record{}, false
	}
	return p.record(), true
}

// Records returns the records of all plans that are remembered, newest first.
func (s State) Records() []Record {
	all := slices.Concat(s.plans, s.done)
	slices.SortFunc(all, func(a, b *plan) int {
		switch {
		case a.sequence > b.sequence:
			return -1
		case a.sequence < b.sequence:
			return 1
		}
		return 0
	})
	out := make([]Record, len(all))
	for i, p := range all {
		out[i] = p.record()
	}
	return out
}

// OpenRecords returns the records of the plans that are not done: those under way, and
// frozen ones. Oldest first.
func (s State) OpenRecords() []Record {
	out := make([]Record, len(s.plans))
	for i, p := range s.plans {
		out[i] = p.record()
	}
	return out
}

// Open returns how many plans are not final.
func (s State) Open() int {
	n := 0
	for _, p := range s.plans {
		if !p.Phase.Final() {
			n++
		}
	}
	return n
}

// find returns the plan with id, nil if there is none.
func (s *State) find(id PlanID) *plan {
	for _, list := range [][]*plan{s.plans, s.done} {
		for _, p := range list {
			if p.ID == id {
				return p
			}
		}
	}
	return nil
}

func (p *plan) record() Record {
	out := p.Record
	out.Steps = make([]StepRecord, len(p.steps))
	for i := range p.steps {
		out.Steps[i] = p.steps[i].StepRecord
	}
	return out
}

// index returns the index of the step with id, -1 if there is none.
func (p *plan) index(id isa.StepID) int {
	return slices.IndexFunc(p.steps, func(s step) bool { return s.Step.ID == id })
}

// clone returns a copy whose steps may be changed.
func (p *plan) clone() *plan {
	c := *p
	c.steps = slices.Clone(p.steps)
	return &c
}

// compareKeys orders overlay keys by callee, kind and caller.
func compareKeys(a, b mesh.OverlayKey) int {
	if c := strings.Compare(string(a.Callee), string(b.Callee)); c != 0 {
		return c
	}
	if c := strings.Compare(string(a.Kind), string(b.Kind)); c != 0 {
		return c
	}
	return strings.Compare(string(a.Caller), string(b.Caller))
}
