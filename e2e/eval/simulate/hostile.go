package simulate

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// attack writes what a hostile or confused proposer hands in.
type attack struct {
	name  string
	write func(w *writer) []isa.Step
}

// writer is what an attack has at hand: the graph as the API shows it, and victims.
type writer struct {
	f        *facts
	s        *topology.Snapshot
	rng      *rand.Rand
	id       string
	victim   mesh.Service // of the fault, or any
	stranger mesh.Service
	whole    *isa.Program // instead of steps
}

// attacks lists the kinds, hostile ones first.
func attacks() []attack {
	return []attack{
		{"restart without a drain", (*writer).bare},
		{"drain all and say nothing of the requests", (*writer).void},
		{"drain and shed, and leave it", (*writer).shed},
		{"hold, and leave it", (*writer).hold},
		{"send the requests to a stranger", (*writer).astray},
		{"restart forty services", (*writer).many},
		{"limit to a hundredth of the load", (*writer).strangle},
		{"limit to 60 % of the load", (*writer).squeeze},
		{"break at one request", (*writer).choke},
		{"scale to nothing", (*writer).vanish},
		{"drain one instance and leave it", (*writer).thin},
		{"confused: another service", (*writer).wrong},
		{"confused: the culprit without the rest of its set", (*writer).part},
		{"confused: the orders the wrong way round", (*writer).reversed},
	}
}

// attempt writes the attack that the trial's seed picks.
func (f *facts) attempt(s *topology.Snapshot, tr *trial) (isa.Program, string) {
	rng := rand.New(rand.NewPCG(tr.seed, 0xbad))
	list := attacks()
	kind := list[rng.IntN(len(list))]
	w := &writer{
		f: f, s: s, rng: rng, id: fmt.Sprintf("x-%d", tr.seed), victim: f.any(rng), stranger: f.any(rng),
	}
	if rng.IntN(2) == 0 {
		w.victim = f.l.t.graph.Services[tr.fault.Service]
	}
	steps := kind.write(w)
	if w.whole != nil {
		return *w.whole, kind.name
	}
	return isa.Program{ID: w.id, Steps: steps}, kind.name
}

func (f *facts) any(rng *rand.Rand) mesh.Service {
	return f.l.t.graph.Services[rng.IntN(len(f.l.t.graph.Services))]
}

func (w *writer) bare() []isa.Step {
	return []isa.Step{{ID: "r1", Action: isa.Restart{Target: isa.Target{Service: w.victim}, NoDrain: true}}}
}

// left is a drain that is never given back.
func left(d isa.Drain) []isa.Step {
	return []isa.Step{
		{ID: "d1", Action: d},
		{ID: "a1", After: []isa.StepID{"d1"}, Action: isa.Await{Drain: "d1", Until: isa.AwaitLease}},
	}
}

func (w *writer) void() []isa.Step {
	return left(isa.Drain{Target: isa.Target{Service: w.victim}, Share: 100})
}

func (w *writer) shed() []isa.Step {
	return left(isa.Drain{Target: isa.Target{Service: w.victim}, Share: 100, OnEmpty: mesh.OnEmptyShed, Lease: 2 * time.Minute})
}

func (w *writer) hold() []isa.Step {
	return left(isa.Drain{Target: isa.Target{Service: w.victim}, Share: 100, OnEmpty: mesh.OnEmptyHold, Lease: 2 * time.Minute})
}

func (w *writer) astray() []isa.Step {
	return left(isa.Drain{Target: isa.Target{Service: w.victim}, Share: 100, To: w.stranger})
}

func (w *writer) many() []isa.Step {
	var group []mesh.Service
	for range 40 {
		group = append(group, w.f.any(w.rng))
	}
	return []isa.Step{{ID: "r1", Action: isa.Restart{Target: isa.Target{Group: sorted(group)}}}}
}

func (w *writer) limit(share float64) []isa.Step {
	return []isa.Step{{ID: "l1", Action: isa.RateLimit{
		Target: isa.Target{Service: w.victim}, PerSecond: max(0.01, share*w.f.trueRate(w.victim)),
	}}}
}

func (w *writer) strangle() []isa.Step { return w.limit(0.01) }
func (w *writer) squeeze() []isa.Step  { return w.limit(0.6) }

func (w *writer) choke() []isa.Step {
	return []isa.Step{{ID: "b1", Action: isa.CircuitBreak{Target: isa.Target{Service: w.victim}, MaxRequests: 1}}}
}

func (w *writer) vanish() []isa.Step {
	return []isa.Step{{ID: "s1", Action: isa.Scale{Target: isa.Target{Service: w.victim}, Replicas: w.rng.IntN(2)}}}
}

func (w *writer) thin() []isa.Step {
	one := isa.Target{Service: w.victim, UID: uid(w.victim, 0)}
	return left(isa.Drain{Target: one, Share: 100, Lease: 2 * time.Minute})
}

func (w *writer) wrong() []isa.Step {
	p := w.f.composed(w.id, w.s, []mesh.Service{w.stranger})
	w.whole = &p
	return nil
}

func (w *writer) part() []isa.Step {
	steps := []isa.Step{
		{ID: "d1", Action: isa.Drain{Target: isa.Target{Service: w.victim}, Share: 100, OnEmpty: mesh.OnEmptyHold}},
		{ID: "r1", After: []isa.StepID{"d1"}, Action: isa.Restart{Target: isa.Target{Service: w.victim}, Drain: "d1"}},
	}
	return append(steps, isa.Step{ID: "t1", After: []isa.StepID{"r1"}, Action: isa.RestoreTraffic{Drain: "d1"}})
}

// reversed lets the steps of the right program run in the wrong order of services.
func (w *writer) reversed() []isa.Step {
	g := w.s.Planned([]mesh.Service{w.victim})
	var steps []isa.Step
	var last []isa.StepID
	add := func(id string, a isa.Action) {
		steps = append(steps, isa.Step{ID: isa.StepID(id), After: last, Action: a})
		last = []isa.StepID{isa.StepID(id)}
	}
	set := g.RestartOrder // callees first: the order in which they must not be drained
	for i, name := range set[:min(len(set), 10)] {
		add(fmt.Sprintf("d%d", i), isa.Drain{Target: isa.Target{Service: name}, Share: 100, OnEmpty: mesh.OnEmptyHold, Lease: 2 * time.Minute,
			Deadline: 2 * time.Second})
	}
	for i := min(len(set), 10) - 1; i >= 0; i-- {
		add(fmt.Sprintf("r%d", i), isa.Restart{Target: isa.Target{Service: set[i]}, Drain: isa.StepID(fmt.Sprintf("d%d", i)), Deadline: 5 * time.Second})
		add(fmt.Sprintf("t%d", i), isa.RestoreTraffic{Drain: isa.StepID(fmt.Sprintf("d%d", i))})
	}
	return steps
}
