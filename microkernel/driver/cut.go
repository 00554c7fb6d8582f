package driver

import (
	"cmp"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// cutWork bounds the search for a cut: edges looked at. It is spent in about 100 ms.
const cutWork = 3_000_000

// cutSinks is how many members of a set are tried as the one to be parted from it.
const cutSinks = 32

// cutOf returns calls or sticky marks of least weight, in calls, whose removal leaves no
// restart set above limit in set; nil if none is found within bounds. It parts one member
// after another from the largest set, always by the minimum cut that costs least for each
// member that goes, and then takes back whatever is not needed, the dearest first. So what
// it returns is enough, and none of it can be left out; that nothing else is cheaper is not
// promised: to find that out is as hard as a balanced partition.
func cutOf(set []mesh.Service, edges []topology.Edge, limit int) []microkernel.CallEdge {
	c := newCutter(set, edges, limit)
	for {
		v, size := c.largest()
		switch {
		case c.work < 0:
			return nil
		case size <= limit:
			return c.result()
		case !c.part(v, size):
			return nil
		}
	}
}

// cutter is a set of services that shall fall apart.
type cutter struct {
	names []mesh.Service
	arcs  []arc
	out   [][]int // arcs by caller
	into  [][]int // by callee
	limit int
	work  int // edges that may still be looked at
}

// arc is a call between two members.
type arc struct {
	from, to int // caller and callee
	calls    uint64
	weight   int64 // calls, and 1 for the edge itself
	sticky   bool
	cut      bool
}

func newCutter(set []mesh.Service, edges []topology.Edge, limit int) *cutter {
	c := &cutter{names: set, limit: limit, work: cutWork, out: make([][]int, len(set)), into: make([][]int, len(set))}
	number := make(map[mesh.Service]int, len(set))
	for i, name := range set {
		number[name] = i
	}
	for i := range edges {
		from, a := number[edges[i].Caller]
		to, b := number[edges[i].Callee]
		if !a || !b || from == to {
			continue
		}
		c.out[from], c.into[to] = append(c.out[from], len(c.arcs)), append(c.into[to], len(c.arcs))
		weight := int64(min(edges[i].Calls, 1<<40)) + 1
		c.arcs = append(c.arcs, arc{from: from, to: to, calls: edges[i].Calls, weight: weight, sticky: edges[i].Sticky})
	}
	return c
}

// largest returns the member with the largest restart set.
func (c *cutter) largest() (member, size int) {
	p := c.components()
	for _, members := range p.members {
		if n := c.coupled(members[0], p); n > size {
			member, size = members[0], n
		}
	}
	return member, size
}

// coupled counts the restart set of v: its component and, again and again, all that
// sticks to it.
func (c *cutter) coupled(v int, p parts) int {
	c.work -= len(c.names) / 64 // for seen
	seen := make([]bool, len(c.names))
	queue := slices.Clone(p.members[p.of[v]])
	for _, u := range queue {
		seen[u] = true
	}
	for at := 0; at < len(queue); at++ {
		for _, i := range c.into[queue[at]] {
			c.work--
			if a := &c.arcs[i]; a.sticky && !a.cut && !seen[a.from] {
				for _, u := range p.members[p.of[a.from]] {
					seen[u] = true
					queue = append(queue, u)
				}
			}
		}
	}
	return len(queue)
}

// parts are the components of what is not cut.
type parts struct {
	of      []int // number of the component of each member
	members [][]int
}

// components finds the strongly connected components: those that reach each other.
// (Kosaraju's: in the order in which a walk along the calls ends, backwards.)
func (c *cutter) components() parts {
	order, seen := make([]int, 0, len(c.names)), make([]bool, len(c.names))
	for v := range c.names {
		order = c.walk(v, seen, order)
	}
	p := parts{of: make([]int, len(c.names))}
	for i := range p.of {
		p.of[i] = -1
	}
	for _, v := range slices.Backward(order) {
		if p.of[v] >= 0 {
			continue
		}
		number := len(p.members)
		p.of[v] = number
		queue := []int{v}
		for at := 0; at < len(queue); at++ {
			for _, i := range c.into[queue[at]] {
				c.work--
				if a := &c.arcs[i]; !a.cut && p.of[a.from] < 0 {
					p.of[a.from] = number
					queue = append(queue, a.from)
				}
			}
		}
		p.members = append(p.members, queue)
	}
	return p
}

// walk appends all that v reaches to order, each when all that it reaches is there.
func (c *cutter) walk(v int, seen []bool, order []int) []int {
	if seen[v] {
		return order
	}
	type visit struct{ node, next int }
	seen[v] = true
	stack := []visit{{node: v}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if top.next == len(c.out[top.node]) {
			order = append(order, top.node)
			stack = stack[:len(stack)-1]
			continue
		}
		a := &c.arcs[c.out[top.node][top.next]]
		top.next++
		c.work--
		if !a.cut && !seen[a.to] {
			seen[a.to] = true
			stack = append(stack, visit{node: a.to})
		}
	}
	return order
}

// part cuts somebody off v, whose restart set has size members; false if nobody can be.
func (c *cutter) part(v, size int) bool {
	type choice struct {
		cut   []int
		price float64
	}
	var choices []choice
	for _, t := range c.sinks(v) {
		for _, backwards := range [2]bool{false, true} {
			cut := c.minCut(v, t, backwards)
			if c.work < 0 {
				return false
			}
			if price, good := c.price(cut, v, size); good {
				choices = append(choices, choice{cut, price})
			}
		}
	}
	slices.SortStableFunc(choices, func(a, b choice) int { return cmp.Compare(a.price, b.price) })
	for _, best := range choices { // and those that are as good: there are many in a star
		if best.price > choices[0].price || size <= c.limit {
			break
		}
		for _, i := range best.cut {
			c.arcs[i].cut = true
		}
		size = c.coupled(v, c.components())
	}
	return len(choices) > 0
}

// price is what a cut costs for each member that leaves the set of v, down to the limit.
func (c *cutter) price(cut []int, v, size int) (float64, bool) {
	weight := int64(0)
	for _, i := range cut {
		weight += c.arcs[i].weight
		c.arcs[i].cut = true
	}
	left := c.coupled(v, c.components())
	for _, i := range cut {
		c.arcs[i].cut = false
	}
	gone := min(size-left, size-c.limit)
	return float64(weight) / float64(max(gone, 1)), len(cut) > 0 && gone > 0
}

// sinks are the members to be parted from v: all of few, else the ends of the lightest
// edges, and some from all over the set.
func (c *cutter) sinks(v int) []int {
	var out []int
	add := func(t int) {
		if t != v && len(out) < cutSinks && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	if len(c.names) > cutSinks {
		light := make([]int, 0, len(c.arcs))
		for i := range c.arcs {
			if !c.arcs[i].cut {
				light = append(light, i)
			}
		}
		slices.SortStableFunc(light, func(a, b int) int { return cmp.Compare(c.arcs[a].weight, c.arcs[b].weight) })
		for _, i := range light[:min(len(light), cutSinks/4)] {
			add(c.arcs[i].from)
			add(c.arcs[i].to)
		}
	}
	step := max(1, len(c.names)*2/cutSinks)
	if len(c.names) <= cutSinks {
		step = 1
	}
	for t := 0; t < len(c.names); t += step {
		add(t)
	}
	return out
}

// minCut returns the arcs of least weight that part t from v. Whatever restarts with v is
// reached from it over calls and, from callee to caller, sticky marks; and also over calls
// backwards and sticky marks. To cut all the ways of one of the two kinds is enough.
func (c *cutter) minCut(v, t int, backwards bool) []int {
	f := &flow{cutter: c, backwards: backwards, ahead: make([]int64, len(c.arcs)), back: make([]int64, len(c.arcs))}
	for {
		way := f.way(v, t)
		if way == nil || c.work < 0 {
			break
		}
		least := int64(1) << 62
		for _, s := range way {
			least = min(least, f.room(s.arc, s.ahead))
		}
		for _, s := range way {
			f.push(s, least)
		}
	}
	return f.across(v)
}

// flow is what runs through the arcs: with the call (or against it, backwards), and
// through sticky marks from callee to caller.
type flow struct {
	*cutter
	backwards   bool
	ahead, back []int64 // through each arc from caller to callee, and the other way
}

// hop is one arc of a way, from caller to callee or the other way.
type hop struct {
	arc   int
	ahead bool
}

// room is how much more can run through an arc in a direction.
func (f *flow) room(i int, ahead bool) int64 {
	a := &f.arcs[i]
	if a.cut {
		return 0
	}
	through, against := f.ahead[i], f.back[i]
	if !ahead {
		through, against = against, through
	}
	capacity := int64(0)
	if ahead != f.backwards || a.sticky && !ahead {
		capacity = a.weight
	}
	return capacity - through + against
}

func (f *flow) push(s hop, n int64) {
	with, against := f.ahead, f.back
	if !s.ahead {
		with, against = against, with
	}
	undo := min(n, against[s.arc])
	against[s.arc] -= undo
	with[s.arc] += n - undo
}

// way is the shortest way from v to t with room on it, nil if there is none.
func (f *flow) way(v, t int) []hop {
	from := f.reach(v, t)
	if from[t].arc < 0 {
		return nil
	}
	var out []hop
	for u := t; u != v; {
		s := from[u]
		out = append(out, s)
		if u = f.arcs[s.arc].from; !s.ahead {
			u = f.arcs[s.arc].to
		}
	}
	return out
}

// reach says by which hop each node is reached from v, as far as t; arc -1 = not at all.
func (f *flow) reach(v, t int) []hop {
	from := make([]hop, len(f.names))
	for i := range from {
		from[i].arc = -1
	}
	seen := make([]bool, len(f.names))
	seen[v] = true
	queue := []int{v}
	for at := 0; at < len(queue) && (t < 0 || !seen[t]); at++ {
		u := queue[at]
		visit := func(i, next int, ahead bool) {
			f.work--
			if !seen[next] && f.room(i, ahead) > 0 {
				seen[next] = true
				from[next] = hop{i, ahead}
				queue = append(queue, next)
			}
		}
		for _, i := range f.out[u] {
			visit(i, f.arcs[i].to, true)
		}
		for _, i := range f.into[u] {
			visit(i, f.arcs[i].from, false)
		}
	}
	return from
}

// across are the arcs that lead out of what v still reaches.
func (f *flow) across(v int) []int {
	from := f.reach(v, -1)
	inside := func(u int) bool { return u == v || from[u].arc >= 0 }
	var out []int
	for i := range f.arcs {
		a := &f.arcs[i]
		if a.cut || inside(a.from) == inside(a.to) {
			continue
		}
		leaves := inside(a.from) != f.backwards // in the direction of this kind of way
		if leaves || a.sticky && inside(a.to) {
			out = append(out, i)
		}
	}
	return out
}

// result takes back what is not needed, and returns the rest, the heaviest first.
func (c *cutter) result() []microkernel.CallEdge {
	var cut []int
	for i := range c.arcs {
		if c.arcs[i].cut {
			cut = append(cut, i)
		}
	}
	slices.SortStableFunc(cut, func(a, b int) int { return cmp.Compare(c.arcs[b].weight, c.arcs[a].weight) })
	var out []microkernel.CallEdge
	for _, i := range cut {
		a := &c.arcs[i]
		a.cut = false
		if _, size := c.largest(); c.work < 0 || size > c.limit {
			a.cut = true
			out = append(out, microkernel.CallEdge{Caller: c.names[a.from], Callee: c.names[a.to], Calls: a.calls})
		}
	}
	return out
}
