package isa

import "slices"

// names tells the numbers of ids. It is a hash table of open addressing and not a map,
// because it is built for every program that is checked, and is small as a rule.
type names struct {
	entries []nameEntry // a power of two, less than half of them in use
}

// nameEntry is one id. The zero value is free.
type nameEntry struct {
	id     StepID
	number int // + 1
}

// leastNames is the size of a table of few ids.
const leastNames = 32

// begin empties n and makes room for so many ids.
func (n *names) begin(count int) {
	size := leastNames
	for size < 2*count+1 {
		size *= 2
	}
	n.entries = slices.Grow(n.entries[:0], size)[:size]
	clear(n.entries)
}

// entry returns the entry of id, a free one if it has none.
func (n *names) entry(id StepID) *nameEntry {
	mask := uint32(len(n.entries) - 1)
	for at := hashOf(id); ; at++ {
		if e := &n.entries[at&mask]; e.number == 0 || e.id == id {
			return e
		}
	}
}

// find returns the number of id, -1 if it has none.
func (n *names) find(id StepID) int { return n.entry(id).number - 1 }

// add gives id the number, unless it has one, and returns the one that it has then.
func (n *names) add(id StepID, number int) int {
	e := n.entry(id)
	if e.number == 0 {
		*e = nameEntry{id, number + 1}
	}
	return e.number - 1
}

// set gives id the number, and returns the one that it had before, -1 if it had none.
func (n *names) set(id StepID, number int) int {
	e := n.entry(id)
	before := e.number - 1
	*e = nameEntry{id, number + 1}
	return before
}

// hashOf is FNV-1a.
func hashOf(id StepID) uint32 {
	hash := uint32(2166136261)
	for i := range len(id) {
		hash = (hash ^ uint32(id[i])) * 16777619
	}
	return hash ^ hash>>15
}
