package simulate

import (
	"math"
	"math/rand/v2"

	"github.com/sluicemesh/sluice/e2e/eval/oracle"
)

// Assumptions of the worlds, for want of anything published; docs/evaluation.md lists them.
const (
	rarest  = 1.0 / 300 // calls a minute of the rarest call of all, see rate
	busiest = 1000.0    // and of the busiest

	oneInstance    = 0.40 // of services; the rest has two or more
	twoInstances   = 0.25
	threeInstances = 0.20 // the rest has four to eight
	store          = 0.5  // of services that call nobody: one instance, no surge

	loadMedian, loadSigma   = 0.20, 0.5 // of the share of capacity in use, log-normal
	startMedian, startSigma = 3.0, 0.8  // seconds until ready, log-normal
	startMost               = 60.0
	defaultPatience         = 15.0 // seconds, the mesh's default timeout
	impatient               = 0.2  // of services have callers with a shorter one

	bypassOfHidden = 0.5 // of calls that nobody ever sees: they do not pass a proxy
)

// truth is a graph with what is true of its services.
type truth struct {
	graph    *Graph
	services []oracle.Service
	rate     []float64 // calls a minute, by edge
	draw     []float64 // an edge is hidden where that is below the share of hidden ones
	bypass   []bool    // if it is hidden
	known    []float64 // a sticky mark is known where that is below the share of known ones
	load     []float64 // share of capacity in use
}

// newTruth draws what the graph does not say. The same seed gives the same truth.
func newTruth(g *Graph, seed uint64) *truth {
	rng := rand.New(rand.NewPCG(seed, 0x7121))
	t := &truth{graph: g, services: make([]oracle.Service, len(g.Services)), load: make([]float64, len(g.Services))}
	callees := make([]int, len(g.Services))
	for _, e := range g.Edges {
		callees[e.Caller]++
		rate := e.Rate
		if drawn := rareToBusy(rng); rate == 0 {
			rate = drawn
		}
		t.rate = append(t.rate, rate)
		t.draw, t.bypass = append(t.draw, rng.Float64()), append(t.bypass, rng.Float64() < bypassOfHidden)
		t.known = append(t.known, rng.Float64())
	}
	for v := range t.services {
		t.services[v], t.load[v] = service(rng, callees[v] == 0)
	}
	return t
}

// rareToBusy draws a rate. That rates are spread evenly over the logarithm, and between
// which limits, follows from two published counts of the same trace: three minutes of it
// show 68 % of the edges that five hours show, with 228 calls an edge on average.
func rareToBusy(rng *rand.Rand) float64 {
	return rarest * math.Pow(busiest/rarest, rng.Float64())
}

func service(rng *rand.Rand, leaf bool) (oracle.Service, float64) {
	s := oracle.Service{Surge: true, Finishes: true, Patience: defaultPatience}
	switch p := rng.Float64(); {
	case p < oneInstance:
		s.Instances = 1
	case p < oneInstance+twoInstances:
		s.Instances = 2
	case p < oneInstance+twoInstances+threeInstances:
		s.Instances = 3
	default:
		s.Instances = 4 + rng.IntN(5)
	}
	if stored := rng.Float64() < store; stored && leaf {
		s.Instances, s.Surge = 1, false
	}
	load := min(0.95, loadMedian*math.Exp(loadSigma*rng.NormFloat64()))
	s.Needed = int(math.Ceil(load * float64(s.Instances)))
	s.Startup = min(startMost, startMedian*math.Exp(startSigma*rng.NormFloat64()))
	if rng.Float64() < impatient {
		s.Patience = []float64{1, 3, 5}[rng.IntN(3)]
	}
	return s, load
}

// reading says what raw commands do: the best and the worst that Kubernetes allows.
type reading string

const (
	gentle reading = "rollout" // applications end their requests, a new instance comes first where it can
	abrupt reading = "delete"  // all instances are deleted at once, and end nothing
)

// world is the truth as the judge takes it.
func (t *truth) world(hidden float64, as reading) *oracle.World {
	services := append([]oracle.Service(nil), t.services...)
	if as == abrupt {
		for i := range services {
			services[i].Surge, services[i].Finishes = false, false
		}
	}
	calls := make([]oracle.Call, len(t.graph.Edges))
	for i, e := range t.graph.Edges {
		calls[i] = oracle.Call{
			Caller: e.Caller, Callee: e.Callee, Sticky: e.Sticky, Bypass: t.draw[i] < hidden && t.bypass[i],
		}
	}
	return oracle.NewWorld(services, calls)
}
