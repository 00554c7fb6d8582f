package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// verdict is the way from a decoded plan of ten actions to its verdict in a mesh of 5,000
// services: the static checks of the program as written, its expansion, the checks of what
// came of it, and the kernel's admission. Both sides are given the same facts, those of
// the services that the plan touches, gathered beforehand; each has been called before.
func verdict() Bench {
	const reference = "cel-go 0.31, 24 of the rules, compiled once and optimised"
	return Bench{
		Rows: []Row{
			{Name: "verdict_p99", Unit: "us", ReferenceName: reference, Floor: 50, Reach: 20},
			{Name: "verdict_allocs", Unit: "allocations", ReferenceName: reference, Floor: 8, Reach: 0},
		},
		Open: openVerdict,
	}
}

const (
	meshSize     = 5000
	plansOfARun  = 64   // different ones, over different services
	verdictsARun = 8192 // of each side
	block        = 4096 // of one side before it is the other's turn
)

func openVerdict(_ context.Context, env *Env) (Measure, error) {
	state := leading()
	proposals := make([]microkernel.Submitted, plansOfARun)
	inputs := make([]map[string]any, plansOfARun)
	rules, err := compileRules()
	if err != nil {
		return nil, err
	}
	for n := range proposals {
		if proposals[n], err = proposal(n * (meshSize / plansOfARun / 4)); err != nil {
			return nil, err
		}
		inputs[n] = celInput(&proposals[n])
	}
	env.Note("%d rules in CEL", len(rules))
	var judge microkernel.Judge
	ours := func(n int) error {
		if v := judge.Verdict(&state, &proposals[n]); v.Outcome != microkernel.Admit {
			return fmt.Errorf("plan %d: %+v", n, v)
		}
		return nil
	}
	reference := func(n int) error { return rules.admit(inputs[n]) }
	return func(context.Context) ([]Pair, error) {
		p99, err := tail(env, ours, reference)
		if err != nil {
			return nil, err
		}
		allocs, err := allocations(ours, reference)
		return []Pair{p99, allocs}, err
	}, nil
}

// leading is a kernel that takes plans.
func leading() microkernel.State {
	at := microkernel.Stamp{At: microkernel.Instant(time.Hour)}
	s := microkernel.New(microkernel.DefaultPolicy())
	s, _ = microkernel.Step(s, microkernel.Led{Stamp: at, Term: 1})
	s, _ = microkernel.Step(s, microkernel.Probed{Stamp: at})
	return s
}

// proposal is a plan of ten actions over four services from number on: a chain of three
// that call each other is drained, restarted and restored, the fourth is limited. Every
// operand is written out, and each service has two instances.
func proposal(number int) (microkernel.Submitted, error) {
	var names [4]mesh.Service
	for i := range names {
		names[i] = mesh.Service(fmt.Sprintf("shop/s%04d", number+i))
	}
	a, b, c, d := names[0], names[1], names[2], names[3]
	src := fmt.Sprintf(`plan p-%d
d1 = drain %s 100%% hold streams wait deadline 30s lease 120s
d2 = drain %s 100%% hold streams wait deadline 30s lease 120s after d1
d3 = drain %s 100%% hold streams wait deadline 30s lease 120s after d2
r3 = restart %s rolling with d3 deadline 10s after d3
r2 = restart %s rolling with d2 deadline 10s after r3
r1 = restart %s rolling with d1 deadline 10s after r2
t3 = restore d3 after r1
t2 = restore d2 after t3
t1 = restore d1 after t2
l1 = limit %s 80/s burst 80 lease 60s
verify %s for 30s
`, number, a, b, c, c, b, a, d, a)
	program, _, faults := isa.ParseText([]byte(src))
	if len(faults) > 0 {
		return microkernel.Submitted{}, faults[0]
	}
	up := []mesh.Service{c, b, a}
	view := microkernel.View{
		Epoch: "sha256:e", GraphSize: meshSize, Requests: 1_000_000, Declared: true, Sampling: 1,
		RestartSet: []mesh.Service{a, b, c}, DrainOrder: []mesh.Service{a, b, c}, RestartSeq: up, RestoreSeq: up,
		BlastRadius: []mesh.Service{"outside/ingress", a, b, c},
	}
	callers := [4][]mesh.Service{{"outside/ingress"}, {a}, {b}, {a}}
	for i, name := range names {
		view.Services = append(view.Services, facts(name, callers[i]))
	}
	by := microkernel.Principal{Name: "ann", Role: microkernel.Approver}
	return microkernel.Submitted{By: by, Program: program, View: view}, nil
}

