package isa_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// stage is the world of the comparison: shop/a calls shop/b calls shop/c; every other
// service is alone and stands for a limit. shop/d is nothing special.
func stage() world {
	env := &isa.Env{
		GraphSize:    100,
		RestartOrder: []mesh.Service{"shop/c", "shop/d", "shop/b", "shop/a"},
		RestoreOrder: []mesh.Service{"shop/c", "shop/b", "shop/d", "shop/a"},
		DrainOrder:   []mesh.Service{"shop/a", "shop/b", "shop/d", "shop/c"},
	}
	add := func(name mesh.Service, instances int, change func(*isa.ServiceFacts)) {
		f := isa.ServiceFacts{ServiceState: mesh.ServiceState{Name: name, Replicas: instances}, Takes: true}
		f.Instances = instancesOf(name, instances, nil, nil)
		if change != nil {
			change(&f)
		}
		env.Services = append(env.Services, f)
	}
	add("kube-system/coredns", 2, nil)
	for i := range 31 {
		add(ring()[i], 1, func(f *isa.ServiceFacts) { f.Component = ring() })
	}
	add("shop/a", 2, nil)
	add("shop/b", 2, func(f *isa.ServiceFacts) { f.Callers = []mesh.Service{"shop/a"} })
	add("shop/busy", 2, func(f *isa.ServiceFacts) { f.Rate, f.Concurrency = 100, 10 })
	add("shop/c", 2, func(f *isa.ServiceFacts) { f.Callers = []mesh.Service{"shop/b"} })
	add("shop/d", 2, nil)
	add("shop/hub", 2, func(f *isa.ServiceFacts) { f.FanIn = 25 })
	add("shop/idle", 1, func(f *isa.ServiceFacts) { f.Takes = false })
	add("shop/kept", 2, func(f *isa.ServiceFacts) { f.Protected = true })
	add("shop/raft", 3, func(f *isa.ServiceFacts) { f.Quorum, f.MinAvailable = 2, 2 })
	add("sluice/sluiced", 1, nil)
	for _, name := range zoo() {
		add(name, 1, nil)
	}
	return world{env, map[[2]mesh.Service]bool{
		{"shop/a", "shop/b"}: true, {"shop/b", "shop/c"}: true, {"shop/a", "shop/c"}: true,
	}}
}

// ring is one component, larger than a restart set may be.
func ring() []mesh.Service { return numberedServices("ring/r", 31) }

// zoo are more services than one plan may restart.
func zoo() []mesh.Service { return numberedServices("zoo/s", 27) }

func numberedServices(prefix string, n int) []mesh.Service {
	var out []mesh.Service
	for i := range n {
		out = append(out, mesh.Service(fmt.Sprintf("%s%02d", prefix, i)))
	}
	return out
}

// randomProgram makes a program of at most 16 steps: blocks that are valid in the world of
// stage, in an order that is as a rule the right one, then no change, one, or some. It
// returns how many changes were made.
func randomProgram(rng *rand.Rand) (isa.Program, int) {
	g := generator{rng: rng, p: isa.Program{ID: "p"}}
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
	if rng.IntN(3) == 0 {
		g.aside()
	}
	changes := 0
	switch n := rng.IntN(100); {
	case n < 36:
	case n < 88:
		changes = 1
	default:
		changes = 2 + rng.IntN(2)
	}
	for range changes {
		if rng.IntN(4) == 0 {
			g.rearrange()
		} else {
			g.spoil()
		}
	}
	g.p.Steps = g.steps
	return g.p, changes
}

