package generate

import (
	"fmt"
	"math"
	mathbits "math/bits"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
)

// Settings say what a Graph is to look like.
type Settings struct {
	Services, Edges     int
	MaxFanIn, MaxFanOut int     // of one service each, and no other has more
	BlastMedian         float64 // services that reach a service
	BlastSigma          float64 // of the logarithm of that number, which is normal
	BlastMax            int     // at most
	Cycles              int     // planted components of 2 to 5 services, each a ring
	Sticky              int     // planted sticky edges
	Reversed            int     // edges that are added against the direction of others
}

// Published returns the statistics of the call graph of a week of Alibaba's production
// trace as published: 5,459 services, 11,690 edges, fan-in at most 74, fan-out at most
// 113, blast radius median 8, P99 59, at most 177. Nothing is planted.
func Published() Settings {
	return Settings{
		Services: 5459, Edges: 11_690, MaxFanIn: 74, MaxFanOut: 113,
		BlastMedian: 8, BlastSigma: 0.86, BlastMax: 177, // so that P99 is 59
	}
}

// Edge is a call relation, by number of service.
type Edge struct {
	Caller, Callee int32
	Sticky         bool
}

// Graph is a made-up call graph of which the truth is known.
type Graph struct {
	Services []mesh.Service
	Edges    []Edge
	ring     []int32 // number of the planted component of each service, -1 = alone
	rings    [][]int32
}

// builder grows an acyclic graph: services come with ever more services that reach them.
type builder struct {
	rng      random
	settings Settings
	callers  [][]int32 // of each service
	fanOut   []int
	above    []bits // the services that reach each
	blast    []int  // how many those are
	edges    int
}

// bits is a set of services.
type bits []uint64

func (b bits) has(v int32) bool { return b[v>>6]>>(v&63)&1 != 0 }
func (b bits) set(v int32)      { b[v>>6] |= 1 << (v & 63) }

// NewGraph makes the graph of a seed.
func NewGraph(seed uint64, settings Settings) *Graph {
	n := settings.Services
	b := &builder{
		rng: random(seed), settings: settings, callers: make([][]int32, n),
		fanOut: make([]int, n), above: make([]bits, n), blast: make([]int, n),
	}
	words := (n + 63) / 64
	backing := make([]uint64, n*words)
	for v := range n {
		b.above[v] = backing[v*words : (v+1)*words]
		p := (float64(v) + 0.5) / float64(n)
		target := settings.BlastMedian * math.Exp(settings.BlastSigma*math.Sqrt2*math.Erfinv(2*p-1))
		b.grow(int32(v), min(int(math.Round(target)), settings.BlastMax))
	}
	b.hubs()
	b.fill()
	return b.finish()
}

// grow gives v callers so that target services reach it.
func (b *builder) grow(v int32, target int) {
	target = min(target, int(v))
	wanted := 1
	if b.rng.below(3) == 0 {
		wanted = 2 + b.rng.below(3)
	}
	for tries := 0; b.blast[v] < target && tries < 400; tries++ {
		left := target - b.blast[v]
		u := b.candidate(v, left, len(b.callers[v])+1 >= wanted || tries > 20)
		if !b.above[v].has(u) && b.fanOut[u] < b.settings.MaxFanOut-1 && b.gain(v, u) <= left {
			b.link(u, v)
		}
	}
}

// candidate returns a service before v. If the last caller is looked for, it is one that
// brings nearly left services; the services before v are in the order of that number.
func (b *builder) candidate(v int32, left int, last bool) int32 {
	if !last {
		left = 1 + b.rng.below(left)
	}
	at, _ := slices.BinarySearch(b.blast[:v], left)
	const around = 64
	low, high := max(0, at-around), min(int(v), at+1)
	return int32(low + b.rng.below(max(1, high-low)))
}

// gain counts the services that would newly reach v if u called it.
func (b *builder) gain(v, u int32) int {
	more := 0
	if !b.above[v].has(u) {
		more = 1
	}
	for i, w := range b.above[u] {
		more += mathbits.OnesCount64(w &^ b.above[v][i])
	}
	return more
}

// link lets u call v.
func (b *builder) link(u, v int32) {
	b.blast[v] += b.gain(v, u)
	for i, w := range b.above[u] {
		b.above[v][i] |= w
	}
	b.above[v].set(u)
	b.callers[v] = append(b.callers[v], u)
	b.fanOut[u]++
	b.edges++
}

// shortcut lets u, which reaches v already, call it directly, and reports whether it did
// not yet. No blast radius changes.
func (b *builder) shortcut(u, v int32) bool {
	if !b.above[v].has(u) || slices.Contains(b.callers[v], u) {
		return false
	}
	b.link(u, v)
	return true
}