func facts(name mesh.Service, callers []mesh.Service) microkernel.ServiceView {
	v := microkernel.ServiceView{
		Capability: mesh.Capability{
			Drain: true, Hold: true, Shed: true, Reroute: true, Limit: true, Break: true, InPlace: true, Grade: mesh.GradeA,
		},
		FanIn: len(callers), Callers: callers, Component: []mesh.Service{name}, RestartP99: time.Second,
		CallerDeadline: 15 * time.Second, Rate: 100, Concurrency: 10, Takes: true, Declares: true,
	}
	v.Name, v.Replicas = name, 2
	for i := range 2 {
		v.Instances = append(v.Instances, mesh.Instance{
			Ref:  mesh.Ref{Service: name, UID: mesh.UID(fmt.Sprintf("u-%s-%d", name.Name(), i)), Incarnation: 1},
			Name: fmt.Sprintf("%s-%d", name.Name(), i), State: mesh.Ready, Proxy: "sidecar",
		})
	}
	return v
}

// tail is the 99th percentile of one call of each, in microseconds. They take turns in
// blocks, each of which begins with a clean heap: a side pays for its own garbage only.
// What the machine adds is noted: the tail of a loop that only counts, as long as ours.
func tail(env *Env, ours, reference func(int) error) (Pair, error) {
	took := [2][]float64{}
	var idle []float64
	for range verdictsARun / block {
		for k, f := range [2]func(int) error{ours, reference} {
			runtime.GC()
			lap, err := laps(f)
			if err != nil {
				return Pair{}, err
			}
			took[k] = append(took[k], lap...)
		}
		long := time.Duration(percentile(slices.Clone(took[0]), 0.5) * float64(time.Microsecond))
		lap, _ := laps(counting(long))
		idle = append(idle, lap...)
	}
	p := Pair{Ours: percentile(took[0], 0.99), Reference: percentile(took[1], 0.99)}
	env.Note("ours: half within %.1f us, 90 %% %.1f, 99 %% %.1f; a loop that only counts: %.1f, %.1f, %.1f",
		percentile(took[0], 0.5), percentile(took[0], 0.9), p.Ours,
		percentile(idle, 0.5), percentile(idle, 0.9), percentile(idle, 0.99))
	return p, nil
}

// laps calls f for a block, and returns what each call took, in microseconds. Each plan has
// been judged once before: what the other side left in the caches is not counted.
func laps(f func(int) error) ([]float64, error) {
	for n := range plansOfARun {
		if err := f(n); err != nil {
			return nil, err
		}
	}
	out := make([]float64, block)
	for n := range out {
		started := time.Now()
		err := f(n % plansOfARun)
		out[n] = float64(time.Since(started)) / float64(time.Microsecond)
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// counting returns a function that counts for about as long, and touches no memory.
func counting(long time.Duration) func(int) error {
	const trial = 1 << 15
	least := time.Hour // of several, so that one which was interrupted does not count
	for range 16 {
		started := time.Now()
		if count(trial) != 0 {
			least = min(least, time.Since(started))
		}
	}
	turns := int(float64(trial) * float64(long) / float64(max(least, 1)))
	return func(int) error {
		if count(turns) == 0 {
			return errors.New("a generator of full period came back to 0")
		}
		return nil
	}
}

// count takes so many turns of a generator of pseudo-random numbers, each of which needs the one before.
func count(turns int) uint64 {
	x := uint64(1)
	for range turns {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

// percentile sorts values.
func percentile(values []float64, share float64) float64 {
	slices.Sort(values)
	return values[int(math.Ceil(share*float64(len(values))))-1]
}

// allocations counts those of one call of each.
func allocations(ours, reference func(int) error) (Pair, error) {
	var counts [2]float64
	for k, f := range [2]func(int) error{ours, reference} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for n := range plansOfARun {
			if err := f(n); err != nil {
				return Pair{}, err
			}
		}
		runtime.ReadMemStats(&after)
		counts[k] = float64(after.Mallocs-before.Mallocs) / plansOfARun
	}
	return Pair{Ours: math.Round(counts[0]), Reference: math.Round(counts[1])}, nil
}
