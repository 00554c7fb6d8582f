package isa

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// shape checks ids and After lists, and makes the partial order that they stand for.
func (c *checker) shape() {
	steps := c.p.Steps
	if len(steps) > 16 {
		if c.index == nil {
			c.index = make(map[StepID]int, len(steps))
		}
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
			c.resolve(i, k, id)
		}
		c.ends = append(c.ends, len(c.after))
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

// resolve finds the step that entry k of step i's After list names.
func (c *checker) resolve(i, k int, id StepID) {
	j := c.find(id)
	c.after = append(c.after, j)
	switch {
	case j < 0:
		c.add(i, itemPath("after", k), CodeUnknownStep, "there is no step "+quote(string(id)),
			"name a step of this plan")
		c.ordered = false
	case j == i:
		c.add(i, itemPath("after", k), CodeCycle, "the step follows itself", "remove it from after")
		c.ordered = false
	}
}

// sorting is the memory of sort.
type sorting struct {
	waits     []int // for so many steps a step still waits
	at        []int // the followers of step j are followers[at[j+1]:at[j+2]]
	followers []int
}

// zeroed returns list with n zeros, in its own memory if that suffices.
func zeroed[T int | uint64 | time.Duration](list []T, n int) []T {
	list = slices.Grow(list[:0], n)[:n]
	clear(list)
	return list
}

// group lists for each step those that follow it: a counting sort of after.
func (c *checker) group() {
	s, n := &c.order, len(c.p.Steps)
	s.waits, s.at, s.followers = zeroed(s.waits, n), zeroed(s.at, n+2), zeroed(s.followers, len(c.after))
	for _, j := range c.after {
		s.at[j+1]++
	}
	for j := range n {
		s.at[j+1] += s.at[j] // where those of j end; filled backwards, it becomes where they start
	}
	s.at[n+1] = len(c.after)
	for i := n - 1; i >= 0; i-- {
		for _, j := range c.follows(i) {
			s.waits[i]++
			s.at[j+1]--
			s.followers[s.at[j+1]] = i
		}
	}
}

// sort puts the steps in a topological order and fills in before; cycles are faults.
func (c *checker) sort() {
	c.group()
	s, n := &c.order, len(c.p.Steps)
	for i := range n {
		if s.waits[i] == 0 {
			c.topo = append(c.topo, i)
		}
	}
	for at := 0; at < len(c.topo); at++ {
		j := c.topo[at]
		for _, f := range s.followers[s.at[j+1]:s.at[j+2]] {
			if s.waits[f]--; s.waits[f] == 0 {
				c.topo = append(c.topo, f)
			}
		}
	}
	if len(c.topo) < n {
		c.ordered = false
		c.cycles(s.waits)
		return
	}
	c.closure()
}

// closure computes before along the topological order.
func (c *checker) closure() {
	c.words = (len(c.p.Steps) + 63) / 64
	c.before = zeroed(c.before, len(c.p.Steps)*c.words)
	for _, i := range c.topo {
		row := c.before[i*c.words : (i+1)*c.words]
		for _, j := range c.follows(i) {
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
	for _, j := range c.follows(i) {
		if waits[j] > 0 {
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
