package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/generate"
)

// Few repetitions of the experiment of `make topology`: what is printed must cover.
func TestBoundsCoverWhatHappensLater(t *testing.T) {
	const repetitions = 4
	trials := make([][]trial, len(samplings()))
	for seed := range uint64(repetitions) {
		s := newStream(generate.NewGraph(seed+1, small()), seed)
		for i, one := range s.repeat() {
			trials[i] = append(trials[i], one)
		}
	}
	var b bounds
	for i, sampling := range samplings() {
		c := summed(sampling, trials[i])
		if c.Edges < 1 || c.Sets < 1 {
			t.Errorf("sampling %g: %+v", sampling, c)
		}
		b.Covered = append(b.Covered, c)
	}
	if b.Covered[0].Median > 0.5 || b.Covered[0].MeanMissed >= b.Covered[3].MeanMissed {
		t.Errorf("%+v: all requests seen say no more than one in a thousand", b.Covered)
	}
	var table strings.Builder
	b.print(&table)
	if !strings.Contains(table.String(), "EDGES COVERED") {
		t.Errorf("table:\n%s", table.String())
	}
}

// A trial with a bound below what happened must not count as covered.
func TestABoundThatIsTooLowIsCounted(t *testing.T) {
	c := summed(1, []trial{{upper: 0.1, missed: 0.2, setUpper: 0.1}, {upper: 0.1, missed: 0.1, setUpper: 0.1, tooSmall: 0.3, lacks: true}})
	if c.Edges != 0.5 || c.Sets != 0.5 || c.Lacking != 0.5 || c.Vacuous != 0 {
		t.Errorf("%+v", c)
	}
}

// The restart set computed here from its definition is the planted one, and that of the
// package under test, once all edges were seen.
func TestRestartSetsAgree(t *testing.T) {
	for seed := range uint64(5) {
		made := generate.NewGraph(seed, small())
		s := newStream(made, seed)
		known, graph := make([]bool, len(made.Edges)), s.learner()
		for e := range known {
			known[e] = true
			graph.Observe(s.call(int32(e), epochStart(), topology.Span, 1))
		}
		snapshot := graph.Snapshot(epochStart())
		for v, want := range made.RestartSets() {
			var got []int32
			for u := range s.restartSet(known, nil, int32(v)) {
				got = append(got, u)
			}
			slices.Sort(got)
			inferred := snapshot.Planned(made.Services[v : v+1]).RestartSet
			if !slices.Equal(got, want) || len(inferred) != len(want) {
				t.Fatalf("seed %d: restart set of %d is %v here, %v inferred, planted %v", seed, v, got, inferred, want)
			}
		}
	}
}
