package isa

import (
	"fmt"
	"slices"
	"strings"
)

// shape checks ids and After lists, and makes the partial order that they stand for.
func (c *checker) shape() {
	steps := c.p.Steps
	if len(steps) > 16 {
		c.index = make(map[StepID]int, len(steps))
		for i := range steps {
			if _, found := c.index[steps[i].ID]; !found {
				c.index[steps[i].ID] = i
			}
		}
	}
	c.ordered = true
	for i := range steps {
		c.identity(i)
		for k, id := range steps[i].After {
			c.follows(i, k, id)
		}
	}
	if c.ordered {
		c.sort()
	}
}

func (c *checker) identity(i int) {
	id := c.p.Steps[i].ID
	switch {
	case idFault(string(id), c.idLimit) != "":
		c.add(i, "id", CodeName, "the step's id "+quote(string(id))+" "+idFault(string(id), c.idLimit),
			"give it 1-64 of [a-z0-9-]")
		c.ordered = false
	case id == none:
		c.add(i, "id", CodeName, `no step may be called "none"`, `it stands for "no drain"; choose another id`)
	case c.find(id) != i:
		c.add(i, "id", CodeName, "the id "+quote(string(id))+" is used twice", "give each step its own id")
		c.ordered = false
	}
	if c.p.Steps[i].Action == nil {
		c.add(i, "", CodeDecode, "the step has no action", "give it one")
	}
}

func (c *checker) follows(i, k int, id StepID) {
	switch j := c.find(id); {
	case j < 0:
		c.add(i, itemPath("after", k), CodeUnknownStep, "there is no step "+quote(string(id)),
			"name a step of this plan")
		c.ordered = false
	case j == i:
		c.add(i, itemPath("after", k), CodeCycle, "the step follows itself", "remove it from after")
		c.ordered = false
	}
}

// sort puts the steps in a topological order and fills in before; cycles are faults.
func (c *checker) sort() {
	n := len(c.p.Steps)
	waits := make([]int, n)
	followers := make([][]int, n)
	for i := range c.p.Steps {
		for _, id := range c.p.Steps[i].After {
			j := c.find(id)
			waits[i]++
			followers[j] = append(followers[j], i)
		}
	}
	c.topo = make([]int, 0, n)
	for i := range waits {
		if waits[i] == 0 {
			c.topo = append(c.topo, i)
		}
	}
	for at := 0; at < len(c.topo); at++ {
		for _, f := range followers[c.topo[at]] {
			if waits[f]--; waits[f] == 0 {
				c.topo = append(c.topo, f)
			}
		}
	}
	if len(c.topo) < n {
		c.ordered = false
		c.cycles(waits)
		return
	}
	c.closure()
}

// closure computes before along the topological order.
func (c *checker) closure() {
	n := len(c.p.Steps)
	c.words = (n + 63) / 64
	c.before = c.small[:]
	if n > 64 {
		c.before = make([]uint64, n*c.words)
	}
	for _, i := range c.topo {
		row := c.before[i*c.words : (i+1)*c.words]
		for _, id := range c.p.Steps[i].After {
			j := c.find(id)
			for w, bits := range c.before[j*c.words : (j+1)*c.words] {
				row[w] |= bits
			}
			row[j/64] |= 1 << (j % 64)
		}
	}
}

// cycles reports one fault a cycle among the steps that still wait. Every one of them
// has a predecessor that waits, so walking back ends in a cycle or in one that is known.
func (c *checker) cycles(waits []int) {
	walk := make([]int, len(waits)) // in which walk a step was met, 0 = none
	for start := range waits {
		if waits[start] == 0 || walk[start] != 0 {
			continue
		}
		var trail []int
		at := start
		for walk[at] == 0 {
			walk[at] = start + 1
			trail = append(trail, at)
			at = c.waiting(at, waits)
		}
		if walk[at] == start+1 {
			c.cycle(trail[slices.Index(trail, at):])
		}
	}
}

// waiting returns a predecessor of step i that waits.
func (c *checker) waiting(i int, waits []int) int {
	for _, id := range c.p.Steps[i].After {
		if j := c.find(id); waits[j] > 0 {
			return j
		}
	}
	return i
}

func (c *checker) cycle(members []int) {
	var names []string
	for _, i := range members[:min(len(members), 8)] {
		names = append(names, string(c.p.Steps[i].ID))
	}
	if len(members) > 8 {
		names = append(names, fmt.Sprintf("... (%d steps)", len(members)))
	}
	at := slices.Min(members)
	c.add(at, "after", CodeCycle, "steps wait for each other: "+strings.Join(names, " after ")+" after "+names[0],
		"remove one of these dependencies")
}
