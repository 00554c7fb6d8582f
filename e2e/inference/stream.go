package main

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/generate"
)

// maxCalls bounds the calls of one request.
const maxCalls = 64

// stream makes requests over a planted graph. Each begins at one of the services that
// face users, some far more often than others; at each service each edge is taken with a chance of its own, from nearly always
// to nearly never, so that some edges are used once in days and calls of one request hang
// together.
type stream struct {
	made    *generate.Graph
	out     [][]int   // edges by caller
	chance  []float64 // by edge
	entries []int
	weights []float64 // of entries, summed up
	rng     *rand.Rand
	queue   []int32
	calls   []int32 // edges of the request under way
}

const (
	rarest     = 1e-5 // the least chance of an edge
	entryOneIn = 5    // services faces users
)

func newStream(made *generate.Graph, seed uint64) *stream {
	s := &stream{
		made: made, out: make([][]int, len(made.Services)), chance: make([]float64, len(made.Edges)),
		rng: rand.New(rand.NewPCG(seed, 0x5151)),
	}
	for i, e := range made.Edges {
		s.out[e.Caller] = append(s.out[e.Caller], i)
		s.chance[i] = math.Pow(rarest, math.Pow(s.rng.Float64(), 3)) // half above 24 %
	}
	sum := 0.0
	for v := range made.Services {
		if v == 0 || s.rng.IntN(entryOneIn) == 0 {
			sum += math.Pow(1e-3, s.rng.Float64())
			s.entries, s.weights = append(s.entries, v), append(s.weights, sum)
		}
	}
	return s
}

// request returns the edges that the next request uses, to be read before the next one.
func (s *stream) request() []int32 {
	at, pick := 0, s.rng.Float64()*s.weights[len(s.weights)-1]
	for s.weights[at] < pick {
		at++
	}
	s.calls, s.queue = s.calls[:0], append(s.queue[:0], int32(s.entries[at]))
	for len(s.queue) > 0 && len(s.calls) < maxCalls {
		v := s.queue[0]
		s.queue = s.queue[1:]
		for _, e := range s.out[v] {
			if len(s.calls) < maxCalls && s.rng.Float64() < s.chance[e] {
				s.calls = append(s.calls, int32(e))
				s.queue = append(s.queue, s.made.Edges[e].Callee)
			}
		}
	}
	return s.calls
}

// call is the evidence of an edge.
func (s *stream) call(e int32, at time.Time, source topology.Source, weight uint64) topology.Call {
	edge := s.made.Edges[e]
	return topology.Call{
		Caller: s.made.Services[edge.Caller], Callee: s.made.Services[edge.Callee], At: at,
		Latency: time.Millisecond, Source: source, Weight: weight,
	}
}

// learner returns a graph that knows the services and the declared sticky edges of the
// stream, and nothing else.
func (s *stream) learner() *topology.Graph {
	g := topology.NewGraph()
	g.RegisterNames(s.made.Services)
	for _, e := range s.made.Edges {
		if e.Sticky {
			g.Declare(s.made.Services[e.Caller], s.made.Services[e.Callee], true)
		}
	}
	return g
}
