package microkernel

import (
	"fmt"
	"slices"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// directCallers returns the direct callers of what a program drains or restarts: the
// requests that wait during its plan wait there. Sorted.
func directCallers(view *View, program isa.Program) []mesh.Service {
	var out []mesh.Service
	add := func(name mesh.Service) {
		if v := view.Find(name); v != nil {
			out = append(out, v.Callers...)
		}
	}
	for i := range program.Steps {
		switch a := program.Steps[i].Action.(type) {
		case isa.Drain:
			add(a.Target.Service)
		case isa.Restart:
			add(a.Target.Service)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// crowds reports whether p and q have a direct caller in common that has no headroom: it
// could not carry the requests that wait for both.
func (p *plan) crowds(q *plan) bool {
	if planted("crowd-unchecked") {
		return false
	}
	return shared(p.View.Crowded, p.callers, q.callers) || shared(q.View.Crowded, p.callers, q.callers)
}

// shared reports whether a service is in all three sorted lists.
func shared(a, b, c []mesh.Service) bool {
	return slices.ContainsFunc(a, func(s mesh.Service) bool {
		_, inB := slices.BinarySearch(b, s)
		_, inC := slices.BinarySearch(c, s)
		return inB && inC
	})
}

// crowding returns a plan that has begun, or that waits before p if queued is set, with which p
// would crowd a caller; nil if there is none. A frozen one holds up nobody.
func (t *turn) crowding(p *plan, queued bool) *plan {
	i := slices.IndexFunc(t.plans, func(q *plan) bool {
		if q.ID == p.ID || q.Phase == Frozen || q.Phase == Held {
			return false
		}
		ahead := len(q.steps) > 0 || queued && (q.holding || q.sequence < p.sequence)
		return ahead && p.crowds(q)
	})
	if i < 0 {
		return nil
	}
	return t.plans[i]
}

// giveWay puts a plan that holds its locks back into the queue: under them it turned out
// that a caller has no headroom.
func (t *turn) giveWay(p *plan) {
	p.holding, p.Locked = false, 0
	p.Waiting = "its locks"
}

// uncrowded is I3 over plans: no two that run share a direct caller without headroom.
func uncrowded(s *State) string {
	for i, p := range s.plans {
		for _, q := range s.plans[:i] {
			if p.Phase == Running && q.Phase == Running && p.crowds(q) {
				return fmt.Sprintf("I3: %s and %s share a direct caller without headroom", q.ID, p.ID)
			}
		}
	}
	return ""
}