// hubs gives one service the greatest fan-in and another the greatest fan-out.
func (b *builder) hubs() {
	n := int32(len(b.callers))
	sink := n - 1
	for u := range n {
		if len(b.callers[sink]) < b.settings.MaxFanIn && b.fanOut[u] < b.settings.MaxFanOut-1 {
			b.shortcut(u, sink)
		}
	}
	source, most := int32(0), 0
	for u := range n {
		below := 0
		for v := range n {
			if b.above[v].has(u) {
				below++
			}
		}
		if below > most {
			source, most = u, below
		}
	}
	for v := n - 1; v >= 0 && b.fanOut[source] < b.settings.MaxFanOut; v-- {
		if len(b.callers[v]) < b.settings.MaxFanIn-1 {
			b.shortcut(source, v)
		}
	}
}

// fill adds shortcuts until there are as many edges as asked for.
func (b *builder) fill() {
	n := len(b.callers)
	for tries := 0; b.edges < b.settings.Edges && tries < 1000*n; tries++ {
		v := int32(b.rng.below(n))
		if len(b.callers[v]) == 0 || len(b.callers[v]) >= b.settings.MaxFanIn-1 {
			continue
		}
		u := b.callers[v][b.rng.below(len(b.callers[v]))] // a caller's caller
		if len(b.callers[u]) == 0 {
			continue
		}
		if u = b.callers[u][b.rng.below(len(b.callers[u]))]; b.fanOut[u] < b.settings.MaxFanOut-1 {
			b.shortcut(u, v)
		}
	}
}

// finish plants cycles and sticky edges and gives the services names in a random order,
// so that nothing can be read off them.
func (b *builder) finish() *Graph {
	n := len(b.callers)
	g := &Graph{Services: make([]mesh.Service, n), ring: make([]int32, n)}
	for v := range n {
		g.Services[v] = mesh.Service(fmt.Sprintf("prod/ms-%05d", v))
		g.ring[v] = -1
	}
	for i := n - 1; i > 0; i-- {
		j := b.rng.below(i + 1)
		g.Services[i], g.Services[j] = g.Services[j], g.Services[i]
	}
	for v, callers := range b.callers {
		for _, u := range callers {
			g.Edges = append(g.Edges, Edge{Caller: u, Callee: int32(v)})
		}
	}
	b.plantRings(g)
	for range min(b.settings.Sticky, len(g.Edges)) {
		g.Edges[b.rng.below(len(g.Edges))].Sticky = true
	}
	for range b.settings.Reversed {
		e := g.Edges[b.rng.below(len(g.Edges))]
		g.Edges = append(g.Edges, Edge{Caller: e.Callee, Callee: e.Caller})
	}
	return g
}

// plantRings closes chains of services, each the only caller of the next, to rings: then
// the ring is a component, whatever else is there.
func (b *builder) plantRings(g *Graph) {
	n := len(b.callers)
	for tries := 0; len(g.rings) < b.settings.Cycles && tries < 100*n; tries++ {
		chain := []int32{int32(b.rng.below(n))}
		for wanted := 2 + b.rng.below(4); len(chain) < wanted; {
			v := chain[len(chain)-1]
			if len(b.callers[v]) != 1 {
				break
			}
			chain = append(chain, b.callers[v][0])
		}
		if len(chain) < 2 || slices.ContainsFunc(chain, func(v int32) bool { return g.ring[v] >= 0 }) {
			continue
		}
		for _, v := range chain {
			g.ring[v] = int32(len(g.rings))
		}
		g.rings = append(g.rings, chain)
		g.Edges = append(g.Edges, Edge{Caller: chain[0], Callee: chain[len(chain)-1]})
	}
}

// Component returns the services that are strongly connected with v, v included, sorted:
// those of its planted ring. It is not known of a graph with Reversed edges.
func (g *Graph) Component(v int32) []int32 {
	if g.ring[v] < 0 {
		return []int32{v}
	}
	return slices.Sorted(slices.Values(g.rings[g.ring[v]]))
}

// RestartSets returns the true restart set of each service, sorted: its component and
// their sticky callers, with these the same again.
func (g *Graph) RestartSets() [][]int32 {
	sticky := make([][]int32, len(g.Services))
	for _, e := range g.Edges {
		if e.Sticky {
			sticky[e.Callee] = append(sticky[e.Callee], e.Caller)
		}
	}
	sets := make([][]int32, len(g.Services))
	for v := range sets {
		set := g.Component(int32(v))
		for at := 0; at < len(set); at++ {
			for _, caller := range sticky[set[at]] {
				for _, u := range g.Component(caller) {
					if !slices.Contains(set, u) {
						set = append(set, u)
					}
				}
			}
		}
		slices.Sort(set)
		sets[v] = set
	}
	return sets
}
