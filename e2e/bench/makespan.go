package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

const (
	disjointSets = 16
	overlapping  = 4 // more plans, each over the set of one of the first
)

// makespan is how long the kernel takes for many plans of an operator at once, on the
// simulated clock: 16 over disjoint restart sets and 4 that overlap with one of these.
// The reference is what nobody can beat: the slowest plan alone, or where sets overlap the
// sum of the plans that must follow each other.
func makespan() Bench {
	return Bench{
		Rows: []Row{{
			Name: "makespan_k16", Unit: "s", ReferenceName: "the slowest plan alone, or those that overlap one after the other",
			Rule: Times, Floor: 1.25, Reach: 1.05,
		}},
		Open: func(context.Context, *Env) (Measure, error) {
			seed := uint64(0)
			return func(context.Context) ([]Pair, error) {
				seed++
				p, err := race(newGroups(rand.New(rand.NewPCG(seed, 16))))
				return []Pair{p}, err
			}, nil
		},
	}
}

// group is a service, its only caller, which does not survive its restart, and how long
// each takes to start.
type group struct {
	callee, caller mesh.Service
	starts         [2]time.Duration
}

func newGroups(rng *rand.Rand) []group {
	groups := make([]group, disjointSets)
	for i := range groups {
		g := &groups[i]
		g.callee, g.caller = mesh.Service(fmt.Sprintf("shop/db-%d", i)), mesh.Service(fmt.Sprintf("shop/web-%d", i))
		for k := range g.starts {
			g.starts[k] = 2*time.Second + time.Duration(rng.Int64N(int64(4*time.Second)))
		}
	}
	return groups
}

// race runs the disjoint plans alone, and with those that overlap, and returns what was
// further from its bound.
func race(groups []group) (Pair, error) {
	plans := make([]int, 0, disjointSets+overlapping)
	for i := range groups {
		plans = append(plans, i)
	}
	disjoint, err := together(groups, plans)
	if err != nil {
		return Pair{}, err
	}
	for i := range overlapping {
		plans = append(plans, i*disjointSets/overlapping)
	}
	mixed, err := together(groups, plans)
	if mixed.Ours/mixed.Reference > disjoint.Ours/disjoint.Reference {
		return mixed, err
	}
	return disjoint, err
}

// together runs all plans at once, then each one alone.
func together(groups []group, all []int) (Pair, error) {
	ours, err := newClockwork(groups).play(all)
	if err != nil {
		return Pair{}, err
	}
	var bound time.Duration
	alone := make([]time.Duration, len(groups))
	for _, i := range all {
		took, err := newClockwork(groups).play([]int{i})
		if err != nil {
			return Pair{}, err
		}
		alone[i] += took
		bound = max(bound, alone[i])
	}
	return Pair{Ours: ours.Seconds(), Reference: bound.Seconds()}, nil
}

// program drains both, restarts the callee before its caller, and gives traffic back.
func (g *group) program(id string) (isa.Program, error) {
	src := fmt.Sprintf(`plan %s
d1 = drain %[2]s hold lease 120s
d2 = drain %[3]s hold lease 120s after d1
r2 = restart %[3]s in-place with d2 after d2
r1 = restart %[2]s in-place with d1 after r2
t2 = restore d2 after r1
t1 = restore d1 after t2
verify %[2]s for 5s
`, id, g.caller, g.callee)
	program, _, faults := isa.ParseText([]byte(src))
	if len(faults) > 0 {
		return program, faults[0]
	}
	return program, nil
}

// view is the facts of the group: one instance each.
func (g *group) view(incarnation map[mesh.UID]uint64) microkernel.View {
	up, down := []mesh.Service{g.callee, g.caller}, []mesh.Service{g.caller, g.callee}
	v := microkernel.View{
		Epoch: "sha256:e", GraphSize: 2 * disjointSets, Requests: 1_000_000, Declared: true, Sampling: 1,
		RestartSet: up, DrainOrder: down, RestartSeq: up, RestoreSeq: up,
		BlastRadius: []mesh.Service{"outside/ingress", g.callee, g.caller},
	}
	callers := [2][]mesh.Service{{g.caller}, {"outside/ingress"}}
	for i, name := range up {
		s := facts(name, callers[i])
		s.Instances = s.Instances[:1]
		s.Instances[0].Incarnation = incarnation[s.Instances[0].UID] + 1
		s.Replicas, s.RestartP99 = 1, g.starts[i]
		if i == 0 {
			s.StickyCallers = callers[0]
		}
		v.Services = append(v.Services, s)
	}
	return v
}
