package microkernel

import (
	"github.com/sluicemesh/sluice/isa"
)

// graph is the partial order of a program's steps.
type graph struct {
	steps  []isa.Step
	after  [][]int    // indexes of direct predecessors
	order  []int      // a topological order; shorter than steps if cyclic
	before [][]uint64 // before[i] is the bit set of all predecessors of i
	cyclic bool
}

// newGraph resolves the After lists; entries that name no step are left out (the
// checker has refused them).
func newGraph(steps []isa.Step) *graph {
	g := &graph{steps: steps, after: make([][]int, len(steps)), before: make([][]uint64, len(steps))}
	index := make(map[isa.StepID]int, len(steps))
	for i := range steps {
		index[steps[i].ID] = i
	}
	next := make([][]int, len(steps))
	waits := make([]int, len(steps))
	for i := range steps {
		for _, id := range steps[i].After {
			if k, known := index[id]; known {
				g.after[i] = append(g.after[i], k)
				next[k] = append(next[k], i)
				waits[i]++
			}
		}
	}
	g.sort(next, waits)
	return g
}

func (g *graph) sort(next [][]int, waits []int) {
	words := (len(g.steps) + 63) / 64
	for i := range g.steps {
		if waits[i] == 0 {
			g.order = append(g.order, i)
		}
	}
	for at := 0; at < len(g.order); at++ {
		i := g.order[at]
		g.before[i] = make([]uint64, words)
		for _, k := range g.after[i] {
			for w := range words {
				g.before[i][w] |= g.before[k][w]
			}
			g.before[i][k/64] |= 1 << (k % 64)
		}
		for _, k := range next[i] {
			if waits[k]--; waits[k] == 0 {
				g.order = append(g.order, k)
			}
		}
	}
	g.cyclic = len(g.order) < len(g.steps)
}

// precedes reports whether step i is confirmed before step k starts.
func (g *graph) precedes(i, k int) bool { return g.before[k][i/64]&(1<<(i%64)) != 0 }

// together reports whether steps i and k may be under way at once.
func (g *graph) together(i, k int) bool { return !g.precedes(i, k) && !g.precedes(k, i) }

// index returns the index of the step with id, -1 if there is none.
func (g *graph) index(id isa.StepID) int {
	for i := range g.steps {
		if g.steps[i].ID == id {
			return i
		}
	}
	return -1
}

// restore returns the index of the step that gives back drain, -1 if there is none.
func (g *graph) restore(drain isa.StepID) int {
	for i := range g.steps {
		if r, ok := g.steps[i].Action.(isa.RestoreTraffic); ok && r.Drain == drain {
			return i
		}
	}
	return -1
}
