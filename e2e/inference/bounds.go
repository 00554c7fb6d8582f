package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/generate"
)

// bounds is what generated recordings say of the bounds on what was missed.
type bounds struct {
	Fit     string    `json:"fit"`     // of a generated graph, beside the published figures
	Planted string    `json:"planted"` // the same with planted cycles and sticky edges
	Fused   fused     `json:"fused"`
	Covered []covered `json:"covered"`
}

// fused counts what is missed at 1 % sampling, judged on a recording of its own.
type fused struct {
	Graphs       int `json:"graphs"`
	Minutes      int `json:"minutes"` // of each recording
	Judged       int `json:"judged"`  // edges with a call a minute or more in the second recording
	MissedSpans  int `json:"missed_spans_only"`
	MissedFused  int `json:"missed_with_mesh_metrics"`
	RareJudged   int `json:"rarer_judged"` // edges with fewer
	RareMissed   int `json:"rarer_missed_with_mesh_metrics"`
	SampledCalls int `json:"sampled_calls"`
}

// covered counts in how many repetitions a bound was above what happened later.
type covered struct {
	Sampling    float64 `json:"sampling"`
	Repetitions int     `json:"repetitions"`
	Edges       float64 `json:"edges_covered"` // share of repetitions
	Sets        float64 `json:"sets_covered"`
	Median      float64 `json:"median_upper95"`
	Vacuous     float64 `json:"vacuous"` // share of bounds that are 1
	MeanMissed  float64 `json:"mean_missed"`
	SetMedian   float64 `json:"sets_median_upper95"`
	SetMean     float64 `json:"sets_mean_shown_too_small"` // share of later requests that show it
	Lacking     float64 `json:"sets_lacking_members"`      // share of repetitions, against what was planted
}

// Sizes of the generated recordings.
const (
	fusedGraphs   = 3
	fusedMinutes  = 30
	fusedRate     = 3000 // requests a minute
	boundMinutes  = 60
	boundRate     = 300
	heldOutFrom   = boundMinutes * boundRate * 4 / 5 // requests
	boundServices = 200
)

// samplings are the shares of traces that are kept.
func samplings() []float64 { return []float64{1, 0.1, 0.01, 0.001} }

// planted are the published statistics with planted cycles and sticky edges.
func planted() generate.Settings {
	settings := generate.Published()
	settings.Cycles, settings.Sticky = 200, 600
	return settings
}

// small is a graph that can be recorded hundreds of times.
func small() generate.Settings {
	return generate.Settings{
		Services: boundServices, Edges: 430, MaxFanIn: 20, MaxFanOut: 30,
		BlastMedian: 8, BlastSigma: 0.86, BlastMax: 60, Cycles: 30, Sticky: 20,
	}
}

// measureBounds runs both experiments; repetitions is of the second.
func measureBounds(repetitions int, progress io.Writer) bounds {
	b := bounds{
		Fit:     generate.NewGraph(1, generate.Published()).Fit().String(),
		Planted: generate.NewGraph(1, planted()).Fit().String(),
	}
	for seed := range uint64(fusedGraphs) {
		b.Fused.add(newStream(generate.NewGraph(seed+1, planted()), seed))
	}
	fmt.Fprintln(progress, "fused evidence judged")
	trials := make([][]trial, len(samplings()))
	for seed := range uint64(repetitions) {
		s := newStream(generate.NewGraph(seed+1, small()), seed)
		for i, t := range s.repeat() {
			trials[i] = append(trials[i], t)
		}
		if (seed+1)%50 == 0 {
			fmt.Fprintf(progress, "%d of %d repetitions\n", seed+1, repetitions)
		}
	}
	for i, sampling := range samplings() {
		b.Covered = append(b.Covered, summed(sampling, trials[i]))
	}
	return b
}

// epochStart is when the recordings begin.
func epochStart() time.Time { return time.Unix(1_700_000_040, 0) }

// add learns from one recording, spans at 1 % alone and with the mesh's metrics, and
// judges on a second one.
func (f *fused) add(s *stream) {
	f.Graphs, f.Minutes = f.Graphs+1, fusedMinutes
	spans, both := s.learner(), s.learner()
	counts := make([]uint64, len(s.chance))
	for minute := range fusedMinutes {
		at := epochStart().Add(time.Duration(minute)*time.Minute + 30*time.Second)
		clear(counts)
		for range fusedRate {
			sampled := s.rng.Float64() < 0.01
			for _, e := range s.request() {
				counts[e]++
				if sampled {
					f.SampledCalls++
					spans.Observe(s.call(e, at, topology.Span, 1))
					both.Observe(s.call(e, at, topology.Span, 1))
				}
			}
		}
		for e, n := range counts {
			if n > 0 {
				both.Observe(s.call(int32(e), at, topology.MeshMetric, n))
			}
		}
	}
	clear(counts)
	for range fusedMinutes * fusedRate {
		for _, e := range s.request() {
			counts[e]++
		}
	}
	end := epochStart().Add(fusedMinutes * time.Minute)
	f.judge(s, counts, observed(spans.Snapshot(end)), observed(both.Snapshot(end)))
}

