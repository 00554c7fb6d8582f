package driver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

func member(i int) mesh.Service { return mesh.Service(fmt.Sprintf("shop/s%04d", i)) }

func membersTo(n int) []mesh.Service {
	out := make([]mesh.Service, n)
	for i := range out {
		out[i] = member(i)
	}
	return out
}

func call(from, to int, calls uint64, sticky bool) topology.Edge {
	return topology.Edge{Caller: member(from), Callee: member(to), Calls: calls, Sticky: sticky}
}

func totalOf(cut []microkernel.CallEdge) uint64 {
	n := uint64(0)
	for _, e := range cut {
		n += e.Calls
	}
	return n
}

func TestTheCheapestCutOfShapesThatAreKnown(t *testing.T) {
	var circle, chain, star, bridge []topology.Edge
	for i := range 60 {
		circle = append(circle, call(i, (i+1)%60, uint64(100+i), false))
		if i > 0 {
			chain = append(chain, call(i, i-1, uint64(100), true))
			star = append(star, call(i, 0, uint64(i), true))
		}
	}
	for half := range 2 { // two cycles of 30, joined both ways by 7 and 900 calls
		for i := range 30 {
			bridge = append(bridge, call(30*half+i, 30*half+(i+1)%30, 5000, false))
		}
	}
	bridge = append(bridge, call(3, 40, 900, false), call(50, 20, 7, false))
	for _, test := range []struct {
		name  string
		edges []topology.Edge
		size  int
		calls uint64
	}{
		{"a circle falls apart with its lightest call", circle, 1, 100},
		{"a chain of sticky callers in the middle", chain, 1, 100},
		{"a star loses its lightest", star, 30, 30 * 31 / 2},
		{"two circles part at the lighter of two bridges", bridge, 1, 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			cut := cutOf(membersTo(60), test.edges, 30)
			if len(cut) != test.size || totalOf(cut) != test.calls {
				t.Errorf("cut of %d edges, %d calls, want %d and %d: %v", len(cut), totalOf(cut), test.size, test.calls, cut)
			}
		})
	}
}

// TestACutIsEnoughAndNoneOfItCanBeLeftOut judges random graphs by brute force: sets by
// their definition, and in small ones the least of all cuts.
func TestACutIsEnoughAndNoneOfItCanBeLeftOut(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 12))
	exact, best, ours := 0, uint64(0), uint64(0)
	for range 150 {
		n := 4 + rng.IntN(4)
		var edges []topology.Edge
		for range n + rng.IntN(6) {
			from, to := rng.IntN(n), rng.IntN(n)
			if from != to && !slices.ContainsFunc(edges, func(e topology.Edge) bool {
				return e.Caller == member(from) && e.Callee == member(to)
			}) {
				edges = append(edges, call(from, to, uint64(rng.IntN(50)), rng.IntN(3) == 0))
			}
		}
		limit := 1 + rng.IntN(n-1)
		cut := cutOf(membersTo(n), edges, limit)
		kept := without(edges, cut)
		if got := largestSet(n, kept); got > limit {
			t.Fatalf("a set of %d is left, the limit is %d: %v of %v", got, limit, cut, edges)
		}
		for i := range cut {
			less := slices.Delete(slices.Clone(cut), i, i+1)
			if largestSet(n, without(edges, less)) <= limit {
				t.Fatalf("%v is not needed in %v", cut[i], cut)
			}
		}
		least := leastCut(n, edges, limit)
		best, ours = best+least, ours+totalOf(cut)+uint64(len(cut))
		if least == totalOf(cut)+uint64(len(cut)) {
			exact++
		}
	}
	if exact < 120 || ours > best+best/5 {
		t.Errorf("the cheapest in %d of 150; %d calls where %d would do", exact, ours, best)
	}
	t.Logf("the cheapest in %d of 150; %d calls where %d would do", exact, ours, best)
}

func without(edges []topology.Edge, cut []microkernel.CallEdge) []topology.Edge {
	return slices.DeleteFunc(slices.Clone(edges), func(e topology.Edge) bool {
		return slices.ContainsFunc(cut, func(c microkernel.CallEdge) bool { return c.Caller == e.Caller && c.Callee == e.Callee })
	})
}

// largestSet is the size of the largest restart set: all that reach each other, and all
// that stick to those, from each member on.
func largestSet(n int, edges []topology.Edge) int {
	reach := make([][]bool, n)
	for v := range n {
		reach[v] = make([]bool, n)
		reach[v][v] = true
	}
	for range n {
		for _, e := range edges {
			from, to := slices.Index(membersTo(n), e.Caller), slices.Index(membersTo(n), e.Callee)
			for v := range n {
				reach[v][to] = reach[v][to] || reach[v][from]
			}
		}
	}
	most := 0
	for v := range n {
		set := map[int]bool{v: true}
		for grown := true; grown; {
			before := len(set)
			for u := range n {
				for m := range set {
					if reach[u][m] && reach[m][u] {
						set[u] = true
						break
					}
				}
			}
			for _, e := range edges {
				if e.Sticky && set[slices.Index(membersTo(n), e.Callee)] {
					set[slices.Index(membersTo(n), e.Caller)] = true
				}
			}
			grown = len(set) > before
		}
		most = max(most, len(set))
	}
	return most
}

func leastCut(n int, edges []topology.Edge, limit int) uint64 {
	least := ^uint64(0)
	for mask := range 1 << len(edges) {
		var kept []topology.Edge
		weight := uint64(0)
		for i := range edges {
			if mask>>i&1 == 0 {
				kept = append(kept, edges[i])
			} else {
				weight += edges[i].Calls + 1
			}
		}
		if weight < least && largestSet(n, kept) <= limit {
			least = weight
		}
	}
	return least
}

func TestALargeCutEndsWithinItsBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var edges []topology.Edge
	for i := range 5000 {
		edges = append(edges, call(i, (i+1)%5000, 10, false))
		for range 2 {
			edges = append(edges, call(i, rng.IntN(5000), uint64(rng.IntN(1000)), rng.IntN(9) == 0))
		}
	}
	start := time.Now()
	cut := cutOf(membersTo(5000), edges, 30)
	t.Logf("%d edges in %v", len(cut), time.Since(start))
	if cut != nil && largestSetOf(5000, without(edges, cut)) > 30 {
		t.Error("the cut is not enough")
	}
}

func largestSetOf(n int, edges []topology.Edge) int {
	_, size := newCutter(membersTo(n), edges, 30).largest()
	return size
}
