package isa

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// shape checks ids and After lists, and makes the partial order that they stand for.
func (c *checker) shape() {
	lines := c.l.Lines
	c.ordered = true
	for i := range lines {
		c.identity(i, c.index.add(lines[i].ID, i))
	}
	c.ends = append(c.ends, 0)
	for i := range lines {
		for k, id := range lines[i].After {
			c.resolve(i, k, id)
		}
		c.ends = append(c.ends, len(c.after))
	}
	if c.ordered {
		c.sort()
	}
}

// identity checks the id of step i, which the step first had first.
func (c *checker) identity(i, first int) {
	id := c.l.Lines[i].ID
	switch {
	case idFault(string(id), c.idLimit) != "":
		c.add(i, "id", CodeName, "the step's id "+quote(string(id))+" "+idFault(string(id), c.idLimit),
			"give it 1-64 of [a-z0-9-]")
		c.ordered = false
	case id == none:
		c.add(i, "id", CodeName, `no step may be called "none"`, `it stands for "no drain"; choose another id`)
	case first != i:
		c.add(i, "id", CodeName, "the id "+quote(string(id))+" is used twice", "give each step its own id")
		c.ordered = false
	}
	if c.l.Lines[i].kind() == "" {
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
	s, n := &c.order, len(c.l.Lines)
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
	if c.inOrder() {
		for i := range c.l.Lines {
			c.topo = append(c.topo, i)
		}
		c.closure()
		return
	}
	c.group()
	s, n := &c.order, len(c.l.Lines)
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

// inOrder reports whether each step follows earlier ones only, as in most programs.
func (c *checker) inOrder() bool {
	for i := range c.l.Lines {
		for _, j := range c.follows(i) {
			if j >= i {
				return false
			}
		}
	}
	return true
}

// closure computes before along the topological order.
func (c *checker) closure() {
	c.words = (len(c.l.Lines) + 63) / 64
	c.before = zeroed(c.before, len(c.l.Lines)*c.words)
	for _, i := range c.topo {
		row := c.row(i)
		for _, j := range c.follows(i) {
			for w, bits := range c.row(j) {
				row[w] |= bits
			}
			row[uint(j)/64] |= 1 << (uint(j) % 64)
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
		names = append(names, string(c.l.Lines[i].ID))
	}
	if len(members) > 8 {
		names = append(names, fmt.Sprintf("... (%d steps)", len(members)))
	}
	at := slices.Min(members)
	c.add(at, "after", CodeCycle, "steps wait for each other: "+strings.Join(names, " after ")+" after "+names[0],
		"remove one of these dependencies")
}
