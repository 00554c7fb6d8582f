package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/gonum/graph/simple"
	"gonum.org/v1/gonum/graph/topo"

	"github.com/sluicemesh/sluice/mesh"
)

// randomGraph declares edges between n services; the share back of them goes against
// the numbering, so cycles are planted.
func randomGraph(rng *rand.Rand, n, edges int, back float64) (*Graph, [][2]int) {
	g := NewGraph()
	all := make([]mesh.Service, n)
	for i := range all {
		all[i] = mesh.Service(fmt.Sprintf("ns/s%05d", i))
	}
	g.RegisterNames(all)
	pairs := make([][2]int, 0, edges)
	for range edges {
		from, to := rng.IntN(n), rng.IntN(n)
		if from > to && rng.Float64() >= back {
			from, to = to, from
		}
		pairs = append(pairs, [2]int{from, to})
		g.Declare(all[from], all[to], rng.IntN(20) == 0)
	}
	return g, pairs
}

func TestComponentsEqualGonums(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		n := 1 + rng.IntN(60)
		g, pairs := randomGraph(rng, n, rng.IntN(4*n), rng.Float64())
		snap := g.Snapshot(time.Unix(1, 0))
		reference := simple.NewDirectedGraph()
		for i := range n {
			reference.AddNode(simple.Node(i))
		}
		for _, pair := range pairs {
			if pair[0] != pair[1] {
				reference.SetEdge(reference.NewEdge(simple.Node(pair[0]), simple.Node(pair[1])))
			}
		}
		for _, component := range topo.TarjanSCC(reference) {
			want := make([]mesh.Service, 0, len(component))
			for _, node := range component {
				want = append(want, mesh.Service(fmt.Sprintf("ns/s%05d", node.ID())))
			}
			slices.Sort(want)
			for _, service := range want {
				if got := snap.Component(service); !slices.Equal(got, want) {
					t.Fatalf("seed %d: component of %s is %v, want %v", seed, service, got, want)
				}
			}
		}
		checkOrders(t, seed, snap)
	}
}

// checkOrders checks the numbering of components and the orders of a random group.
func checkOrders(t *testing.T, seed uint64, snap *Snapshot) {
	t.Helper()
	for _, e := range snap.Edges() {
		if snap.ComponentNumber(e.Callee) > snap.ComponentNumber(e.Caller) {
			t.Fatalf("seed %d: %s -> %s leads to a higher component", seed, e.Caller, e.Callee)
		}
	}
	services := snap.Services()
	group := snap.Planned(services[:min(3, len(services))])
	for i, service := range group.DrainOrder {
		above := snap.Blast([]mesh.Service{service})
		for _, later := range group.DrainOrder[i+1:] {
			if slices.Contains(above, later) && snap.ComponentNumber(later) != snap.ComponentNumber(service) {
				t.Fatalf("seed %d: %s drains before its caller %s", seed, service, later)
			}
		}
	}
	reversed := slices.Clone(group.DrainOrder)
	slices.Reverse(reversed)
	if !slices.Equal(group.RestartOrder, reversed) || !slices.Equal(group.RestoreOrder, reversed) {
		t.Fatalf("seed %d: restart order %v is not the reverse of %v", seed, group.RestartOrder, group.DrainOrder)
	}
	sorted := slices.Sorted(slices.Values(group.DrainOrder))
	if !slices.Equal(sorted, group.RestartSet) {
		t.Fatalf("seed %d: drain order %v does not name the restart set %v", seed, group.DrainOrder, group.RestartSet)
	}
}

func TestOrdersDoNotDependOnUnrelatedServices(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 1))
		g, _ := randomGraph(rng, 30, 60, 0.2)
		before := g.Snapshot(time.Unix(1, 0))
		targets := []mesh.Service{"ns/s00003", "ns/s00017"}
		want := before.Planned(targets)
		names := append(before.Services(), "aa/first", "zz/last")
		g.RegisterNames(names)
		g.Declare("ns/s00003", "aa/first", false)
		g.Declare("aa/first", "zz/last", true)
		after := g.Snapshot(time.Unix(2, 0))
		got := after.Planned(targets)
		if !slices.Equal(got.DrainOrder, want.DrainOrder) || !slices.Equal(got.BlastRadius, want.BlastRadius) {
			t.Fatalf("seed %d: order %v became %v", seed, want.DrainOrder, got.DrainOrder)
		}
		if before.Epoch() == after.Epoch() {
			t.Fatalf("seed %d: the epoch did not change with a new edge", seed)
		}
	}
}

