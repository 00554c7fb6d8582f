package isa_test

import (
	"cmp"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// reference is the slow and obvious checker: it runs a program in every schedule that
// its After lists allow and watches what is in force (this file), and looks at each
// operand by itself (operands_test.go). It shares only types with Validate.
type reference struct {
	world  world
	steps  []isa.Step
	faults map[isa.Code]bool
	seen   map[uint64]bool // states that were explored
	after  [][]int         // of each step, as indexes
}

// world is what the reference knows of the services.
type world struct {
	env   *isa.Env
	calls map[[2]mesh.Service]bool // caller, callee: direct or not
}

// A step's state in a schedule.
const (
	waiting = 0
	running = 1
	ended   = 2
)

// check returns the codes of the faults that p has, and whether its steps are a partial
// order; if they are not, what depends on schedules is not known.
func (r *reference) check(p *isa.Program) (faults map[isa.Code]bool, ordered bool) {
	r.steps, r.faults = p.Steps, map[isa.Code]bool{}
	if len(p.Steps) > isa.MaxSteps {
		r.faults[isa.CodeTooLarge] = true
		return r.faults, false
	}
	r.operands(p)
	ordered = r.named()
	for i, step := range r.steps {
		for _, id := range step.After {
			switch j := r.find(id); {
			case j < 0:
				r.faults[isa.CodeUnknownStep], ordered = true, false
			case j == i:
				r.faults[isa.CodeCycle], ordered = true, false
			default:
				if _, await := r.steps[j].Action.(isa.Await); await {
					r.faults[isa.CodeLinear] = true
				}
			}
		}
		r.count(step)
	}
	if !ordered {
		return r.faults, false
	}
	r.begin()
	r.explore(make([]byte, len(r.steps)))
	if !r.seen[r.key(slices.Repeat([]byte{ended}, len(r.steps)))] {
		r.faults[isa.CodeCycle] = true
		return r.faults, false
	}
	for i := range r.steps {
		r.lease(i)
		r.covered(i)
		r.sameWrites(i)
	}
	return r.faults, true
}

// begin makes ready for the schedules.
func (r *reference) begin() {
	if r.seen == nil {
		r.seen = map[uint64]bool{}
	}
	clear(r.seen)
	r.after = nil
	for _, step := range r.steps {
		var before []int
		for _, id := range step.After {
			before = append(before, r.find(id))
		}
		r.after = append(r.after, before)
	}
}

// key is a state in two bits a step; the programs of the comparison have at most 32.
func (r *reference) key(state []byte) uint64 {
	key := uint64(0)
	for _, s := range state {
		key = key<<2 | uint64(s)
	}
	return key
}

func (r *reference) find(id isa.StepID) int {
	return slices.IndexFunc(r.steps, func(s isa.Step) bool { return s.ID == id })
}

// count checks what needs no schedule: a drain is ended once, and only drains are named.
func (r *reference) count(step isa.Step) {
	if _, ok := step.Action.(isa.Drain); ok {
		n := 0
		for _, other := range r.steps {
			if consumed(other) == step.ID {
				n++
			}
		}
		if n != 1 {
			r.faults[isa.CodeLinear] = true
		}
	}
	name := consumed(step)
	if a, ok := step.Action.(isa.Restart); ok {
		name = a.Drain
	}
	if name == "" {
		return
	}
	if i := r.find(name); i < 0 {
		r.faults[isa.CodeUnknownStep] = true
	} else if _, ok := r.steps[i].Action.(isa.Drain); !ok {
		r.faults[isa.CodeLinear] = true
	}
}

func consumed(s isa.Step) isa.StepID {
	switch a := s.Action.(type) {
	case isa.RestoreTraffic:
		return a.Drain
	case isa.Await:
		return a.Drain
	}
	return ""
}

// explore tries every next event in a state: a step starts, or a running one ends.
func (r *reference) explore(state []byte) {
	if r.seen[r.key(state)] {
		return
	}
	r.seen[r.key(state)] = true
	for i := range state {
		switch {
		case state[i] == waiting && r.inert(i) && r.ready(state, i):
			state[i] = ended
			r.explore(state)
			state[i] = waiting
		case state[i] == running:
			state[i] = ended
			r.explore(state)
			state[i] = running
		case state[i] == waiting && r.ready(state, i):
			r.starts(state, i)
			state[i] = running
			r.explore(state)
			state[i] = waiting
		}
	}
}

func (r *reference) ready(state []byte, i int) bool {
	return !slices.ContainsFunc(r.after[i], func(j int) bool { return state[j] != ended })
}

// inert reports whether nothing looks at how long step i lasts: it ends as it starts.
func (r *reference) inert(i int) bool {
	switch r.steps[i].Action.(type) {
	case isa.Restart, isa.Drain, isa.RestoreTraffic, isa.Await:
		return false
	}
	return true
}

// starts judges the start of step i in a state.
func (r *reference) starts(state []byte, i int) {
	switch a := r.steps[i].Action.(type) {
	case isa.Restart:
		r.restarts(state, i, a)
	case isa.Drain:
		r.opens(state, i, a.Target.Service)
	case isa.RestoreTraffic, isa.Await:
		d := r.find(consumed(r.steps[i]))
		if d < 0 || state[d] != ended || r.borrowed(state, d) {
			r.faults[isa.CodeLinear] = true
		}
		if _, ok := a.(isa.RestoreTraffic); ok && d >= 0 {
			r.closes(state, d)
		}
	}
}

// borrowed reports whether a restart that borrows drain d has not ended.
func (r *reference) borrowed(state []byte, d int) bool {
	for i, step := range r.steps {
		if a, ok := step.Action.(isa.Restart); ok && a.Drain == r.steps[d].ID && state[i] != ended {
			return true
		}
	}
	return false
}

func (r *reference) restarts(state []byte, i int, a isa.Restart) {
	if r.isMacro(i) {
		r.opens(state, i, a.Target.Service)
	} else if a.Drain == "" { // it takes no traffic, or is refused for that
	} else if d := r.find(a.Drain); d < 0 || state[d] != ended || r.consumerStarted(state, d) {
		r.faults[isa.CodeLinear] = true
	}
	for j, step := range r.steps {
		b, ok := step.Action.(isa.Restart)
		if !ok || j == i {
			continue
		}
		if state[j] == running && r.meet(a.Target, b.Target) {
			r.faults[isa.CodeConflict] = true
		}
		if r.world.calls[[2]mesh.Service{a.Target.Service, b.Target.Service}] && state[j] != ended {
			r.faults[isa.CodeOrder] = true // b, its callee, has not restarted
		}
	}
}

// meet reports whether two targets have an instance in common.
func (r *reference) meet(a, b isa.Target) bool {
	facts := r.world.facts(a.Service)
	if a.Service != b.Service || facts == nil {
		return a.Service == b.Service
	}
	return slices.ContainsFunc(selected(facts, a), func(uid mesh.UID) bool { return slices.Contains(selected(facts, b), uid) })
}

func (r *reference) consumerStarted(state []byte, d int) bool {
	for i, step := range r.steps {
		if consumed(step) == r.steps[d].ID && state[i] != waiting {
			return true
		}
	}
	return false
}

// active reports whether step j, a drain or a macro, keeps traffic off its service, and
// which one that is.
func (r *reference) active(state []byte, j int) (mesh.Service, bool) {
	switch a := r.steps[j].Action.(type) {
	case isa.Drain:
		for i, step := range r.steps {
			if b, ok := step.Action.(isa.RestoreTraffic); ok && b.Drain == r.steps[j].ID && state[i] == ended {
				return "", false
			}
		}
		return a.Target.Service, state[j] != waiting
	case isa.Restart:
		return a.Target.Service, r.isMacro(j) && state[j] == running
	}
	return "", false
}

func (r *reference) isMacro(j int) bool {
	a, ok := r.steps[j].Action.(isa.Restart)
	return ok && a.Drain == "" && !a.NoDrain && a.Target.Instance == "" && a.Target.UID == ""
}

// opens judges that step i begins to keep traffic off service.
func (r *reference) opens(state []byte, i int, service mesh.Service) {
	for j := range r.steps {
		other, open := r.active(state, j)
		if !open || j == i {
			continue
		}
		if other == service {
			r.faults[isa.CodeConflict] = true
		}
		if r.isMacro(i) && r.isMacro(j) {
			continue // the order of restarts says enough
		}
		if r.world.calls[[2]mesh.Service{service, other}] {
			r.faults[isa.CodeOrder] = true // a caller is drained while its callee is
		}
		if !r.world.calls[[2]mesh.Service{other, service}] {
			continue
		}
		if state[j] == running || r.restoring(state, j) && !r.awaited(i) {
			r.faults[isa.CodeOrder] = true // the caller is not yet empty, or already coming back
		}
	}
}

// restoring reports whether the restore of drain j is under way.
func (r *reference) restoring(state []byte, j int) bool {
	for i, step := range r.steps {
		if b, ok := step.Action.(isa.RestoreTraffic); ok && b.Drain == r.steps[j].ID && state[i] == running {
			return true
		}
	}
	return false
}

// closes judges that drain d begins to be restored.
func (r *reference) closes(state []byte, d int) {
	drain, ok := r.steps[d].Action.(isa.Drain)
	if !ok {
		return
	}
	service := drain.Target.Service
	for j := range r.steps {
		other, open := r.active(state, j)
		if open && r.world.calls[[2]mesh.Service{service, other}] && !r.awaited(j) {
			r.faults[isa.CodeOrder] = true // its callee is still drained
		}
	}
}

func (r *reference) awaited(d int) bool {
	return slices.ContainsFunc(r.steps, func(s isa.Step) bool {
		a, ok := s.Action.(isa.Await)
		return ok && a.Drain == r.steps[d].ID
	})
}

// lease checks drain i by the latest moment at which its consumer can start, if at the
// start of the drain only what had to be over then is over.
func (r *reference) lease(i int) {
	drain, ok := r.steps[i].Action.(isa.Drain)
	if !ok {
		return
	}
	for j, step := range r.steps {
		lease := cmp.Or(drain.Lease, 60*time.Second)
		if consumed(step) == r.steps[i].ID && r.ancestor(i, j) && lease > 0 && r.latest(i, j) > lease {
			r.faults[isa.CodeLease] = true
		}
	}
}

// ancestor reports whether step a must end before step b starts.
func (r *reference) ancestor(a, b int) bool {
	return slices.ContainsFunc(r.steps[b].After, func(id isa.StepID) bool {
		return r.find(id) == a || r.ancestor(a, r.find(id))
	})
}

// latest is when step j starts at the latest, counted from the start of drain i.
func (r *reference) latest(i, j int) time.Duration {
	var at time.Duration
	for _, id := range r.steps[j].After {
		if k := r.find(id); k == i || !r.ancestor(k, i) {
			at = max(at, r.latest(i, k)+r.lasts(k))
		}
	}
	if j == i {
		return 0
	}
	return at
}

// lasts is a step's deadline. Instances take turns in a macro and in a quorum.
func (r *reference) lasts(i int) time.Duration {
	switch a := r.steps[i].Action.(type) {
	case isa.Drain:
		return cmp.Or(a.Deadline, 30*time.Second)
	case isa.Restart:
		one, turns := cmp.Or(a.Deadline, 20*time.Second), 0
		if r.isMacro(i) {
			one += 30 * time.Second
		}
		for _, service := range append(slices.Clone(a.Target.Group), a.Target.Service) {
			switch facts := r.world.facts(service); {
			case service == "":
			case facts == nil || a.Drain != "" && facts.Quorum == 0:
				turns++
			default:
				turns += len(selected(facts, isa.Target{Instance: a.Target.Instance, UID: a.Target.UID, Zone: a.Target.Zone}))
			}
		}
		return one * time.Duration(max(1, turns))
	case isa.RestoreTraffic:
		return a.Ramp
	}
	return 0
}
