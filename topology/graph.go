package topology

import (
	"slices"

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
	edges                 edgeTable
	recent                *recent
	registry              *registry
	nodes                 *nodes // of the present registration, nil = to be numbered
	structure             *structure
	build                 builder
	dirty                 bool   // structure is not that of the present edges
	requests              uint64 // calls on the edges of structure
	started               int64  // Unix nanoseconds of the first call, 0 = none
	quarantine            Quarantine
	expiry                expiry
	recoveries            map[mesh.Service]*recovery
	activity              []*minutes // by id, nil = no call
	active                int        // of activity, those that are not nil
	maxServices, maxEdges int
}

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
		series: NewSeries(), ids: map[mesh.Service]int32{}, edges: newEdgeTable(),
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
		g.dirty, g.nodes, g.recent = true, nil, nil
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
	g.edges.doubtDeclared()
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
	g.watch(world)
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
	for i, m := range g.edges.marks {
		if m&markDoubted != 0 {
			g.edges.marks[i], g.dirty = m&^(markDoubted|markDeclared|markDeclaredSticky), true
		}
	}
}

// Declare records a configured dependency, not a call. The next Register replaces all
// declarations. Unregistered names are quarantined.
func (g *Graph) Declare(caller, callee mesh.Service, sticky bool) {
	e := g.edge(caller, callee)
	if e < 0 {
		return
	}
	was := g.edges.marks[e]
	is := was&^(markDoubted|markDeclaredSticky) | markDeclared
	if sticky {
		is |= markDeclaredSticky
	}
	g.edges.marks[e] = is
	g.dirty = g.dirty || was&^markDoubted != is
}

// MarkSticky records that caller was seen not to survive a restart of callee.
func (g *Graph) MarkSticky(caller, callee mesh.Service) {
	if e := g.edge(caller, callee); e >= 0 && g.edges.marks[e]&markLearnedSticky == 0 {
		g.edges.marks[e] |= markLearnedSticky
		g.dirty = true
	}
}

// Observe records the evidence of a call. A call that names an unregistered service is
// counted in Quarantine and leaves no trace.
func (g *Graph) Observe(c Call) { g.observe(&c) }

// ObserveAll is Observe for each of calls, which are not changed.
func (g *Graph) ObserveAll(calls []Call) {
	for i := range calls {
		g.observe(&calls[i])
	}
}

func (g *Graph) observe(c *Call) {
	kind, ok := countKind(c)
	if !ok {
		g.quarantine.UnknownSource++
		return
	}
	if c.Caller == "" {
		g.observeServed(c)
		return
	}
	e := g.recentEdge(c.Caller, c.Callee)
	if e < 0 {
		return
	}
	if was := g.edges.marks[e]; was|byte(c.Source) != was {
		g.edges.marks[e], g.dirty = was|byte(c.Source), true
	}
	f := g.edges.figure(e)
	at := unixNano(c.At)
	if f.first == 0 || at < f.first && !c.Existence {
		f.first = at
	}
	if at > f.last && !c.Existence || f.last == 0 {
		f.last = at
	}
	if c.Source.Unsampled() {
		g.expiry.hear(int32(g.edges.pairs[e] >> 32))
	}
	if c.Existence {
		return
	}
	if g.started == 0 || at < g.started {
		g.started = at
	}
	g.requests -= f.best().calls
	f.counts[kind].calls += c.weight()
	if c.Failed {
		f.counts[kind].errors += c.weight()
	}
	g.requests += f.best().calls
	if !g.series.timely(c.At.Unix()) {
		return
	}
	family := familyOf(c)
	minute := c.At.Unix() / 60
	g.touch(int32(g.edges.pairs[e]>>32), minute)
	g.touch(int32(uint32(g.edges.pairs[e])), minute)
	if f.tracks[family] == 0 {
		f.tracks[family] = g.series.track(trackKey{family, string(c.Caller), c.Callee}) + 1
	}
	g.series.write(f.tracks[family]-1, c)
	if c.Instance != "" {
		g.series.recordInstance(family, string(g.registry.uids[c.Instance]), c)
	}
}

// observeServed records what a callee reported of itself.
func (g *Graph) observeServed(c *Call) {
	track := g.recentServed(c.Callee)
	if track == noService {
		g.quarantine.UnknownCallee++
		return
	}
	if !c.Existence && g.series.timely(c.At.Unix()) {
		g.series.write(track, c)
	}
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

// edge returns the edge caller -> callee, new if need be; -1, counted, if a name is not
// registered or the table is full.
func (g *Graph) edge(caller, callee mesh.Service) int32 {
	from, known := g.ids[caller]
	if !known || !g.registered[from] {
		g.quarantine.UnknownCaller++
		return -1
	}
	to, known := g.ids[callee]
	if !known || !g.registered[to] {
		g.quarantine.UnknownCallee++
		return -1
	}
	e := g.edges.find(from, to)
	if e < 0 {
		if g.edges.len() >= g.maxEdges {
			g.quarantine.OverEdges++
			return -1
		}
		e = g.edges.add(from, to)
	}
	return e
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
