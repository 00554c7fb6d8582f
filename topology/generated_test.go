package topology

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"gonum.org/v1/gonum/graph/simple"
	"gonum.org/v1/gonum/graph/topo"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology/generate"
)

// declared returns the Graph of made.
func declared(made *generate.Graph) *Graph {
	g := NewGraph()
	g.RegisterNames(made.Services)
	for _, e := range made.Edges {
		g.Declare(made.Services[e.Caller], made.Services[e.Callee], e.Sticky)
	}
	return g
}

// TestRestartSetsAreTheTrueOnes compares with what was planted, for every service.
func TestRestartSetsAreTheTrueOnes(t *testing.T) {
	settings := generate.Published()
	settings.Cycles, settings.Sticky = 200, 600
	made := generate.NewGraph(7, settings)
	snap := declared(made).Snapshot(time.Unix(1, 0))
	for v, set := range made.RestartSets() {
		want := make([]mesh.Service, len(set))
		for i, u := range set {
			want[i] = made.Services[u]
		}
		slices.Sort(want)
		got := snap.Planned([]mesh.Service{made.Services[v]})
		if !slices.Equal(got.RestartSet, want) {
			t.Fatalf("restart set of %s is %v, want %v", made.Services[v], got.RestartSet, want)
		}
	}
}

// withCycles returns settings with 400 edges against the direction of others, which tie
// hundreds of services into one component.
func withCycles() generate.Settings {
	settings := generate.Published()
	settings.Reversed = 400
	return settings
}

// cpu returns the processor time of the process so far.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkRebuild measures a snapshot after one edge changed its mark: all rows, the
// components, the epoch. Processor time; gonum builds its graph and runs TarjanSCC.
func BenchmarkRebuild(b *testing.B) {
	for name, settings := range map[string]generate.Settings{"published": generate.Published(), "cycles": withCycles()} {
		made := generate.NewGraph(1, settings)
		g := declared(made)
		b.Run(name+"/sluice", func(b *testing.B) {
			b.ReportAllocs()
			began, sticky := cpu(b), false
			for b.Loop() {
				sticky = !sticky
				g.Declare(made.Services[made.Edges[0].Caller], made.Services[made.Edges[0].Callee], sticky)
				g.Snapshot(time.Unix(1, 0))
			}
			b.ReportMetric(float64(cpu(b)-began)/float64(b.N)/1000, "cpu-us/op")
		})
		b.Run(name+"/gonum", func(b *testing.B) {
			began := cpu(b)
			for b.Loop() {
				reference := simple.NewDirectedGraph()
				for v := range made.Services {
					reference.AddNode(simple.Node(v))
				}
				for _, e := range made.Edges {
					reference.SetEdge(simple.Edge{F: simple.Node(e.Caller), T: simple.Node(e.Callee)})
				}
				topo.TarjanSCC(reference)
			}
			b.ReportMetric(float64(cpu(b)-began)/float64(b.N)/1000, "cpu-us/op")
		})
	}
}
