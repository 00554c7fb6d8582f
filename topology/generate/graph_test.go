package generate

import (
	"slices"
	"testing"
)

// TestPublishedStatistics prints the fit: go test -v -run Published ./topology/generate
func TestPublishedStatistics(t *testing.T) {
	want := Published()
	for seed := range uint64(3) {
		fit := NewGraph(seed, want).Fit()
		t.Logf("seed %d: %s", seed, fit)
		if fit.Services != want.Services || fit.Edges != want.Edges || fit.FanIn != want.MaxFanIn || fit.FanOut != want.MaxFanOut {
			t.Errorf("seed %d: sizes differ: %s", seed, fit)
		}
		if fit.BlastMedian != 8 || fit.BlastP99 < 57 || fit.BlastP99 > 61 || fit.BlastMax < 170 || fit.BlastMax > 177 {
			t.Errorf("seed %d: blast radii differ: %s", seed, fit)
		}
	}
}

func TestPlantedGraph(t *testing.T) {
	settings := Published()
	settings.Cycles, settings.Sticky, settings.Reversed = 100, 300, 0
	g := NewGraph(1, settings)
	fit := g.Fit()
	t.Log(fit)
	if fit.Rings != 100 || fit.StickyEdges < 280 || fit.LargestComponent < 3 || fit.LargestComponent > 5 {
		t.Errorf("planted %s", fit)
	}
	if again := NewGraph(1, settings); !slices.Equal(again.Edges, g.Edges) || !slices.Equal(again.Services, g.Services) {
		t.Error("the same seed gave another graph")
	}
	if other := NewGraph(2, settings); slices.Equal(other.Edges, g.Edges) {
		t.Error("another seed gave the same graph")
	}
	larger := 0
	for v, set := range g.RestartSets() {
		if !slices.Contains(set, int32(v)) || !slices.IsSorted(set) {
			t.Fatalf("restart set of %d is %v", v, set)
		}
		if len(set) > 1 {
			larger++
		}
	}
	if larger < 200 {
		t.Errorf("%d restart sets of several services, want some hundreds", larger)
	}
}
