package topology

import (
	"math/bits"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// rateWindow is the time over which Edges states latency.
const rateWindow = time.Minute

// Snapshot is the graph at one moment. It never changes and may be shared between
// goroutines. All lists that it returns are sorted and belong to the caller.
type Snapshot struct {
	*structure
	at       time.Time
	started  time.Time
	figures  []*figureChunk // by number of edge in the Graph
	activity []*minutes     // by id in the Graph, as idOf has it of nodes
	idOf     []int32
	series   *Series
	registry *registry
	requests uint64
}

// Edge is a call relation with its evidence.
type Edge struct {
	Caller, Callee mesh.Service
	Calls, Errors  uint64        // since the edge was first seen, by the best kind of evidence
	P99            time.Duration // over the last minute
	Sources        Source
	Sticky         bool // the caller does not survive a restart of the callee
	Declared       bool
	First, Last    time.Time // of a call; zero if it is only declared
}

// Snapshot returns the graph as it is at now. Between two snapshots with the same epoch
// the shape is shared; figures are shared until they are next written.
func (g *Graph) Snapshot(now time.Time) *Snapshot {
	g.series.Advance(now)
	g.expire(now)
	g.learn(now)
	if g.dirty {
		g.structure, g.dirty = buildStructure(g), false
	}
	snap := &Snapshot{
		structure: g.structure, at: now, started: timeOf(g.started), requests: g.requests,
		activity: append([]*minutes(nil), g.activity...), idOf: g.nodes.idOf,
		figures: g.edges.share(), series: g.series.Freeze(), registry: g.registry,
	}
	return snap
}

// Epoch is the content hash of services, existing edges and their sticky and declared
// marks (components follow from these), "sha256:" and 64 hex digits. Rates do not
// change it.
func (s *Snapshot) Epoch() string { return s.epoch }

// At returns the moment of the snapshot.
func (s *Snapshot) At() time.Time { return s.at }

// Requests counts the calls behind the graph.
func (s *Snapshot) Requests() uint64 { return s.requests }

// Series returns the ticks as they were at the snapshot; it must not be written.
func (s *Snapshot) Series() *Series { return s.series }

// Services returns all registered services, without the gateways.
func (s *Snapshot) Services() []mesh.Service {
	services := make([]mesh.Service, 0, len(s.names))
	for _, name := range s.names {
		if name.Namespace() != mesh.OutsideNamespace {
			services = append(services, name)
		}
	}
	return services
}

// Edges returns all existing edges by caller, then callee.
func (s *Snapshot) Edges() []Edge {
	edges := make([]Edge, len(s.edges))
	scratch := Tick{Hist: &Histogram{}}
	for i := range s.edges {
		edges[i] = s.edge(int32(i), &scratch)
	}
	return edges
}

// edge returns edge i with its figures; scratch is overwritten.
func (s *Snapshot) edge(i int32, scratch *Tick) Edge {
	caller, callee := s.names[s.caller(i)], s.names[s.edges[i].callee]
	s.sumEdge(scratch, i, s.at.Add(-rateWindow).Unix(), s.at.Unix()+1)
	edge := Edge{
		Caller: caller, Callee: callee, P99: scratch.P99(),
		Sources: Source(s.marks[i] & (markObserved | markDeclared)),
		Sticky:  s.sticky(i), Declared: s.marks[i]&markDeclared != 0,
	}
	if f := s.figure(i); f != nil {
		best := f.best()
		edge.Calls, edge.Errors = best.calls, best.errors
		edge.First, edge.Last = timeOf(f.first), timeOf(f.last)
	}
	return edge
}

// figure returns what was counted on edge i, nil if nothing was.
func (s *Snapshot) figure(i int32) *figure { return figureOf(s.figures, s.edges[i].source) }

// Callers returns who calls service directly, gateways included.
func (s *Snapshot) Callers(service mesh.Service) []mesh.Service {
	v, known := s.ids[service]
	if !known {
		return nil
	}
	callers := make([]mesh.Service, 0, s.in[v+1]-s.in[v])
	for _, e := range s.entering(v) {
		callers = append(callers, s.names[e.caller])
	}
	return callers
}

// Callees returns whom service calls directly.
func (s *Snapshot) Callees(service mesh.Service) []mesh.Service {
	v, known := s.ids[service]
	if !known {
		return nil
	}
	callees := make([]mesh.Service, 0, s.out[v+1]-s.out[v])
	for _, e := range s.leaving(v) {
		callees = append(callees, s.names[e.callee])
	}
	return callees
}

// Component returns the strongly connected component of service, itself included; nil
// if it is not registered.
func (s *Snapshot) Component(service mesh.Service) []mesh.Service {
	v, known := s.ids[service]
	if !known {
		return nil
	}
	return s.named(s.peers(v))
}

// ComponentNumber returns the number of service's component in this snapshot, -1 if it
// is not registered. A callee's number is never above its caller's.
func (s *Snapshot) ComponentNumber(service mesh.Service) int {
	v, known := s.ids[service]
	if !known {
		return -1
	}
	return int(s.component[v])
}

// StickyCallers returns the direct callers that do not survive a restart of service.
func (s *Snapshot) StickyCallers(service mesh.Service) []mesh.Service {
	v, known := s.ids[service]
	if !known {
		return nil
	}
	var callers []mesh.Service
	for _, e := range s.entering(v) {
		if s.sticky(e.edge) {
			callers = append(callers, s.names[e.caller])
		}
	}
	return callers
}

// FanIn counts the distinct direct callers of service, gateways included.
func (s *Snapshot) FanIn(service mesh.Service) int {
	v, known := s.ids[service]
	if !known {
		return 0
	}
	return int(s.in[v+1] - s.in[v])
}

// Blast returns the blast radius of set: all that reach it by calls, gateways
// included, the set itself not.
func (s *Snapshot) Blast(set []mesh.Service) []mesh.Service {
	seen := s.numbers(set)
	_, all := s.callersOf(seen)
	return s.named(without(all, seen))
}

// without removes set from all; both are sorted.
func without(all, set []int32) []int32 {
	return slices.DeleteFunc(all, func(v int32) bool {
		_, inside := slices.BinarySearch(set, v)
		return inside
	})
}

// best returns the track with the best evidence behind f that the ring has before to,
// and its family; nil if there is none.
func (s *Snapshot) best(f *figure, to int64) (*track, family) {
	for _, kind := range edgeFamilies() {
		if id := f.tracks[kind] - 1; id >= 0 && s.series.tracks[id].last > to-int64(Retention/time.Second) {
			return s.series.tracks[id], kind
		}
	}
	return nil, byConnection
}

// sumEdge sets sum, whose histogram is used again, to edge i over the Unix seconds
// [from, to).
func (s *Snapshot) sumEdge(sum *Tick, i int32, from, to int64) {
	sum.Requests, sum.Errors = 0, 0
	sum.Hist.Reset()
	if f := s.figure(i); f != nil {
		best, _ := s.best(f, to)
		best.sum(sum, from, to)
	}
}

// callersOf returns all nodes that reach one of set, set included, sorted too.
func (s *structure) callersOf(set []int32) (marks, []int32) {
	marked := newMarks(len(s.names))
	queue := make([]int32, 0, max(64, len(set)))
	for _, v := range set {
		if marked.add(v) {
			queue = append(queue, v)
		}
	}
	for at := 0; at < len(queue); at++ {
		v := queue[at]
		for _, e := range s.entering(v) {
			if marked.add(e.caller) {
				queue = append(queue, e.caller)
			}
		}
	}
	return marked, marked.appendTo(queue[:0])
}

// numbers returns the nodes of the services in set that are registered.
func (s *structure) numbers(set []mesh.Service) []int32 {
	numbers := make([]int32, 0, len(set))
	for _, name := range set {
		if v, known := s.ids[name]; known {
			numbers = append(numbers, v)
		}
	}
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// named returns the names of nodes, in their order.
func (s *structure) named(nodes []int32) []mesh.Service {
	names := make([]mesh.Service, len(nodes))
	for i, v := range nodes {
		names[i] = s.names[v]
	}
	return names
}

// marks is a set of nodes, one bit each.
type marks []uint64

func newMarks(nodes int) marks { return make(marks, (nodes+63)/64) }

// add puts v into m and reports whether it was not there.
func (m marks) add(v int32) bool {
	bit := uint64(1) << (v & 63)
	was := m[v>>6]
	m[v>>6] = was | bit
	return was&bit == 0
}

// remove takes v out of m.
func (m marks) remove(v int32) { m[v>>6] &^= 1 << (v & 63) }

// removeAll takes nodes out of m.
func (m marks) removeAll(nodes []int32) {
	for _, v := range nodes {
		m.remove(v)
	}
}

// has reports whether v is in m; nothing is in the marks that were never made.
func (m marks) has(v int32) bool { return int(v>>6) < len(m) && m[v>>6]&(1<<(v&63)) != 0 }

// appendTo appends the nodes in m, sorted.
func (m marks) appendTo(nodes []int32) []int32 {
	for i, word := range m {
		for ; word != 0; word &= word - 1 {
			nodes = append(nodes, int32(64*i+bits.TrailingZeros64(word)))
		}
	}
	return nodes
}
