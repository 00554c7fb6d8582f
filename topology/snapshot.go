package topology

import (
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
	rows     []row // by edge of structure
	series   *Series
	registry *registry
	requests uint64
}

// row is what an edge's figures were.
type row struct {
	count
	sources     Source
	first, last time.Time
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
// the shape is shared, so the cost is that of copying figures.
func (g *Graph) Snapshot(now time.Time) *Snapshot {
	g.series.Advance(now)
	if g.dirty {
		g.structure, g.dirty = buildStructure(g), false
	}
	snap := &Snapshot{
		structure: g.structure, at: now, started: g.started,
		rows: make([]row, len(g.structure.source)), series: g.series.Freeze(), registry: g.registry,
	}
	for i, at := range g.structure.source {
		e := &g.edges[at]
		snap.rows[i] = row{count: e.best(), sources: e.sources, first: e.first, last: e.last}
		snap.requests += snap.rows[i].calls
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
	e, row := s.edges[i], s.rows[i]
	sources := row.sources
	if e.declared {
		sources |= Declared
	}
	caller, callee := s.names[e.caller], s.names[e.callee]
	scratch.Requests, scratch.Errors = 0, 0
	scratch.Hist.Reset()
	s.series.addEdge(scratch, caller, callee, s.at.Add(-rateWindow).Unix(), s.at.Unix()+1)
	return Edge{
		Caller: caller, Callee: callee, Calls: row.calls, Errors: row.errors,
		P99: scratch.P99(), Sources: sources, Sticky: e.sticky, Declared: e.declared, First: row.first, Last: row.last,
	}
}

// Callers returns who calls service directly, gateways included.
func (s *Snapshot) Callers(service mesh.Service) []mesh.Service {
	v, known := s.ids[service]
	if !known {
		return nil
	}
	callers := make([]mesh.Service, 0, s.in[v+1]-s.in[v])
	for _, i := range s.into[s.in[v]:s.in[v+1]] {
		callers = append(callers, s.names[s.edges[i].caller])
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
	for _, e := range s.edges[s.out[v]:s.out[v+1]] {
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
	for _, i := range s.into[s.in[v]:s.in[v+1]] {
		if s.edges[i].sticky {
			callers = append(callers, s.names[s.edges[i].caller])
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
	reached := s.callersOf(seen)
	inside := make(map[int32]bool, len(seen))
	for _, v := range seen {
		inside[v] = true
	}
	return s.named(slices.DeleteFunc(reached, func(v int32) bool { return inside[v] }))
}

// callersOf returns all nodes that reach one of set, set included, sorted.
func (s *structure) callersOf(set []int32) []int32 {
	marked := newMarks(len(s.names))
	queue := make([]int32, 0, len(set))
	for _, v := range set {
		if marked.add(v) {
			queue = append(queue, v)
		}
	}
	for at := 0; at < len(queue); at++ {
		v := queue[at]
		for _, i := range s.into[s.in[v]:s.in[v+1]] {
			if caller := s.edges[i].caller; marked.add(caller) {
				queue = append(queue, caller)
			}
		}
	}
	slices.Sort(queue)
	return queue
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

// has reports whether v is in m.
func (m marks) has(v int32) bool { return m[v>>6]&(1<<(v&63)) != 0 }