type generator struct {
	rng   *rand.Rand
	p     isa.Program
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

// aside adds one valid step that has nothing to do with the others.
func (g *generator) aside() {
	switch g.rng.IntN(6) {
	case 0:
		g.add("l", isa.RateLimit{Target: of("shop/busy"), PerSecond: 80, Lease: g.seconds(120)})
	case 1:
		g.add("b", isa.CircuitBreak{Target: of("shop/busy"), Caller: "shop/a", MaxRequests: 20, Consecutive5xx: 3})
	case 2:
		g.add("s", isa.Scale{Target: of("shop/raft"), Replicas: 2 + g.rng.IntN(9)})
	case 3:
		g.add("c", isa.RollbackConfig{Object: "configmap/shop/x", Revision: "1"})
	case 4:
		g.add("i", isa.Restart{Target: isa.Target{Service: "shop/idle", Instance: "idle-0"}, NoDrain: true})
	default:
		g.p.Verify = []isa.Check{{Service: "shop/a", For: g.seconds(60)}}
	}
}

func of(service mesh.Service) isa.Target { return isa.Target{Service: service} }

// rearrange changes the shape of the program: half of the changes keep most programs valid.
func (g *generator) rearrange() {
	i := g.rng.IntN(len(g.steps))
	step := &g.steps[i]
	other := g.steps[g.rng.IntN(len(g.steps))].ID
	switch g.rng.IntN(9) {
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
		g.drain(func(d *isa.Drain) { d.Lease = g.seconds(60) })
	case 7:
		if a, ok := step.Action.(isa.Restart); ok {
			a.Drain = ""
			step.Action = a
		}
	case 8:
		if a, ok := step.Action.(isa.RestoreTraffic); ok {
			a.Drain = other
			step.Action = a
		}
	}
}

// drain changes some drain of the program, if it has one.
func (g *generator) drain(change func(*isa.Drain)) {
	first := g.rng.IntN(len(g.steps))
	for k := range g.steps {
		i := (first + k) % len(g.steps)
		if d, ok := g.steps[i].Action.(isa.Drain); ok {
			change(&d)
			g.steps[i].Action = d
			return
		}
	}
}

// beside adds a step that waits for nothing.
func (g *generator) beside(action isa.Action) {
	g.last = nil
	g.add(fmt.Sprintf("x-%d", len(g.steps)), action)
}

// spoil makes a change after which a valid program is as a rule not valid any more.
func (g *generator) spoil() {
	spoilers := [...]func(){g.spoilText, g.spoilDrain, g.spoilTarget, g.spoilOperand, g.spoilLoad, g.spoilRestarts}
	spoilers[g.rng.IntN(len(spoilers))]()
}

func (g *generator) spoilText() {
	i := g.rng.IntN(len(g.steps))
	switch g.rng.IntN(10) {
	case 0:
		g.p.ID = []string{"", "P", "a_b"}[g.rng.IntN(3)]
	case 1:
		g.steps[i].ID = g.steps[g.rng.IntN(len(g.steps))].ID
	case 2:
		g.steps[i].ID = "none"
	case 3:
		g.steps[i].ID = "Step"
	case 4:
		g.steps[i].After = append(slices.Clone(g.steps[i].After), "nobody")
	case 5:
		g.steps[i].After = append(slices.Clone(g.steps[i].After), g.steps[i].ID)
	case 6:
		g.steps[i].Action = nil
	case 7:
		g.p.Deadline = time.Duration(1-2*g.rng.IntN(2)) * 48 * time.Hour
	case 8:
		g.p.Verify = []isa.Check{{Service: []mesh.Service{"shop/nobody", "Shop", "shop/a"}[g.rng.IntN(3)],
			For: time.Duration(g.rng.IntN(2)) * time.Minute}}
	case 9:
		for len(g.steps) < isa.MaxSteps+8 { // also after later changes
			g.add(fmt.Sprintf("y-%d", len(g.steps)), isa.RollbackConfig{Object: "configmap/shop/x", Revision: "1"})
		}
	}
}

func (g *generator) spoilDrain() {
	n := g.rng.IntN(13)
	g.drain(func(d *isa.Drain) {
		switch n {
		case 0:
			d.Share = []int{-1, 101}[g.rng.IntN(2)]
		case 1:
			d.Share = 1 + g.rng.IntN(100)
		case 2:
			d.OnEmpty = ""
		case 3:
			d.OnEmpty = "wait"
		case 4:
			d.Streams = "kill"
		case 5:
			d.Deadline = []time.Duration{-time.Second, 31 * time.Second, 25 * time.Hour}[g.rng.IntN(3)]
		case 6:
			d.Lease = []time.Duration{-time.Second, 121 * time.Second, 25 * time.Hour}[g.rng.IntN(3)]
		case 7:
			d.To = "shop/d"
		case 8:
			d.To, d.OnEmpty = []mesh.Service{"shop/d", "shop/nobody", "Shop", d.Target.Service}[g.rng.IntN(4)], ""
		case 9:
			d.Target.Instance = d.Target.Service.Name() + []string{"-0", "-9"}[g.rng.IntN(2)]
		case 10:
			d.Target.Instance, d.OnEmpty = d.Target.Service.Name()+"-1", ""
		case 11:
			d.Target.Zone = "A B"
		case 12:
			d.Target.UID = mesh.UID("u-" + d.Target.Service.Name() + "-0")
		}
	})
}

func (g *generator) spoilTarget() {
	targets := []mesh.Service{"kube-system/coredns", "sluice/sluiced", "shop/kept", "shop/nobody", "shop/hub", "Shop", "sluice-system/x"}
	t := of(targets[g.rng.IntN(len(targets))])
	switch g.rng.IntN(6) {
	case 0:
		g.beside(isa.Restart{Target: t})
	case 1:
		g.beside(isa.Scale{Target: t, Replicas: 3})
	case 2:
		g.beside(isa.RateLimit{Target: t, PerSecond: 100})
	case 3:
		g.beside(isa.CircuitBreak{Target: t, MaxPending: 100})
	case 4:
		g.beside(isa.RollbackConfig{Object: "deployment/" + string(t.Service), Revision: "7"})
	case 5:
		id := fmt.Sprintf("x-%d", len(g.steps))
		g.beside(isa.Drain{Target: t, OnEmpty: mesh.OnEmptyShed})
		g.add("end", isa.RestoreTraffic{Drain: isa.StepID(id)})
	}
}

func (g *generator) spoilOperand() {
	switch g.rng.IntN(9) {
	case 0:
		g.beside(isa.Scale{Target: of("shop/d"), Replicas: []int{-1, 0, 10_001}[g.rng.IntN(3)]})
	case 1:
		g.beside(isa.Scale{Target: of("shop/raft"), Replicas: 1})
	case 2:
		g.beside(isa.Scale{Target: isa.Target{Group: []mesh.Service{"shop/d"}}, Replicas: 2})
	case 3:
		g.beside(isa.Scale{Target: isa.Target{Service: "shop/d", Zone: "z"}, Replicas: 2})
	case 4:
		g.beside(isa.RollbackConfig{Object: []string{"x", "a/b", "configmap/shop/X"}[g.rng.IntN(3)], Revision: "1"})
	case 5:
		g.beside(isa.RollbackConfig{Object: "configmap/shop/x", Revision: ""})
	case 6:
		g.beside(isa.Await{Drain: g.steps[0].ID, Until: "noon"})
	case 7:
		mode := []isa.Mode{isa.InPlace, "hard"}[g.rng.IntN(2)]
		g.beside(isa.Restart{Target: of("shop/raft"), Mode: mode, Deadline: time.Duration(g.rng.IntN(3)-1) * 20 * time.Hour})
	case 8:
		g.beside(isa.RateLimit{Target: of("shop/busy"), PerSecond: 90, Caller: []mesh.Service{"shop/nobody", "X", "outside/gate"}[g.rng.IntN(3)]})
	}
}

func (g *generator) spoilLoad() {
	lease := []time.Duration{0, 0, -1, 3 * time.Minute, 25 * time.Hour}[g.rng.IntN(5)]
	switch g.rng.IntN(5) {
	case 0:
		rate := []float64{0, -1, math.NaN(), 2e9, 49, 50, 100}[g.rng.IntN(7)]
		g.beside(isa.RateLimit{Target: of("shop/busy"), PerSecond: rate, Lease: lease})
	case 1:
		burst := []uint32{1, 4, 5, 1<<30 + 1}[g.rng.IntN(4)]
		g.beside(isa.RateLimit{Target: of("shop/busy"), PerSecond: 100, Burst: burst, Lease: lease})
	case 2:
		g.beside(isa.CircuitBreak{Target: of("shop/busy"), MaxRequests: []uint32{19, 20, 1<<30 + 1}[g.rng.IntN(3)], Lease: lease})
	case 3:
		g.beside(isa.CircuitBreak{Target: of("shop/busy"), Consecutive5xx: uint32(g.rng.IntN(4)), MaxRetries: uint32(g.rng.IntN(2))})
	case 4:
		g.beside(isa.RateLimit{Target: of("shop/d"), PerSecond: 10})
		g.add("again", isa.RateLimit{Target: of("shop/d"), PerSecond: 20})
	}
}

func (g *generator) spoilRestarts() {
	switch g.rng.IntN(8) {
	case 0:
		g.beside(isa.Restart{Target: of(ring()[0])})
	case 1:
		g.beside(isa.Restart{Target: isa.Target{Group: zoo()}})
	case 2:
		g.beside(isa.Restart{Target: isa.Target{Group: []mesh.Service{"zoo/s00", "zoo/s01", "zoo/s00"}}})
	case 3:
		g.beside(isa.Restart{Target: isa.Target{Service: "shop/d", Instance: "d-0"}})
	case 4:
		g.beside(isa.Restart{Target: of("shop/raft"), NoDrain: true})
	case 5:
		g.beside(isa.Restart{Target: isa.Target{Service: "shop/idle", Instance: "idle-7"}, NoDrain: true})
	case 6:
		g.beside(isa.Restart{Target: of("shop/idle")})
		g.beside(isa.Restart{Target: of("shop/idle"), NoDrain: true})
	case 7:
		for i := range g.steps {
			if a, ok := g.steps[i].Action.(isa.Restart); ok && a.Drain != "" {
				a.Target.Service, a.NoDrain = "shop/d", g.rng.IntN(2) == 0
				g.steps[i].Action = a
				return
			}
		}
	}
}
