package microkernel

import (
	"slices"

	"github.com/sluicemesh/sluice/isa"
)

// graph is the partial order of a program's steps.
type graph struct {
	steps  []isa.Step
	after  [][]int    // indexes of direct predecessors
	order  []int      // a topological order; shorter than steps if cyclic
	before [][]uint64 // before[i] is the bit set of all predecessors of i
	cyclic bool

	ids   map[isa.StepID]int // of the last step with an id, if there are many
	next  [][]int            // indexes of direct successors
	waits []int              // for so many steps a step still waits
	bits  []uint64           // where the rows of before stand
}

// build makes g the graph of steps, in the memory that it has. It resolves the After
// lists; entries that name no step are left out (the checker has refused them).
func (g *graph) build(steps []isa.Step) *graph {
	n := len(steps)
	g.steps, g.order, g.cyclic = steps, g.order[:0], false
	g.after, g.next = emptied(g.after, n), emptied(g.next, n)
	g.waits = slices.Grow(g.waits[:0], n)[:n]
	clear(g.waits)
	g.name()
	for i := range steps {
		for _, id := range steps[i].After {
			if k := g.last(id); k >= 0 {
				g.after[i] = append(g.after[i], k)
				g.next[k] = append(g.next[k], i)
				g.waits[i]++
			}
		}
	}
	g.sort()
	return g
}

// fewSteps is how many are searched one by one.
const fewSteps = 20

// name makes the index of many steps.
func (g *graph) name() {
	clear(g.ids)
	if len(g.steps) <= fewSteps {
		return
	}
	if g.ids == nil {
		g.ids = make(map[isa.StepID]int, len(g.steps))
	}
	for i := range g.steps {
		g.ids[g.steps[i].ID] = i
	}
}

// last returns the index of the last step with id, -1 if there is none.
func (g *graph) last(id isa.StepID) int {
	if len(g.steps) > fewSteps {
		if i, known := g.ids[id]; known {
			return i
		}
		return -1
	}
	for i := len(g.steps) - 1; i >= 0; i-- {
		if g.steps[i].ID == id {
			return i
		}
	}
	return -1
}

// emptied returns n empty lists, in the memory of lists as far as it goes.
func emptied(lists [][]int, n int) [][]int {
	lists = slices.Grow(lists[:0], n)[:n]
	for i := range lists {
		lists[i] = lists[i][:0]
	}
	return lists
}

func (g *graph) sort() {
	n, words, waits := len(g.steps), (len(g.steps)+63)/64, g.waits
	g.bits = slices.Grow(g.bits[:0], n*words)[:n*words]
	clear(g.bits)
	g.before = slices.Grow(g.before[:0], n)[:n]
	for i := range g.steps {
		g.before[i] = g.bits[i*words : (i+1)*words]
		if waits[i] == 0 {
			g.order = append(g.order, i)
		}
	}
	for at := 0; at < len(g.order); at++ {
		i := g.order[at]
		for _, k := range g.after[i] {
			for w := range words {
				g.before[i][w] |= g.before[k][w]
			}
			g.before[i][k/64] |= 1 << (k % 64)
		}
		for _, k := range g.next[i] {
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
