package simulate

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/sluicemesh/sluice/e2e/eval/oracle"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// indexed is a graph with the edges of each service.
type indexed struct{ in, out [][]int32 }

func index(g *Graph) *indexed {
	x := &indexed{make([][]int32, len(g.Services)), make([][]int32, len(g.Services))}
	for i, e := range g.Edges {
		x.out[e.Caller] = append(x.out[e.Caller], int32(i))
		x.in[e.Callee] = append(x.in[e.Callee], int32(i))
	}
	return x
}

// trial is one fault of one service. It is the same for all arms and all evidence.
type trial struct {
	seed  uint64
	fault oracle.Fault
	path  []int32 // edges from the symptom to the faulty service; none: it is the symptom
	share []float64
}

const (
	grey     = 0.5 // share of a grey fault's requests that fail; of the others all do
	maxClimb = 4   // calls between the symptom and the fault
)

// newTrial makes repetition rep of the fault of service v.
func newTrial(t *truth, of *indexed, v int32, rep int, seed uint64) trial {
	s := mix(seed, uint64(v)<<32|uint64(rep))
	rng := rand.New(rand.NewPCG(s, 0x7a1a))
	tr := trial{seed: s, fault: oracle.Fault{Service: v, Share: 1}}
	if rng.IntN(2) == 0 {
		tr.fault.Share = grey
	}
	share := tr.fault.Share
	for range rng.IntN(maxClimb + 1) {
		callers := of.in[v]
		if len(callers) == 0 {
			break
		}
		i := callers[rng.IntN(len(callers))]
		tr.path = append([]int32{i}, tr.path...)
		tr.share = append([]float64{share}, tr.share...)
		v = t.graph.Edges[i].Caller
		share *= 0.6 + 0.4*rng.Float64()
	}
	return tr
}

// symptom is the service at which the fault is noticed.
func (tr *trial) symptom(g *Graph) int32 {
	if len(tr.path) == 0 {
		return tr.fault.Service
	}
	return g.Edges[tr.path[0]].Caller
}

// services lists the symptom, the faulty service and those in between.
func (tr *trial) services(g *Graph) []int32 {
	list := []int32{tr.symptom(g)}
	for _, i := range tr.path {
		list = append(list, g.Edges[i].Callee)
	}
	return list
}

const (
	quiet    = 20 * time.Minute // between trials: the ring forgets the last one
	noticing = time.Minute      // of calls before the onset, and after it
	atEach   = 60               // calls on each edge in that time: it is as long as that takes
)

// show lets the learner see the fault: calls on every known edge of the services on the
// path, those of the path failing since the onset. It returns what is known then.
func (l *learner) show(tr *trial, of *indexed) (*topology.Snapshot, time.Time) {
	onset := l.now.Add(quiet)
	l.graph.Series().Advance(onset.Add(noticing))
	source := topology.Span
	if l.evidence.Fused {
		source = topology.MeshMetric
	}
	failing := map[int32]float64{}
	for k, i := range tr.path {
		failing[i] = tr.share[k]
	}
	shown := map[int32]bool{}
	rng := rand.New(rand.NewPCG(tr.seed, 0x0b5e))
	services := tr.services(l.t.graph)
	if above := of.in[services[0]]; len(above) > 0 { // a caller of the symptom sees it too
		services = append(services, l.t.graph.Edges[above[0]].Caller)
		if len(tr.path) == 0 {
			failing[above[0]] = tr.fault.Share
		}
	}
	for _, v := range services {
		for _, i := range of.out[v] { // all of them: an edge that is left out would expire
			if !shown[i] && l.seen[i] {
				shown[i] = true
				l.calls(i, onset, failing[i], source, rng)
			}
		}
	}
	l.now = onset.Add(noticing)
	l.snapshot = l.graph.Snapshot(l.now)
	return l.snapshot, onset
}

// calls shows calls on an edge before and after the onset.
func (l *learner) calls(i int32, onset time.Time, share float64, source topology.Source, rng *rand.Rand) {
	e := l.t.graph.Edges[i]
	failed := uint64(0)
	for range atEach {
		if rng.Float64() < share {
			failed++
		}
	}
	call := topology.Call{
		Caller: l.t.graph.Services[e.Caller], Callee: l.t.graph.Services[e.Callee],
		Latency: 10 * time.Millisecond, Source: source,
	}
	for _, part := range []struct {
		at     time.Time
		calls  uint64
		failed bool
	}{
		{onset.Add(-noticing / 2), atEach, false},
		{onset.Add(noticing / 2), atEach - failed, false}, {onset.Add(noticing / 2), failed, true},
	} {
		if part.calls > 0 {
			call.At, call.Weight, call.Failed = part.at, part.calls, part.failed
			l.graph.Observe(call)
		}
	}
}

// seconds turns seconds into a duration.
func seconds(s float64) time.Duration { return time.Duration(math.Round(s * float64(time.Second))) }

// mix makes one seed of two.
func mix(a, b uint64) uint64 {
	z := a*0x9e3779b97f4a7c15 ^ b
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// names turns numbers into services.
func (t *truth) names(numbers []int32) []mesh.Service {
	out := make([]mesh.Service, len(numbers))
	for i, v := range numbers {
		out[i] = t.graph.Services[v]
	}
	return out
}
