package topology

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
)

// structure is the shape of the graph: nodes, edges and components, without figures.
// It is immutable and shared by all snapshots between which it did not change. Nodes
// are numbered in the order of their names, edges in the order (caller, callee).
type structure struct {
	names     []mesh.Service
	ids       map[mesh.Service]int32
	edges     []link
	source    []int32 // index of each edge in Graph.edges
	out       []int32 // edges[out[v]:out[v+1]] leave v
	in        []int32 // into[in[v]:in[v+1]] are the edges that enter v, by caller
	into      []int32
	component []int32 // callees before callers: an edge never leads to a higher number
	members   []int32 // nodes by component, sorted
	first     []int32 // members[first[c]:first[c+1]] are component c
	epoch     string
}

// link is one edge of a structure.
type link struct {
	caller, callee   int32
	sticky, declared bool
	observed         bool // some call was seen
}

// nodes numbers the registered names in their order; it is immutable.
type nodes struct {
	names    []mesh.Service
	ids      map[mesh.Service]int32
	renumber []int32 // id in the Graph -> number here, -1 if not registered
}

// numberNodes numbers the registered names of g. O(V log V).
func numberNodes(g *Graph) *nodes {
	n := &nodes{ids: make(map[mesh.Service]int32, len(g.names)), renumber: make([]int32, len(g.names))}
	for id, name := range g.names {
		n.renumber[id] = -1
		if g.registered[id] {
			n.names = append(n.names, name)
		}
	}
	slices.Sort(n.names)
	for id, name := range n.names {
		n.ids[name] = int32(id)
		n.renumber[g.ids[name]] = int32(id)
	}
	return n
}

// buildStructure builds the shape of g from its existing edges. O(V + E) while the
// registration is the same.
func buildStructure(g *Graph) *structure {
	if g.nodes == nil || len(g.nodes.renumber) != len(g.names) {
		g.nodes = numberNodes(g)
	}
	s := &structure{names: g.nodes.names, ids: g.nodes.ids}
	s.collect(g, g.nodes.renumber)
	s.index()
	s.components()
	s.hash()
	return s
}

// collect takes the existing edges between registered nodes, sorted by two passes of
// counting sort: by callee, then stably by caller.
func (s *structure) collect(g *Graph, renumber []int32) {
	var found []int32
	for i := range g.edges {
		e := &g.edges[i]
		if e.exists() && renumber[e.caller] >= 0 && renumber[e.callee] >= 0 {
			found = append(found, int32(i))
		}
	}
	byCallee := countingSort(found, len(s.names), func(i int32) int32 { return renumber[g.edges[i].callee] })
	s.source = countingSort(byCallee, len(s.names), func(i int32) int32 { return renumber[g.edges[i].caller] })
	s.edges = make([]link, len(s.source))
	for at, i := range s.source {
		e := &g.edges[i]
		s.edges[at] = link{
			caller: renumber[e.caller], callee: renumber[e.callee],
			sticky: e.sticky(), declared: e.declared, observed: e.sources != 0,
		}
	}
}

// countingSort returns items sorted stably by key, which is below keys.
func countingSort(items []int32, keys int, key func(int32) int32) []int32 {
	start := make([]int32, keys+1)
	for _, item := range items {
		start[key(item)+1]++
	}
	for k := range keys {
		start[k+1] += start[k]
	}
	sorted := make([]int32, len(items))
	for _, item := range items {
		k := key(item)
		sorted[start[k]] = item
		start[k]++
	}
	return sorted
}

// index builds the rows of outgoing and incoming edges.
func (s *structure) index() {
	n := len(s.names)
	s.out, s.in, s.into = make([]int32, n+1), make([]int32, n+1), make([]int32, len(s.edges))
	for i := range s.edges {
		s.out[s.edges[i].caller+1]++
		s.in[s.edges[i].callee+1]++
	}
	for v := range n {
		s.out[v+1] += s.out[v]
		s.in[v+1] += s.in[v]
	}
	next := slices.Clone(s.in)
	for i := range s.edges {
		callee := s.edges[i].callee
		s.into[next[callee]] = int32(i)
		next[callee]++
	}
}

