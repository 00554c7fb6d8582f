package isa_test

import (
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

var programs = flag.Int("programs", 8_000, "random programs of TestReference")

// reference is the slow and obvious checker: it runs a program in every schedule that
// its After lists allow and watches what is in force. It shares only types with Validate.
type reference struct {
	steps  []isa.Step
	calls  map[[2]mesh.Service]bool // caller, callee: direct or not
	faults map[isa.Code]bool
	seen   map[string]bool
}

// A step's state in a schedule.
const (
	waiting = '0'
	running = '1'
	ended   = '2'
)

func (r *reference) check(steps []isa.Step) map[isa.Code]bool {
	r.steps, r.faults, r.seen = steps, map[isa.Code]bool{}, map[string]bool{}
	for i, step := range steps {
		for _, id := range step.After {
			switch j := r.find(id); {
			case j < 0:
				r.faults[isa.CodeUnknownStep] = true
			case j == i:
				r.faults[isa.CodeCycle] = true
			default:
				if _, await := steps[j].Action.(isa.Await); await {
					r.faults[isa.CodeLinear] = true
				}
			}
		}
		r.count(step)
	}
	if r.faults[isa.CodeUnknownStep] && r.dangling() || r.faults[isa.CodeCycle] {
		return r.faults
	}
	r.explore([]byte(strings.Repeat(string(rune(waiting)), len(steps))))
	if !r.seen[strings.Repeat(string(rune(ended)), len(steps))] {
		r.faults[isa.CodeCycle] = true
		return r.faults
	}
	for i := range steps {
		r.lease(i)
	}
	return r.faults
}

// dangling reports whether an After list names no step (a drain operand may as well).
func (r *reference) dangling() bool {
	return slices.ContainsFunc(r.steps, func(s isa.Step) bool {
		return slices.ContainsFunc(s.After, func(id isa.StepID) bool { return r.find(id) < 0 })
	})
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
	if r.seen[string(state)] {
		return
	}
	r.seen[string(state)] = true
	for i := range state {
		switch {
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
	return !slices.ContainsFunc(r.steps[i].After, func(id isa.StepID) bool { return state[r.find(id)] != ended })
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
	if a.Drain == "" {
		r.opens(state, i, a.Target.Service)
	} else if d := r.find(a.Drain); d < 0 || state[d] != ended || r.consumerStarted(state, d) {
		r.faults[isa.CodeLinear] = true
	}
	for j, step := range r.steps {
		b, ok := step.Action.(isa.Restart)
		if !ok || j == i {
			continue
		}
		if state[j] == running && a.Target.Service == b.Target.Service {
			r.faults[isa.CodeConflict] = true
		}
		if r.calls[[2]mesh.Service{a.Target.Service, b.Target.Service}] && state[j] != ended {
			r.faults[isa.CodeOrder] = true // b, its callee, has not restarted
		}
	}
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
		return a.Target.Service, a.Drain == "" && state[j] == running
	}
	return "", false
}

func (r *reference) isMacro(j int) bool {
	a, ok := r.steps[j].Action.(isa.Restart)
	return ok && a.Drain == ""
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
		if r.calls[[2]mesh.Service{service, other}] {
			r.faults[isa.CodeOrder] = true // a caller is drained while its callee is
		}
		if !r.calls[[2]mesh.Service{other, service}] {
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
	service := r.steps[d].Action.(isa.Drain).Target.Service
	for j := range r.steps {
		other, open := r.active(state, j)
		if open && r.calls[[2]mesh.Service{service, other}] && !r.awaited(j) {
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
		if consumed(step) == drain0(r, i) && r.ancestor(i, j) && r.latest(i, j) > drain.Lease {
			r.faults[isa.CodeLease] = true
		}
	}
}

func drain0(r *reference, i int) isa.StepID { return r.steps[i].ID }

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
			at = max(at, r.latest(i, k)+lasts(r.steps[k]))
		}
	}
	if j == i {
		return 0
	}
	return at
}

// lasts is a step's deadline, in a world where each service has two instances.
func lasts(s isa.Step) time.Duration {
	switch a := s.Action.(type) {
	case isa.Drain:
		return a.Deadline
	case isa.Restart:
		if a.Drain == "" {
			return 2 * (a.Deadline + isa.DefaultDrainDeadline)
		}
		return a.Deadline
	case isa.RestoreTraffic:
		return a.Ramp
	}
	return 0
}

// chain is the world of the comparison: shop/a calls shop/b calls shop/c; shop/d is alone.
func chain() (*isa.Env, map[[2]mesh.Service]bool) {
	env := &isa.Env{
		GraphSize:    100,
		RestartOrder: []mesh.Service{"shop/c", "shop/d", "shop/b", "shop/a"},
		RestoreOrder: []mesh.Service{"shop/c", "shop/b", "shop/d", "shop/a"},
		DrainOrder:   []mesh.Service{"shop/a", "shop/b", "shop/d", "shop/c"},
	}
	callers := map[mesh.Service][]mesh.Service{"shop/b": {"shop/a"}, "shop/c": {"shop/b"}}
	for _, name := range []mesh.Service{"shop/a", "shop/b", "shop/c", "shop/d"} {
		facts := isa.ServiceFacts{ServiceState: mesh.ServiceState{Name: name}, Callers: callers[name], Takes: true}
		facts.Instances = instancesOf(name, 2, nil, nil)
		env.Services = append(env.Services, facts)
	}
	return env, map[[2]mesh.Service]bool{
		{"shop/a", "shop/b"}: true, {"shop/b", "shop/c"}: true, {"shop/a", "shop/c"}: true,
	}
}

// TestReference compares the two checkers on programs that are valid or a few faults away
// from it.
func TestReference(t *testing.T) {
	env, calls := chain()
	r := reference{calls: calls}
	valid, counts := 0, map[isa.Code]int{}
	for seed := range uint64(*programs) {
		p := randomProgram(rand.New(rand.NewPCG(seed, 4)))
		want := r.check(p.Steps)
		faults := isa.Validate(p, env)
		got := map[isa.Code]bool{}
		for _, f := range faults {
			got[f.Code] = true
		}
		for _, code := range compared(want) {
			if want[code] != got[code] {
				t.Fatalf("seed %d: %s: reference %v, checker %v\n%s%s", seed, code, want[code], got[code],
					isa.FormatText(p), listFaults(faults))
			}
			if want[code] {
				counts[code]++
			}
		}
		if len(want) == 0 {
			valid++
		}
	}
	t.Logf("%d of %d valid, %v", valid, *programs, counts)
	if 10*valid < 3**programs {
		t.Errorf("only %d of %d programs are valid", valid, *programs)
	}
	for _, code := range []isa.Code{isa.CodeLinear, isa.CodeOrder, isa.CodeConflict, isa.CodeCycle,
		isa.CodeUnknownStep, isa.CodeLease} {
		if counts[code] == 0 {
			t.Errorf("no program had code %s", code)
		}
	}
}

// compared lists the codes on which the two must agree. A program that is no partial
// order has no schedule, and one whose drains are not linear has no intervals to order.
func compared(want map[isa.Code]bool) []isa.Code {
	codes := []isa.Code{isa.CodeUnknownStep}
	if want[isa.CodeUnknownStep] {
		return codes
	}
	if codes = append(codes, isa.CodeCycle); want[isa.CodeCycle] {
		return codes
	}
	if codes = append(codes, isa.CodeLinear); want[isa.CodeLinear] {
		return codes
	}
	return append(codes, isa.CodeOrder, isa.CodeConflict, isa.CodeLease)
}

// randomProgram makes a program of at most 7 steps: blocks that are valid in the world of
// chain, in an order that is as a rule the right one, then as a rule one change or none.
func randomProgram(rng *rand.Rand) isa.Program {
	g := generator{rng: rng}
	switch rng.IntN(4) {
	case 0:
		g.nest("shop/a", "shop/b")
	case 1:
		g.nest("shop/b", "shop/c")
		g.macro("shop/d")
	case 2:
		g.macro("shop/c")
		g.nest("shop/b")
		g.macro("shop/a")
	default:
		g.nest("shop/d")
		g.nest("shop/c")
	}
	for rng.IntN(2) == 0 {
		g.mutate()
	}
	return isa.Program{ID: "p", Steps: g.steps}
}

type generator struct {
	rng   *rand.Rand
	steps []isa.Step
	last  []isa.StepID
}

func (g *generator) add(id string, action isa.Action) {
	g.steps = append(g.steps, isa.Step{ID: isa.StepID(id), After: g.last, Action: action})
	g.last = []isa.StepID{isa.StepID(id)}
}

func (g *generator) seconds(n int) time.Duration { return time.Duration(1+g.rng.IntN(n)) * time.Second }

// nest drains callers first, and restarts and restores callees first.
func (g *generator) nest(services ...mesh.Service) {
	for _, s := range services {
		g.add("d-"+s.Name(), isa.Drain{Target: isa.Target{Service: s}, OnEmpty: mesh.OnEmptyHold,
			Deadline: g.seconds(15), Lease: 90*time.Second + g.seconds(30)})
	}
	for _, s := range slices.Backward(services) {
		drain := isa.StepID("d-" + s.Name())
		if g.rng.IntN(4) > 0 {
			g.add("r-"+s.Name(), isa.Restart{Target: isa.Target{Service: s}, Drain: drain, Deadline: g.seconds(12)})
		}
	}
	for _, s := range slices.Backward(services) {
		g.add("t-"+s.Name(), isa.RestoreTraffic{Drain: isa.StepID("d-" + s.Name()), Ramp: g.seconds(3)})
	}
}

func (g *generator) macro(s mesh.Service) {
	g.add("m-"+s.Name(), isa.Restart{Target: isa.Target{Service: s}, Deadline: g.seconds(15)})
}

// mutate makes one change: half of them keep most programs valid.
func (g *generator) mutate() {
	i := g.rng.IntN(len(g.steps))
	step := &g.steps[i]
	other := g.steps[g.rng.IntN(len(g.steps))].ID
	switch g.rng.IntN(8) {
	case 0:
		step.After = nil
	case 1:
		step.After = append(slices.Clone(step.After), other)
	case 2:
		step.After = []isa.StepID{other}
	case 3:
		if len(g.steps) > 1 {
			g.steps = slices.Delete(g.steps, i, i+1)
		}
	case 4:
		j := g.rng.IntN(len(g.steps))
		g.steps[i], g.steps[j] = g.steps[j], g.steps[i] // the order of lines means nothing
	case 5:
		if d := consumed(*step); d != "" {
			step.Action = isa.Await{Drain: d, Until: isa.AwaitLease}
		}
	case 6:
		if a, ok := step.Action.(isa.Drain); ok {
			a.Lease = g.seconds(60)
			step.Action = a
		}
	case 7:
		if a, ok := step.Action.(isa.Restart); ok {
			a.Drain = ""
			step.Action = a
		}
	}
}
