package microkernel

import (
	"slices"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// keptViews is how many final plans keep the facts of their verdict when a state is made
// compact: the newest. Those of the others are in the part of the journal that is put away.
const keptViews = 32

// Snapshot is a State with names, so that a journal can hold it. Its fields are part of the
// journal's format: one may be appended, but never renamed, removed, moved or given another
// type.
type Snapshot struct {
	Policy     Policy
	Events     uint64
	Now        Instant
	Term       uint64
	Recovering bool
	Frozen     string
	Paused     string
	Plans      []PlanSnapshot
	Done       []PlanSnapshot
	Timers     []TimerSnapshot
	Acts       []ActSnapshot
	Buckets    []BucketSnapshot
	Sequence   uint64
	Generation Generation
}

// PlanSnapshot is one plan of a Snapshot.
type PlanSnapshot struct {
	Record   Record
	Sequence uint64
	Locks    []mesh.Service
	Callers  []mesh.Service
	Steps    []StepSnapshot
	Holding  bool
	Asked    bool
	Look     uint64
	Paused   string

	Baselines []Baseline
}

// StepSnapshot is one step of a PlanSnapshot.
type StepSnapshot struct {
	Record   StepRecord
	After    []int
	Drain    int
	Overlay  mesh.Overlay
	InForce  bool
	LeaseEnd Instant
	Term     uint64
	Ordered  bool
	Former   int
	Revision string
	Floor    bool
	Removing isa.StepID
	Undoing  bool
	Attempts int
	GaveUp   bool
	Foreign  bool
}

// TimerSnapshot is a timer that was set and has neither fired nor been stopped.
type TimerSnapshot struct {
	ID  TimerID
	Due Instant
}

// ActSnapshot is what budgets count.
type ActSnapshot struct {
	At       Instant
	Plan     PlanID
	By       string
	Agent    bool
	Service  mesh.Service
	Restarts int
	Drains   int
	Acted    bool
}

// BucketSnapshot meters one principal.
type BucketSnapshot struct {
	Name string
	Due  Instant
}

// Compact returns all of s that decides anything from now on: plans, timers, budgets, and
// every id that is still remembered. Step makes a State of it again, and goes on with that
// as with s.
func (s State) Compact() Snapshot {
	out := Snapshot{
		Policy: s.policy, Events: s.events, Now: s.now, Term: s.term, Recovering: s.recovering, Frozen: s.frozen, Paused: s.paused,
		Sequence: s.sequence, Generation: s.generation,
	}
	for _, p := range s.plans {
		out.Plans = append(out.Plans, p.snapshot())
	}
	for i, p := range s.done {
		c := p.snapshot()
		if i < len(s.done)-keptViews {
			c.Record.View = View{Epoch: p.View.Epoch}
		}
		out.Done = append(out.Done, c)
	}
	for _, t := range s.timers {
		if planted("compaction-forgets-timers") {
			break
		}
		out.Timers = append(out.Timers, TimerSnapshot{ID: t.id, Due: t.due})
	}
	for _, a := range s.acts {
		out.Acts = append(out.Acts, ActSnapshot{
			At: a.at, Plan: a.plan, By: a.by, Agent: a.agent, Service: a.service, Restarts: a.restarts, Drains: a.drains, Acted: a.acted,
		})
	}
	for _, b := range s.buckets {
		out.Buckets = append(out.Buckets, BucketSnapshot{Name: b.name, Due: b.due})
	}
	return out
}

func (s Snapshot) state() State {
	out := State{
		policy: s.Policy, events: s.Events, now: s.Now, term: s.Term, recovering: s.Recovering, frozen: s.Frozen, paused: s.Paused,
		sequence: s.Sequence, generation: s.Generation,
	}
	for i := range s.Plans {
		out.plans = append(out.plans, s.Plans[i].plan())
	}
	for i := range s.Done {
		out.done = append(out.done, s.Done[i].plan())
	}
	for _, t := range s.Timers {
		out.timers = append(out.timers, timer{id: t.ID, due: t.Due})
	}
	for _, a := range s.Acts {
		out.acts = append(out.acts, act{
			at: a.At, plan: a.Plan, by: a.By, agent: a.Agent, service: a.Service, restarts: a.Restarts, drains: a.Drains, acted: a.Acted,
		})
	}
	for _, b := range s.Buckets {
		out.buckets = append(out.buckets, bucket{name: b.Name, due: b.Due})
	}
	return out
}

func (p *plan) snapshot() PlanSnapshot {
	out := PlanSnapshot{
		Record: p.Record, Sequence: p.sequence, Locks: p.locks, Callers: p.callers, Holding: p.holding, Asked: p.asked, Look: p.look,
		Paused: p.paused, Baselines: p.baselines,
	}
	for i := range p.steps {
		s := &p.steps[i]
		out.Steps = append(out.Steps, StepSnapshot{
			Record: s.StepRecord, After: s.after, Drain: s.drain, Overlay: s.overlay, InForce: s.inForce, LeaseEnd: s.leaseEnd,
			Term: s.term, Ordered: s.ordered, Former: s.former, Revision: s.revision, Floor: s.floor, Removing: s.removing,
			Undoing: s.undoing, Attempts: s.attempts, GaveUp: s.gaveUp, Foreign: s.foreign,
		})
	}
	return out
}

func (p *PlanSnapshot) plan() *plan {
	out := &plan{
		Record: p.Record, sequence: p.Sequence, locks: slices.Clone(p.Locks), callers: p.Callers, holding: p.Holding, asked: p.Asked,
		look: p.Look, paused: p.Paused, baselines: p.Baselines,
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		out.steps = append(out.steps, step{
			StepRecord: s.Record, after: s.After, drain: s.Drain, overlay: s.Overlay, inForce: s.InForce, leaseEnd: s.LeaseEnd,
			term: s.Term, ordered: s.Ordered, former: s.Former, revision: s.Revision, floor: s.Floor, removing: s.Removing,
			undoing: s.Undoing, attempts: s.Attempts, gaveUp: s.GaveUp, foreign: s.Foreign,
		})
	}
	return out
}
