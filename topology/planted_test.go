package topology

import (
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology/generate"
)

// plantedSeeds are how many graphs are made.
const plantedSeeds = 60

// planted returns a graph of a seed with many rings and sticky edges, and what is learned
// of it from one call on each edge and the declared sticky ones.
func planted(seed uint64) (*generate.Graph, *Snapshot) {
	made := generate.NewGraph(seed, generate.Settings{
		Services: 150, Edges: 320, MaxFanIn: 20, MaxFanOut: 30,
		BlastMedian: 8, BlastSigma: 0.86, BlastMax: 60, Cycles: 20, Sticky: 30,
	})
	g, at := NewGraph(), time.Unix(1000, 0)
	g.RegisterNames(made.Services)
	for _, e := range made.Edges {
		caller, callee := made.Services[e.Caller], made.Services[e.Callee]
		if e.Sticky {
			g.Declare(caller, callee, true)
		}
		g.Observe(Call{Caller: caller, Callee: callee, At: at, Latency: time.Millisecond, Source: Span})
	}
	return made, g.Snapshot(at)
}

// plantedNames returns the services of the numbers, sorted.
func plantedNames(made *generate.Graph, numbers []int32) []mesh.Service {
	services := make([]mesh.Service, len(numbers))
	for i, v := range numbers {
		services[i] = made.Services[v]
	}
	slices.Sort(services)
	return services
}

// Restart sets learned from calls are the planted ones, for every service of every graph;
// each member says why, and none can be left out: an edge that ties it to the rest, in its
// component or sticky, would be cut.
func TestPlantedRestartSetsAreTrueExplainedAndMinimal(t *testing.T) {
	larger := 0
	for seed := range uint64(plantedSeeds) {
		made, snap := planted(seed)
		for v, set := range made.RestartSets() {
			want, target := plantedNames(made, set), made.Services[v]
			group := snap.Planned([]mesh.Service{target})
			if !slices.Equal(group.RestartSet, want) {
				t.Fatalf("seed %d: restart set of %s is %v, planted %v", seed, target, group.RestartSet, want)
			}
			for _, member := range group.Members {
				if member.Service != target && !tied(snap, &group, member) {
					t.Fatalf("seed %d: %s is restarted with %s for no reason: %+v", seed, member.Service, target, member)
				}
			}
			larger += min(1, len(want)-1)
		}
	}
	if larger < plantedSeeds*20 {
		t.Errorf("only %d restart sets have more than one member", larger)
	}
}

// tied reports whether each reason of member is evidence between it and the rest of the
// set that would be cut without it, and there is one.
func tied(snap *Snapshot, group *Group, member Member) bool {
	for _, edge := range member.Why {
		coupled := edge.Sticky || slices.Contains(snap.Component(edge.Caller), edge.Callee)
		if edge.Caller != member.Service || edge.Calls == 0 || !coupled || !slices.Contains(group.RestartSet, edge.Callee) {
			return false
		}
	}
	return len(member.Why) > 0
}

// Orders name each member once, and no caller restarts before what it calls, but inside a
// component.
func TestPlantedOrdersFollowTheCalls(t *testing.T) {
	for seed := range uint64(20) {
		made, snap := planted(seed)
		for v := range made.Services {
			group := snap.Planned(made.Services[v : v+1])
			if !slices.Equal(slices.Sorted(slices.Values(group.DrainOrder)), group.RestartSet) ||
				!slices.Equal(slices.Sorted(slices.Values(group.RestartOrder)), group.RestartSet) {
				t.Fatalf("seed %d: orders %v and %v of %v", seed, group.DrainOrder, group.RestartOrder, group.RestartSet)
			}
			for _, caller := range group.RestartSet {
				for _, callee := range snap.Callees(caller) {
					first, second := slices.Index(group.RestartOrder, callee), slices.Index(group.RestartOrder, caller)
					if first > second && !slices.Contains(snap.Component(caller), callee) {
						t.Fatalf("seed %d: %s restarts before %s, which it calls", seed, caller, callee)
					}
				}
			}
		}
	}
}

// With too little evidence for the bound that is asked for, all that the symptom reaches
// belongs to its group; the restart set is still that of the first suspect.
func TestTooWideABoundTakesAllDownstream(t *testing.T) {
	snap, onset := shop(t, func(int, mesh.Service) bool { return false })
	all := []mesh.Service{"a/front", "a/mail", "a/order", "a/pay"}
	for _, c := range []struct {
		most float64
		want []mesh.Service
	}{{0, all[:1]}, {0.99, all[:1]}, {0.01, all}} {
		group := snap.Group(Symptom{Service: "a/front", Onset: onset, MostMissed: c.most})
		var got []mesh.Service
		for _, member := range group.Members {
			got = append(got, member.Service)
		}
		if !slices.Equal(got, c.want) || !slices.Equal(group.RestartSet, all[:1]) {
			t.Errorf("at most %g missed: members %v, restart set %v, want %v; the bound is %+v", c.most, got, group.RestartSet, c.want, group.Missed)
		}
	}
}
