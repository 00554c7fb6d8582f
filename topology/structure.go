package topology

import (
	"crypto/sha256"
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
	marks     []byte  // of each edge
	out       []int32 // edges[out[v]:out[v+1]] leave v
	in        []int32 // into[in[v]:in[v+1]] enter v, by caller
	into      []entry
	component []int32 // callees before callers: an edge never leads to a higher number
	members   []int32 // nodes by component, sorted
	first     []int32 // members[first[c]:first[c+1]] are component c
	epoch     string
}

// link is an edge as its caller has it.
type link struct {
	callee int32
	source int32 // number of the edge in the Graph
}

// entry is an edge as its callee has it.
type entry struct{ edge, caller int32 }

// caller returns the node that edge i leaves.
func (s *structure) caller(i int32) int32 {
	v, _ := slices.BinarySearch(s.out, i+1)
	return int32(v) - 1
}

// sticky reports whether the caller of edge i does not survive a restart of its callee.
func (s *structure) sticky(i int32) bool { return s.marks[i]&markSticky != 0 }

// entering returns the edges that enter v.
func (s *structure) entering(v int32) []entry { return s.into[s.in[v]:s.in[v+1]] }

// leaving returns the edges that leave v.
func (s *structure) leaving(v int32) []link { return s.edges[s.out[v]:s.out[v+1]] }

// nodes numbers the registered names in their order; it is immutable.
type nodes struct {
	names    []mesh.Service
	ids      map[mesh.Service]int32
	renumber []int32           // id in the Graph -> number here, -1 if not registered
	idOf     []int32           // the reverse
	digest   [sha256.Size]byte // of names
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
	sum := sha256.New()
	for id, name := range n.names {
		n.ids[name] = int32(id)
		n.renumber[g.ids[name]] = int32(id)
		n.idOf = append(n.idOf, g.ids[name])
		sum.Write(append([]byte(name), '\n'))
	}
	sum.Sum(n.digest[:0])
	return n
}

// buildStructure builds the shape of g from its existing edges. O(V + E) while the
// registration is the same.
func buildStructure(g *Graph) *structure {
	if g.nodes == nil || len(g.nodes.renumber) != len(g.names) {
		g.nodes = numberNodes(g)
		g.requests = g.countRequests()
	}
	s := &structure{names: g.nodes.names, ids: g.nodes.ids}
	g.build.fit(len(s.names))
	g.build.rows(s, &g.edges, g.nodes.renumber)
	g.build.components(s)
	g.build.epoch(s, &g.nodes.digest)
	return s
}

// countRequests sums the calls on the edges between registered nodes.
func (g *Graph) countRequests() uint64 {
	sum := uint64(0)
	for e, pair := range g.edges.pairs {
		if f := figureOf(g.edges.figures, int32(e)); f != nil && g.registered[pair>>32] && g.registered[uint32(pair)] {
			sum += f.best().calls
		}
	}
	return sum
}

// peers returns the members of v's component, v included, sorted.
func (s *structure) peers(v int32) []int32 {
	c := s.component[v]
	return s.members[s.first[c]:s.first[c+1]]
}