// judge counts the edges of the second recording that are not known.
func (f *fused) judge(s *stream, counts []uint64, spans, both map[[2]mesh.Service]bool) {
	for e, n := range counts {
		edge := s.made.Edges[e]
		pair := [2]mesh.Service{s.made.Services[edge.Caller], s.made.Services[edge.Callee]}
		switch {
		case n >= fusedMinutes:
			f.Judged++
			f.MissedSpans += count(!spans[pair])
			f.MissedFused += count(!both[pair])
		case n > 0:
			f.RareJudged++
			f.RareMissed += count(!both[pair])
		}
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// observed returns the edges of which a call was seen, or that are declared.
func observed(snapshot *topology.Snapshot) map[[2]mesh.Service]bool {
	known := map[[2]mesh.Service]bool{}
	for _, e := range snapshot.Edges() {
		known[[2]mesh.Service{e.Caller, e.Callee}] = true
	}
	return known
}

// trial is one repetition at one sampling: of one group the bounds, of the chance that
// the next request uses an edge that is not known or shows that the restart set is too
// small, and the share of later requests that did.
type trial struct {
	upper, missed      float64
	setUpper, tooSmall float64
	lacks              bool // the restart set lacks a planted member
}

// repeat learns from one recording at each sampling, and compares with a second one of
// the same length, of which every request counts. The group is that of a service that was
// called in the second.
func (s *stream) repeat() []trial {
	learners := make([]*learning, len(samplings()))
	for k := range learners {
		learners[k] = &learning{s: s, graph: s.learner(), known: make([]bool, len(s.chance))}
		for e := range s.made.Edges {
			learners[k].known[e] = s.made.Edges[e].Sticky
		}
	}
	first := s.record()
	later := s.record()
	target := s.target(later)
	trials := make([]trial, len(learners))
	keep := make([]float64, len(first))
	for i := range keep {
		keep[i] = s.rng.Float64()
	}
	for k, share := range samplings() {
		for i, calls := range first {
			learners[k].minute(i, target)
			if keep[i] < share {
				learners[k].take(i, calls)
			}
		}
		learners[k].minute(len(first), target)
		trials[k] = learners[k].judge(later, target)
	}
	return trials
}

// target picks a service that a request of a recording calls, if it can be one of a
// planted component.
func (s *stream) target(requests [][]int32) int32 {
	target := int32(0)
	for tries := 0; tries < 1000; tries++ {
		calls := requests[s.rng.IntN(len(requests))]
		if len(calls) == 0 {
			continue
		}
		target = s.made.Edges[calls[s.rng.IntN(len(calls))]].Callee
		if len(s.made.Component(target)) > 1 {
			break
		}
	}
	return target
}

// record returns the requests of a recording, each the edges that it used.
func (s *stream) record() [][]int32 {
	requests := make([][]int32, boundMinutes*boundRate)
	for i := range requests {
		requests[i] = slices.Clone(s.request())
	}
	return requests
}

// learning is a graph that learns from a sampled recording, and in which minutes of the
// held-out fifth the restart set of the target grew.
type learning struct {
	s        *stream
	graph    *topology.Graph
	known    []bool // by edge
	took     bool   // a call in the minute under way
	size     int    // of the restart set at the begin of the minute
	grown, n uint64 // minutes with a call that were held out
}

// minute closes the minute before request i if that is the first of its minute.
func (l *learning) minute(i int, target int32) {
	if i%boundRate != 0 {
		return
	}
	size := len(l.s.restartSet(l.known, nil, target))
	if i > heldOutFrom && l.took {
		l.n++
		l.grown += uint64(count(size > l.size))
	}
	l.size, l.took = size, false
}

// take learns request i.
func (l *learning) take(i int, calls []int32) {
	at := epochStart().Add(time.Duration(i) * time.Minute / boundRate)
	for _, e := range calls {
		l.graph.Observe(l.s.call(e, at, topology.Span, 1))
		l.known[e], l.took = true, true
	}
}

// judge compares the bounds at the end of the recording with another recording.
func (l *learning) judge(later [][]int32, target int32) trial {
	snapshot := l.graph.Snapshot(epochStart().Add(boundMinutes * time.Minute))
	group := snapshot.Planned([]mesh.Service{l.s.made.Services[target]})
	t := trial{upper: group.Missed.Upper95, setUpper: topology.UpperBound(l.grown, l.n, 0.95)}
	set := l.s.restartSet(l.known, nil, target)
	t.lacks = len(set) < len(l.s.made.RestartSets()[target])
	touching, missed, grown := 0, 0, 0
	wider := map[string]bool{} // by the edges that are not known
	for _, calls := range later {
		touched, unknown := false, false
		var more []int32
		for _, e := range calls {
			edge := l.s.made.Edges[e]
			at := set[edge.Caller] || set[edge.Callee]
			touched, unknown = touched || at, unknown || at && !l.known[e]
			if !l.known[e] {
				more = append(more, e)
			}
		}
		touching, missed = touching+count(touched), missed+count(unknown)
		if len(more) > 0 {
			key := fmt.Sprint(more)
			if _, done := wider[key]; !done {
				wider[key] = len(l.s.restartSet(l.known, more, target)) > len(set)
			}
			grown += count(wider[key])
		}
	}
	t.missed, t.tooSmall = float64(missed)/float64(max(touching, 1)), float64(grown)/float64(len(later))
	return t
}

// restartSet is the restart set of v in the graph of the known edges and more, computed
// from the definition: whole components and sticky callers.
func (s *stream) restartSet(known []bool, more []int32, v int32) map[int32]bool {
	down, up := make([][]int32, len(s.made.Services)), make([][]int32, len(s.made.Services))
	sticky := make([][]int32, len(s.made.Services))
	for e, edge := range s.made.Edges {
		if known[e] || slices.Contains(more, int32(e)) {
			down[edge.Caller], up[edge.Callee] = append(down[edge.Caller], edge.Callee), append(up[edge.Callee], edge.Caller)
			if edge.Sticky {
				sticky[edge.Callee] = append(sticky[edge.Callee], edge.Caller)
			}
		}
	}
	set, queue := map[int32]bool{v: true}, []int32{v}
	for at := 0; at < len(queue); at++ {
		below, above := reached(down, queue[at]), reached(up, queue[at])
		for u := range below {
			if above[u] && !set[u] {
				set[u], queue = true, append(queue, u)
			}
		}
		for _, u := range sticky[queue[at]] {
			if !set[u] {
				set[u], queue = true, append(queue, u)
			}
		}
	}
	return set
}

// reached returns all that v reaches, v included.
func reached(next [][]int32, v int32) map[int32]bool {
	seen, queue := map[int32]bool{v: true}, []int32{v}
	for at := 0; at < len(queue); at++ {
		for _, u := range next[queue[at]] {
			if !seen[u] {
				seen[u], queue = true, append(queue, u)
			}
		}
	}
	return seen
}

// summed sums up the trials of one sampling.
func summed(sampling float64, trials []trial) covered {
	c := covered{Sampling: sampling, Repetitions: len(trials)}
	var uppers, setUppers []float64
	n := float64(len(trials))
	for _, t := range trials {
		c.Edges += float64(count(t.missed <= t.upper)) / n
		c.Sets += float64(count(t.tooSmall <= t.setUpper)) / n
		c.Vacuous += float64(count(t.upper >= 1)) / n
		c.MeanMissed += t.missed / n
		c.SetMean += t.tooSmall / n
		c.Lacking += float64(count(t.lacks)) / n
		uppers, setUppers = append(uppers, t.upper), append(setUppers, t.setUpper)
	}
	slices.Sort(uppers)
	slices.Sort(setUppers)
	c.Median, c.SetMedian = uppers[len(uppers)/2], setUppers[len(setUppers)/2]
	return c
}

// print writes the bounds for people.
func (b *bounds) print(w io.Writer) {
	fmt.Fprintf(w, "\ngenerated graph, published figures in parentheses:\n  %s\n  %s\n", b.Fit, b.Planted)
	f := &b.Fused
	fmt.Fprintf(w, "\n%d graphs, 1%% of traces, %d minutes learned, %d other minutes judged (%d sampled calls):\n",
		f.Graphs, f.Minutes, f.Minutes, f.SampledCalls)
	fmt.Fprintf(w, "  edges with >= 1 call a minute: %d; missed by spans alone %d, with mesh metrics %d\n", f.Judged, f.MissedSpans, f.MissedFused)
	fmt.Fprintf(w, "  edges with fewer: %d; missed with mesh metrics %d\n\n", f.RareJudged, f.RareMissed)
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tabs, "SAMPLING\tREPETITIONS\tEDGES COVERED\tMEDIAN BOUND\tBOUND IS 1\tMEAN MISSED\tSETS COVERED\tMEDIAN BOUND\tMEAN SHOWN SMALL\tLACK A MEMBER")
	for _, c := range b.Covered {
		fmt.Fprintf(tabs, "%g%%\t%d\t%.1f%%\t%.3f\t%.1f%%\t%.5f\t%.1f%%\t%.3f\t%.5f\t%.1f%%\n", 100*c.Sampling, c.Repetitions,
			100*c.Edges, c.Median, 100*c.Vacuous, c.MeanMissed, 100*c.Sets, c.SetMedian, c.SetMean, 100*c.Lacking)
	}
	_ = tabs.Flush()
}
