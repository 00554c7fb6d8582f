package topology

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Bounds of a Graph.
const (
	MaxServices = 1 << 20 // names, gateways included
	MaxEdges    = 10 << 20
)

// Graph accumulates evidence. It is not safe for concurrent use: its owner serialises
// Observe, Register and Snapshot; a Snapshot may be read by anyone at any time.
type Graph struct {
	series                *Series
	ids                   map[mesh.Service]int32
	names                 []mesh.Service
	registered            []bool
	edgeOf                map[uint64]int32 // caller<<32 | callee -> index in edges
	edges                 []edge
	registry              *registry
	round                 uint64 // of Register
	nodes                 *nodes // of the present registration, nil = to be numbered
	structure             *structure
	dirty                 bool // structure is not that of the present edges
	started               time.Time
	quarantine            Quarantine
	maxServices, maxEdges int
}

// edge is what is known of one ordered pair of services.
type edge struct {
	caller, callee int32
	counts         [evidenceKinds]count
	sources        Source
	declared       bool
	declaredSticky bool
	learnedSticky  bool
	round          uint64 // of the Register that last declared it
	first, last    time.Time
}

// count is calls and errors by one kind of evidence.
type count struct{ calls, errors uint64 }

// Kinds of evidence that count calls, the best first: an edge's figures are those of
// the first that has any, so that what two sources report counts once.
const (
	countLog = iota
	countMetric
	countSpan
	countConnection
	evidenceKinds
)

// Quarantine counts evidence that was kept out, by reason.
type Quarantine struct {
	UnknownCaller uint64 // calls whose caller is not registered
	UnknownCallee uint64
	UnknownSource uint64 // calls of no single known source
	OverServices  uint64 // names beyond MaxServices
	OverEdges     uint64 // calls on a new edge beyond MaxEdges
	OutOfTime     uint64 // counted as existence only: too old, too far ahead, or over MaxTracks
}

// Total sums all reasons.
func (q Quarantine) Total() uint64 {
	return q.UnknownCaller + q.UnknownCallee + q.UnknownSource + q.OverServices + q.OverEdges + q.OutOfTime
}

// registry is what Register last said; it is replaced, never changed.
type registry struct {
	objectives map[mesh.Service]mesh.Objective
	instances  map[mesh.Service][]mesh.Instance
	uids       map[string]mesh.UID // by UID and by address
}

// NewGraph returns an empty graph; nothing is registered.
func NewGraph() *Graph {
	return &Graph{
		series: NewSeries(), ids: map[mesh.Service]int32{}, edgeOf: map[uint64]int32{},
		registry: &registry{}, dirty: true, maxServices: MaxServices, maxEdges: MaxEdges,
	}
}

// Series returns the live ticks behind the graph, owned by g. Readers that do not
// share g's owner use Snapshot.Series.
func (g *Graph) Series() *Series { return g.series }

// Quarantine returns the counters of what was kept out since the start.
func (g *Graph) Quarantine() Quarantine {
	q := g.quarantine
	q.OutOfTime = g.series.Dropped()
	return q
}

// RegisterNames replaces the set of nodes; gateways are named like services. Evidence
// about names that left is kept, unseen, in case they come back.
func (g *Graph) RegisterNames(services []mesh.Service) {
	was := slices.Clone(g.registered)
	clear(g.registered)
	for _, name := range services {
		if id, ok := g.intern(name); ok {
			g.registered[id] = true
		}
	}
	if !slices.Equal(was, g.registered) {
		g.dirty, g.nodes = true, nil
	}
}

// Register replaces the nodes, instances, objectives and declared edges by those of
// the world. Learned sticky marks and all calls stay.
func (g *Graph) Register(world *mesh.World) {
	names := make([]mesh.Service, 0, len(world.Services)+len(world.Gateways))
	next := &registry{
		objectives: map[mesh.Service]mesh.Objective{},
		instances:  map[mesh.Service][]mesh.Instance{}, uids: map[string]mesh.UID{},
	}
	for i := range world.Services {
		s := &world.Services[i]
		names = append(names, s.Name)
		next.add(s)
	}
	for i := range world.Gateways {
		names = append(names, world.Gateways[i].Name)
	}
	g.registry = next
	g.RegisterNames(names)
	g.round++
	for i := range world.Services {
		for _, up := range world.Services[i].Upstreams {
			g.Declare(world.Services[i].Name, up.Service, up.Sticky)
		}
	}
	for i := range world.Gateways {
		if to := world.Gateways[i].Service; to != "" {
			g.Declare(world.Gateways[i].Name, to, false)
		}
	}
	g.forgetDeclared()
}

