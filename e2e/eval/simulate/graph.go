package simulate

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology/generate"
)

// Graph is a call graph that recoveries are tried on. All that is in it is true.
type Graph struct {
	Name     string
	Services []mesh.Service // each once
	Edges    []Edge         // each pair once
}

// Edge is a call relation, by number of service.
type Edge struct {
	Caller, Callee int32
	Sticky         bool
	Rate           float64 // calls a minute, 0 = drawn
}

// Kinds of graphs that are made, and how many of each are at hand.
const (
	AlibabaOne = "alibaba-1" // the published size, degrees and blast radii; 200 rings, 600 sticky calls
	AlibabaTwo = "alibaba-2" // the same of another seed, with twice as many rings and sticky calls
	MetaGraph  = "meta"      // Meta's sizes and degrees
)

// Names lists the graphs that can be made, in their order.
func Names() []string { return []string{AlibabaOne, AlibabaTwo, MetaGraph} }

// Make returns the graph called name, one of Names; the same for ever.
func Make(name string) (*Graph, error) {
	settings := generate.Published()
	switch name {
	case AlibabaOne:
		settings.Cycles, settings.Sticky = 200, 600
		return alibaba(name, 1, settings), nil
	case AlibabaTwo:
		settings.Cycles, settings.Sticky = 400, 1200
		return alibaba(name, 2, settings), nil
	case MetaGraph:
		return meta(3), nil
	}
	return nil, fmt.Errorf("no graph is called %q: there are %v", name, Names())
}

func alibaba(name string, seed uint64, settings generate.Settings) *Graph {
	made := generate.NewGraph(seed, settings)
	g := &Graph{Name: name, Services: made.Services}
	for _, e := range made.Edges {
		g.Edges = append(g.Edges, Edge{Caller: e.Caller, Callee: e.Callee, Sticky: e.Sticky})
	}
	return g.Tidy()
}

// Tidy leaves each pair of different services once, sticky if any was, in order.
func (g *Graph) Tidy() *Graph {
	slices.SortFunc(g.Edges, func(a, b Edge) int {
		return cmp.Or(cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Callee, b.Callee))
	})
	kept := g.Edges[:0]
	for _, e := range g.Edges {
		if e.Caller == e.Callee {
			continue
		}
		if n := len(kept); n > 0 && kept[n-1].Caller == e.Caller && kept[n-1].Callee == e.Callee {
			kept[n-1].Sticky = kept[n-1].Sticky || e.Sticky
			kept[n-1].Rate += e.Rate
			continue
		}
		kept = append(kept, e)
	}
	g.Edges = kept
	return g
}

// What is published of Meta's services (Huye, Shkuro, Sambasivan, "Lifting the veil on
// Meta's microservice architecture", ATC 2023), as counted there for regular services.
const (
	metaServices = 7483
	metaCalls    = 93_036
	metaRings    = 270 // as many a service as in the other graphs; not published
	metaSticky   = 4700
)

// quantile is a point of a distribution.
type quantile struct{ p, value float64 }

// metaFanIn and metaFanOut are the quantiles of the degrees.
func metaFanIn() []quantile {
	return []quantile{{0, 0.6}, {0.5, 1.5}, {0.9, 19}, {0.99, 170}, {1, 2967}}
}

func metaFanOut() []quantile {
	return []quantile{{0, 0.6}, {0.5, 4}, {0.9, 23}, {0.99, 131}, {1, 1069}}
}

// meta draws degrees from the published quantiles, log-linear between them, and joins
// callers and callees at random. Nobody published who calls whom, so this is nearly all
// that can be said; calls go from lower to higher numbers, but for planted rings.
func meta(seed uint64) *Graph {
	rng := rand.New(rand.NewPCG(seed, 0x3e7a))
	g := &Graph{Name: MetaGraph, Services: make([]mesh.Service, metaServices)}
	for i, n := range rng.Perm(metaServices) {
		g.Services[i] = mesh.Service(fmt.Sprintf("prod/ms-%05d", n))
	}
	ins, outs := degrees(rng, metaFanIn()), degrees(rng, metaFanOut())
	sources, sinks := stubs(outs), stubs(ins)
	rng.Shuffle(len(sinks), func(i, j int) { sinks[i], sinks[j] = sinks[j], sinks[i] })
	for i := range min(len(sources), len(sinks), metaCalls) {
		a, b := sources[i*len(sources)/min(len(sources), len(sinks), metaCalls)], sinks[i]
		if a > b {
			a, b = b, a
		}
		g.Edges = append(g.Edges, Edge{Caller: a, Callee: b})
	}
	g.Tidy()
	g.rings(rng, metaRings)
	for range metaSticky {
		g.Edges[rng.IntN(len(g.Edges))].Sticky = true
	}
	return g.Tidy()
}

// rings closes calls of services with one caller to rings of two: then they are components,
// whatever else is there.
func (g *Graph) rings(rng *rand.Rand, wanted int) {
	callers, made := make([]int, len(g.Services)), 0
	for _, e := range g.Edges {
		callers[e.Callee]++
	}
	for _, i := range rng.Perm(len(g.Edges)) {
		if e := g.Edges[i]; made < wanted && callers[e.Callee] == 1 && callers[e.Caller] > 0 {
			callers[e.Callee], callers[e.Caller] = 0, 0 // no other ring meets this one
			g.Edges = append(g.Edges, Edge{Caller: e.Callee, Callee: e.Caller})
			made++
		}
	}
}

// degrees draws a degree for each service.
func degrees(rng *rand.Rand, points []quantile) []int {
	out := make([]int, metaServices)
	for i := range out {
		p := rng.Float64()
		k := 1
		for points[k].p < p && k < len(points)-1 {
			k++
		}
		low, high := points[k-1], points[k]
		share := (p - low.p) / (high.p - low.p)
		out[i] = int(math.Round(math.Exp(math.Log(low.value) + share*(math.Log(high.value)-math.Log(low.value)))))
	}
	return out
}

// stubs lists each number as often as its degree says.
func stubs(degrees []int) []int32 {
	var out []int32
	for i, n := range degrees {
		for range n {
			out = append(out, int32(i))
		}
	}
	return out
}
