package simulate

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// Evidence is what the typed arm may know of a graph.
type Evidence struct {
	Traces float64 // share that is kept, 0..1
	Fused  bool    // the mesh's own metrics are read too
	Hidden float64 // share of the true edges that no source ever shows
	Sticky float64 // share of sticky marks that are not known though their edge is
}

// String names e as the report does.
func (e Evidence) String() string {
	text := fmt.Sprintf("traces %g%%", 100*e.Traces)
	if e.Fused {
		text += " + mesh metrics"
	}
	if e.Hidden > 0 {
		text += fmt.Sprintf(", %g%% hidden", 100*e.Hidden)
	}
	if e.Sticky > 0 {
		text += fmt.Sprintf(", %g%% of sticky marks unknown", 100*e.Sticky)
	}
	return text
}

// Headline is the evidence that the floors are about.
func Headline() Evidence { return Evidence{Traces: 0.01, Fused: true} }

// Cells lists the kinds of evidence that are compared, the headline first.
func Cells() []Evidence {
	cells := []Evidence{Headline()}
	for _, traces := range []float64{1, 0.1, 0.01, 0.001} {
		for _, fused := range []bool{true, false} {
			cells = append(cells, Evidence{Traces: traces, Fused: fused})
		}
	}
	for _, hidden := range []float64{0.01, 0.05, 0.20} {
		for _, fused := range []bool{true, false} {
			cells = append(cells, Evidence{Traces: 0.01, Fused: fused, Hidden: hidden})
		}
	}
	for _, sticky := range []float64{0.1, 0.5, 1} {
		cells = append(cells, Evidence{Traces: 0.01, Fused: true, Sticky: sticky})
	}
	seen := map[Evidence]bool{}
	return slices.DeleteFunc(cells, func(e Evidence) bool {
		was := seen[e]
		seen[e] = true
		return was
	})
}

// start is when recordings begin.
func start() time.Time { return time.Unix(1_700_000_400, 0) }

// learner is a call graph that was learned from a recording.
type learner struct {
	t        *truth
	evidence Evidence
	graph    *topology.Graph
	rng      *rand.Rand
	now      time.Time
	snapshot *topology.Snapshot
	recorded *topology.Snapshot // at the end of the recording, before any trial
	seen     []bool             // by edge: it is in the graph
	number   map[mesh.Service]int32
}

// learn records the mesh for some time and returns what inference knows then. Counts are
// Poisson; the last fifth is recorded by the minute, because bounds rest on its minutes.
// It stops early, with less, when ctx ends.
func learn(ctx context.Context, t *truth, e Evidence, c *Config, expiring bool) *learner {
	recorded, seed := c.Recorded, c.Seed
	l := &learner{
		t: t, evidence: e, graph: topology.NewGraph(), now: start(),
		rng: rand.New(rand.NewPCG(seed, math.Float64bits(e.Traces))), number: map[mesh.Service]int32{},
	}
	l.graph.RegisterNames(t.graph.Services)
	for i, name := range t.graph.Services {
		l.number[name] = int32(i)
	}
	end, held := start().Add(recorded), start().Add(recorded*4/5)
	window := start()
	for l.now.Before(end) && ctx.Err() == nil {
		step := time.Minute
		if l.now.Before(held) {
			step = min(topology.ExpiryWindow, held.Sub(l.now).Truncate(time.Minute)+time.Minute)
		}
		l.record(step)
		l.now = l.now.Add(step)
		if l.now.Sub(window) >= topology.ExpiryWindow {
			if expiring {
				l.graph.Snapshot(l.now) // as a control plane does all the time: edges expire then
			}
			window = l.now
		}
	}
	l.finish()
	return l
}

// record takes the evidence of some time.
func (l *learner) record(span time.Duration) {
	l.graph.Series().Advance(l.now.Add(span)) // else calls are ahead of its clock, and only show that edges exist
	for i := range l.t.graph.Edges {
		if l.t.draw[i] < l.evidence.Hidden {
			continue
		}
		mean := l.t.rate[i] * span.Minutes()
		if l.evidence.Fused { // traces of the same requests would add nothing
			l.take(i, poisson(l.rng, mean), topology.MeshMetric, span)
			continue
		}
		l.take(i, poisson(l.rng, mean*l.evidence.Traces), topology.Span, span)
	}
}

func (l *learner) take(edge int, calls uint64, source topology.Source, span time.Duration) {
	if calls == 0 {
		return
	}
	e := l.t.graph.Edges[edge]
	l.graph.Observe(topology.Call{
		Caller: l.t.graph.Services[e.Caller], Callee: l.t.graph.Services[e.Callee],
		At:      l.now.Add(time.Duration(l.rng.Int64N(int64(span)))),
		Latency: 10 * time.Millisecond, Source: source, Weight: calls,
	})
}

// finish marks the sticky edges that are known, and looks at the graph. A mark is known if
// the edge is: it was declared, or learned at an earlier restart.
func (l *learner) finish() {
	l.snapshot = l.graph.Snapshot(l.now)
	l.seen = make([]bool, len(l.t.graph.Edges))
	known := map[[2]int32]bool{}
	for _, e := range l.snapshot.Edges() {
		known[[2]int32{l.number[e.Caller], l.number[e.Callee]}] = true
	}
	for i, e := range l.t.graph.Edges {
		l.seen[i] = known[[2]int32{e.Caller, e.Callee}]
		if e.Sticky && l.seen[i] && l.t.known[i] >= l.evidence.Sticky {
			l.graph.MarkSticky(l.t.graph.Services[e.Caller], l.t.graph.Services[e.Callee])
		}
	}
	l.snapshot = l.graph.Snapshot(l.now)
	l.recorded = l.snapshot
}

// unseen is the chance that the next call that touches services uses an edge which is not
// in the graph.
func (l *learner) unseen(services []mesh.Service, of *indexed) float64 {
	touched := map[int32]bool{}
	for _, name := range services {
		v := l.number[name]
		for _, i := range of.in[v] {
			touched[i] = true
		}
		for _, i := range of.out[v] {
			touched[i] = true
		}
	}
	// Sorted: sums of floats depend on their order.
	edges := make([]int32, 0, len(touched))
	for i := range touched {
		edges = append(edges, i)
	}
	slices.Sort(edges)
	all, missed := 0.0, 0.0
	for _, i := range edges {
		all += l.t.rate[i]
		if !l.seen[i] {
			missed += l.t.rate[i]
		}
	}
	if all == 0 {
		return 0
	}
	return missed / all
}

// poisson draws a Poisson number; of a large mean as the rounded normal.
func poisson(rng *rand.Rand, mean float64) uint64 {
	if mean > 50 {
		return uint64(max(0, math.Round(mean+math.Sqrt(mean)*rng.NormFloat64())))
	}
	limit, product, n := math.Exp(-mean), rng.Float64(), uint64(0)
	for product > limit {
		product *= rng.Float64()
		n++
	}
	return n
}