// add takes the objective and instances of s.
func (r *registry) add(s *mesh.ServiceState) {
	r.objectives[s.Name] = s.Objective
	r.instances[s.Name] = slices.Clone(s.Instances)
	for _, instance := range s.Instances {
		r.uids[string(instance.UID)] = instance.UID
		if instance.Inbound.IsValid() {
			r.uids[instance.Inbound.String()] = instance.UID
		}
		if instance.App.IsValid() {
			r.uids[instance.App.String()] = instance.UID
		}
	}
}

// forgetDeclared drops the declarations that the last Register did not repeat.
func (g *Graph) forgetDeclared() {
	for i := range g.edges {
		e := &g.edges[i]
		if e.declared && e.round != g.round {
			e.declared, e.declaredSticky, g.dirty = false, false, true
		}
	}
}

// Declare records a configured dependency, not a call. The next Register replaces all
// declarations. Unregistered names are quarantined.
func (g *Graph) Declare(caller, callee mesh.Service, sticky bool) {
	e := g.edge(caller, callee)
	if e == nil {
		return
	}
	if !e.declared || e.declaredSticky != sticky {
		g.dirty = true
	}
	e.declared, e.declaredSticky, e.round = true, sticky, g.round
}

// MarkSticky records that caller was seen not to survive a restart of callee.
func (g *Graph) MarkSticky(caller, callee mesh.Service) {
	if e := g.edge(caller, callee); e != nil && !e.learnedSticky {
		e.learnedSticky, g.dirty = true, true
	}
}

// Observe records the evidence of a call. A call that names an unregistered service is
// counted in Quarantine and leaves no trace.
func (g *Graph) Observe(c Call) {
	kind, ok := countKind(&c)
	if !ok {
		g.quarantine.UnknownSource++
		return
	}
	c.Instance = string(g.registry.uids[c.Instance])
	if c.Caller == "" {
		if id, known := g.ids[c.Callee]; !known || !g.registered[id] {
			g.quarantine.UnknownCallee++
			return
		}
		g.series.Record(c)
		return
	}
	e := g.edge(c.Caller, c.Callee)
	if e == nil {
		return
	}
	if e.sources == 0 {
		g.dirty = true
	}
	e.sources |= c.Source
	if e.first.IsZero() || c.At.Before(e.first) && !c.Existence {
		e.first = c.At
	}
	if c.At.After(e.last) && !c.Existence || e.last.IsZero() {
		e.last = c.At
	}
	if c.Existence {
		return
	}
	if g.started.IsZero() || c.At.Before(g.started) {
		g.started = c.At
	}
	e.counts[kind].calls += c.weight()
	if c.Failed {
		e.counts[kind].errors += c.weight()
	}
	g.series.Record(c)
}

// countKind returns which counter c belongs to; false if its source is none or several.
func countKind(c *Call) (int, bool) {
	switch {
	case c.Connection:
		return countConnection, c.Source == AccessLog || c.Source == MeshMetric
	case c.Source == AccessLog:
		return countLog, true
	case c.Source == MeshMetric:
		return countMetric, true
	case c.Source == Span:
		return countSpan, true
	}
	return 0, false
}

// edge returns the edge caller -> callee, new if need be; nil, counted, if a name is
// not registered or the table is full.
func (g *Graph) edge(caller, callee mesh.Service) *edge {
	from, known := g.ids[caller]
	if !known || !g.registered[from] {
		g.quarantine.UnknownCaller++
		return nil
	}
	to, known := g.ids[callee]
	if !known || !g.registered[to] {
		g.quarantine.UnknownCallee++
		return nil
	}
	key := uint64(from)<<32 | uint64(to)
	at, known := g.edgeOf[key]
	if !known {
		if len(g.edges) >= g.maxEdges {
			g.quarantine.OverEdges++
			return nil
		}
		at = int32(len(g.edges))
		g.edges = append(g.edges, edge{caller: from, callee: to})
		g.edgeOf[key] = at
	}
	return &g.edges[at]
}

// intern returns the id of a name, false, counted, if the table is full.
func (g *Graph) intern(name mesh.Service) (int32, bool) {
	if id, known := g.ids[name]; known {
		return id, true
	}
	if len(g.names) >= g.maxServices {
		g.quarantine.OverServices++
		return 0, false
	}
	id := int32(len(g.names))
	g.ids[name] = id
	g.names = append(g.names, name)
	g.registered = append(g.registered, false)
	return id, true
}

// best returns the counts of the best kind of evidence that has any.
func (e *edge) best() count {
	for _, c := range e.counts {
		if c.calls > 0 {
			return c
		}
	}
	return count{}
}

// exists reports whether there is any evidence or declaration of e.
func (e *edge) exists() bool { return e.sources != 0 || e.declared || e.learnedSticky }

// sticky reports whether e is declared or was learned to be sticky.
func (e *edge) sticky() bool { return e.declaredSticky || e.learnedSticky }