func TestOrderOfEvidenceDoesNotMatter(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	_, pairs := randomGraph(rng, 40, 120, 0.2)
	build := func() *Snapshot {
		g := NewGraph()
		names := make([]mesh.Service, 40)
		for i := range names {
			names[i] = mesh.Service(fmt.Sprintf("ns/s%05d", i))
		}
		rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		g.RegisterNames(names)
		rng.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
		for _, pair := range pairs {
			g.Observe(Call{
				Caller: mesh.Service(fmt.Sprintf("ns/s%05d", pair[0])), Callee: mesh.Service(fmt.Sprintf("ns/s%05d", pair[1])),
				At: time.Unix(100, 0), Source: Span,
			})
		}
		return g.Snapshot(time.Unix(100, 0))
	}
	first, second := build(), build()
	if first.Epoch() != second.Epoch() {
		t.Errorf("epochs %s and %s of the same graph", first.Epoch(), second.Epoch())
	}
	if !strings.HasPrefix(first.Epoch(), "sha256:") || len(first.Epoch()) != 71 {
		t.Errorf("epoch %q is no sha256", first.Epoch())
	}
}

func TestNameBombLeavesTablesAndEdgesAlone(t *testing.T) {
	g := NewGraph()
	g.maxEdges = 2
	g.RegisterNames([]mesh.Service{"a/a", "a/b", "a/c"})
	at := time.Unix(100, 0)
	g.Observe(Call{Caller: "a/a", Callee: "a/b", At: at, Source: AccessLog})
	for i := range 100_000 {
		bomb := mesh.Service(fmt.Sprintf("evil/x%d", i))
		g.Observe(Call{Caller: bomb, Callee: "a/b", At: at, Source: Span})
		g.Observe(Call{Caller: "a/a", Callee: bomb, At: at, Source: Span})
		g.Observe(Call{Caller: "a/a", Callee: "a/b", Instance: string(bomb), At: at, Source: AccessLog})
	}
	if len(g.names) != 3 || g.edges.len() != 1 || len(g.series.tracks) != 1 {
		t.Errorf("%d names, %d edges, %d tracks after the bomb, want 3, 1, 1", len(g.names), g.edges.len(), len(g.series.tracks))
	}
	g.Observe(Call{Caller: "a/b", Callee: "a/c", At: at, Source: Span})
	g.Observe(Call{Caller: "a/c", Callee: "a/a", At: at, Source: Span})
	want := Quarantine{UnknownCaller: 100_000, UnknownCallee: 100_000, OverEdges: 1}
	if got := g.Quarantine(); got != want {
		t.Errorf("quarantine %+v, want %+v", got, want)
	}
	if edges := g.Snapshot(at).Edges(); len(edges) != 2 || edges[0].Calls != 100_001 {
		t.Errorf("edges %+v, want a/a -> a/b with 100001 calls and a/b -> a/c", edges)
	}
}

func TestSkewedEvidenceShowsExistenceOnly(t *testing.T) {
	g := NewGraph()
	g.RegisterNames([]mesh.Service{"a/a", "a/b"})
	g.Snapshot(time.Unix(1_000_000, 0))
	g.Observe(Call{Caller: "a/a", Callee: "a/b", At: time.Unix(1, 0), Latency: time.Hour, Failed: true, Source: Span, Existence: true})
	g.Observe(Call{Caller: "a/a", Callee: "a/b", At: time.Unix(9_000_000_000, 0), Failed: true, Source: Span})
	snap := g.Snapshot(time.Unix(1_000_001, 0))
	if len(snap.Edges()) != 1 {
		t.Fatal("the edge does not exist")
	}
	if sum := snap.Series().Window("a/b", time.Unix(999_000, 0), time.Unix(1_000_100, 0)); sum.Requests != 0 {
		t.Errorf("%d requests in the statistics, want 0", sum.Requests)
	}
	if got := g.Quarantine().OutOfTime; got != 1 {
		t.Errorf("%d calls out of time, want 1", got)
	}
}