// components numbers the strongly connected components by Tarjan's algorithm with an
// explicit stack. A component is numbered when all that it reaches are, so callees have
// lower numbers than their callers.
func (s *structure) components() {
	n := int32(len(s.names))
	t := tarjan{
		s: s, low: make([]int32, n), next: slices.Clone(s.out[:n]),
		stack: make([]int32, 0, n), path: make([]int32, 0, n),
	}
	s.component = make([]int32, n)
	for v := range n {
		s.component[v] = -1
	}
	for v := range n {
		if t.low[v] == 0 {
			t.visit(v)
		}
	}
	s.group(t.count)
}

// tarjan is the state of one run; low is 0 for a node not yet visited.
type tarjan struct {
	s           *structure
	low         []int32
	next        []int32 // next edge to follow from each node
	stack, path []int32
	visited     int32
	count       int32
}

// visit numbers all components that v reaches and that have no number yet.
func (t *tarjan) visit(root int32) {
	t.enter(root)
	for len(t.path) > 0 {
		v := t.path[len(t.path)-1]
		if t.next[v] < t.s.out[v+1] {
			w := t.s.edges[t.next[v]].callee
			if t.low[w] == 0 {
				t.enter(w)
				continue
			}
			t.next[v]++
			if t.s.component[w] < 0 {
				t.low[v] = min(t.low[v], t.low[w])
			}
			continue
		}
		t.path = t.path[:len(t.path)-1]
		t.leave(v)
	}
}

// enter visits v for the first time. Its order of visit is kept in low until a lower
// one is found; the root test in leave reads it back from the stack's position.
func (t *tarjan) enter(v int32) {
	t.visited++
	t.low[v] = t.visited
	t.stack = append(t.stack, v)
	t.path = append(t.path, v)
	t.s.component[v] = -1 - t.visited // until numbered: minus its order of visit, less one
}

// leave closes v: if nothing below it reaches above it, it is the root of a component.
func (t *tarjan) leave(v int32) {
	if t.low[v] != -1-t.s.component[v] {
		return
	}
	for {
		w := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		t.s.component[w] = t.count
		if w == v {
			break
		}
	}
	t.count++
}

// group lists the members of each component.
func (s *structure) group(count int32) {
	all := make([]int32, len(s.names))
	for v := range all {
		all[v] = int32(v)
	}
	s.members = countingSort(all, int(count), func(v int32) int32 { return s.component[v] })
	s.first = make([]int32, count+1)
	for _, c := range s.component {
		s.first[c+1]++
	}
	for c := range count {
		s.first[c+1] += s.first[c]
	}
}

// peers returns the members of v's component, v included, sorted.
func (s *structure) peers(v int32) []int32 {
	c := s.component[v]
	return s.members[s.first[c]:s.first[c+1]]
}

// Flags of an edge in the hash of a structure; never change.
const (
	hashSticky   = 1
	hashDeclared = 2
)

// hash sets the epoch. Components follow from the edges, so they need no bytes.
func (s *structure) hash() {
	sum := sha256.New()
	buffer := make([]byte, 0, 64+9*len(s.edges))
	buffer = append(buffer, "sluice topology 1\n"...)
	for _, name := range s.names {
		buffer = append(append(buffer, name...), '\n')
	}
	buffer = append(buffer, '\n')
	for _, e := range s.edges {
		buffer = binary.BigEndian.AppendUint32(buffer, uint32(e.caller))
		buffer = binary.BigEndian.AppendUint32(buffer, uint32(e.callee))
		buffer = append(buffer, flags(e))
	}
	sum.Write(buffer)
	s.epoch = "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// flags returns the marks of e as bits.
func flags(e link) byte {
	bits := byte(0)
	if e.sticky {
		bits |= hashSticky
	}
	if e.declared {
		bits |= hashDeclared
	}
	return bits
}
