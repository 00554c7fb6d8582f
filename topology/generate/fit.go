package generate

import (
	"fmt"
	"slices"
)

// Fit is what a Graph came out as.
type Fit struct {
	Services, Edges, FanIn, FanOut                   int
	BlastMedian, BlastP99, BlastMax                  int
	Components, LargestComponent, Rings, StickyEdges int
}

// Fit counts what is published of the real graph, and what was planted. The components
// are those that were planted.
func (g *Graph) Fit() Fit {
	fit := Fit{Services: len(g.Services), Edges: len(g.Edges), Rings: len(g.rings), LargestComponent: 1}
	fit.Components = fit.Services
	for _, ring := range g.rings {
		fit.Components -= len(ring) - 1
		fit.LargestComponent = max(fit.LargestComponent, len(ring))
	}
	callers, fanOut := make([][]int32, fit.Services), make([]int, fit.Services)
	for _, e := range g.Edges {
		callers[e.Callee] = append(callers[e.Callee], e.Caller)
		fanOut[e.Caller]++
		if e.Sticky {
			fit.StickyEdges++
		}
	}
	blast := make([]int, fit.Services)
	seen := make([]int32, fit.Services)
	for v := range blast {
		fit.FanIn, fit.FanOut = max(fit.FanIn, len(callers[v])), max(fit.FanOut, fanOut[v])
		blast[v] = reached(callers, int32(v), seen)
	}
	slices.Sort(blast)
	n := len(blast)
	fit.BlastMedian, fit.BlastP99, fit.BlastMax = blast[n/2], blast[n*99/100], blast[n-1]
	return fit
}

// reached counts the services that reach v, without v. seen holds v+1 for each that was
// seen for v.
func reached(callers [][]int32, v int32, seen []int32) int {
	queue := []int32{v}
	seen[v] = v + 1
	for at := 0; at < len(queue); at++ {
		for _, u := range callers[queue[at]] {
			if seen[u] != v+1 {
				seen[u] = v + 1
				queue = append(queue, u)
			}
		}
	}
	return len(queue) - 1
}

// String prints the fit beside the published figures.
func (f Fit) String() string {
	want := Published()
	return fmt.Sprintf("services %d (%d), edges %d (%d), fan-in %d (%d), fan-out %d (%d), "+
		"blast radius median %d (8), P99 %d (59), max %d (%d); planted: %d rings, largest %d, %d sticky edges",
		f.Services, want.Services, f.Edges, want.Edges, f.FanIn, want.MaxFanIn, f.FanOut, want.MaxFanOut,
		f.BlastMedian, f.BlastP99, f.BlastMax, want.BlastMax, f.Rings, f.LargestComponent, f.StickyEdges)
}