func TestSnapshotIsNotChangedByLaterEvidence(t *testing.T) {
	g := NewGraph()
	g.RegisterNames([]mesh.Service{"a/a", "a/b"})
	at := time.Unix(1000, 0)
	call := Call{Caller: "a/a", Callee: "a/b", At: at, Latency: time.Millisecond, Source: AccessLog}
	g.Observe(call)
	before := g.Snapshot(at)
	for range 10 {
		call.Failed = true
		g.Observe(call)
		call.At = call.At.Add(time.Second)
	}
	g.RegisterNames([]mesh.Service{"a/a"})
	after := g.Snapshot(at.Add(10 * time.Second))
	if tick, _ := before.Series().Service("a/b", 1000); tick.Requests != 1 || tick.Errors != 0 || tick.Hist.Count() != 1 {
		t.Errorf("old snapshot says %d requests, %d errors, want 1, 0", tick.Requests, tick.Errors)
	}
	if len(before.Edges()) != 1 || before.Edges()[0].Calls != 1 {
		t.Errorf("old snapshot has edges %+v", before.Edges())
	}
	if len(after.Edges()) != 0 {
		t.Errorf("an unregistered callee is in %+v", after.Edges())
	}
	if tick, _ := after.Series().Service("a/b", 1000); tick.Requests != 2 || tick.Errors != 1 {
		t.Errorf("new snapshot says %d requests, %d errors, want 2, 1", tick.Requests, tick.Errors)
	}
}

// FuzzGraph feeds arbitrary calls and checks that groups stay within their definitions.
func FuzzGraph(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x10\x20\x31"), uint8(3))
	f.Add([]byte("\x00\x01\x01\x02\x02\x00\x05\x06"), uint8(60))
	f.Fuzz(func(t *testing.T, script []byte, symptomByte uint8) {
		names := []mesh.Service{"a/a", "a/b", "a/c", "a/d", "a/e", "outside/in"}
		g := NewGraph()
		g.RegisterNames(names)
		at := time.Unix(10_000, 0)
		for i := 0; i+2 < len(script); i += 3 {
			caller, callee := names[int(script[i])%len(names)], names[int(script[i+1])%len(names)]
			switch op := script[i+2]; {
			case op < 8:
				g.Declare(caller, callee, op < 2)
			case op < 10:
				g.MarkSticky(caller, callee)
			default:
				g.Observe(Call{
					Caller: caller, Callee: callee, At: at.Add(time.Duration(int8(op)) * time.Second), Source: Source(op),
					Failed: op&16 != 0, Latency: time.Duration(op) << 20, Weight: uint64(op >> 4), Connection: op&32 != 0,
				})
			}
		}
		snap := g.Snapshot(at.Add(time.Minute))
		symptom := names[int(symptomByte)%len(names)]
		group := snap.Group(Symptom{Service: symptom, Onset: at.Add(time.Duration(symptomByte) * time.Second)})
		if len(group.Suspects) == 0 || len(group.RestartSet) == 0 {
			t.Fatalf("group of %s is empty", symptom)
		}
		members := map[mesh.Service]bool{}
		for _, member := range group.Members {
			members[member.Service] = true
		}
		for _, service := range group.RestartSet {
			if !members[service] || slices.Contains(group.BlastRadius, service) {
				t.Fatalf("%s of the restart set is no member, or in the blast radius", service)
			}
			for _, caller := range snap.StickyCallers(service) {
				if !slices.Contains(group.RestartSet, caller) {
					t.Fatalf("sticky caller %s of %s is not restarted", caller, service)
				}
			}
		}
		if group.Missed.Upper95 < 0 || group.Missed.Upper95 > 1 {
			t.Fatalf("bound %v", group.Missed.Upper95)
		}
	})
}

// BenchmarkGraphRebuild measures shape, components and epoch of the paper's size, with
// 3 % of the edges planted against the order.
func BenchmarkGraphRebuild(b *testing.B) {
	g, _ := randomGraph(rand.New(rand.NewPCG(1, 1)), 5459, 11690, 0.03)
	for b.Loop() {
		buildStructure(g)
	}
}

// BenchmarkGroup measures the group of one symptom, every service in turn.
func BenchmarkGroup(b *testing.B) {
	g, _ := randomGraph(rand.New(rand.NewPCG(1, 1)), 5459, 11690, 0.0)
	snap := g.Snapshot(time.Unix(1, 0))
	services := snap.Services()
	i := 0
	for b.Loop() {
		snap.Group(Symptom{Service: services[i%len(services)], Onset: time.Unix(0, 0)})
		i++
	}
}
