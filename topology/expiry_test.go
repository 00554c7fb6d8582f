package topology

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// minute returns the m-th minute after zero.
func minute(m int) time.Time { return second(60 * m) }

// observeMinutes observes one call a minute on caller -> callee in [from, to).
func observeMinutes(g *Graph, call Call, from, to int) {
	for m := from; m < to; m++ {
		call.At = minute(m)
		g.Observe(call)
	}
}

func TestEdgeExpiresAfterThreeWindowsOfItsCallersLogWithoutIt(t *testing.T) {
	old := Call{Caller: "a/a", Callee: "a/b", Source: AccessLog}
	spans := Call{Caller: "a/a", Callee: "a/b", Source: Span}
	others := Call{Caller: "a/a", Callee: "a/c", Source: AccessLog}
	strangers := Call{Caller: "a/c", Callee: "a/b", Source: AccessLog}
	for _, test := range []struct {
		name     string
		seen     Call // until minute 5
		later    Call // from then on
		declared bool
		exists   [5]bool // after so many windows
	}{
		{"its caller calls others", old, others, false, [5]bool{true, true, true, true, false}},
		{"its caller is silent", old, strangers, false, [5]bool{true, true, true, true, true}},
		{"it is declared", old, others, true, [5]bool{true, true, true, true, true}},
		{"only spans ever showed it", spans, others, false, [5]bool{true, true, true, true, true}},
		{"spans go on to show it", old, spans, false, [5]bool{true, true, true, true, true}},
		{"it goes on", old, old, false, [5]bool{true, true, true, true, true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := NewGraph()
			g.RegisterNames([]mesh.Service{"a/a", "a/b", "a/c"})
			if test.declared {
				g.Declare("a/a", "a/b", false)
			}
			g.Snapshot(minute(0))
			observeMinutes(g, test.seen, 0, 5)
			for window, want := range test.exists {
				snap := g.Snapshot(minute(10 * window).Add(time.Second))
				if _, got := edgeOf(snap, "a/a", "a/b"); got != want {
					t.Fatalf("after %d windows the edge exists: %v, want %v", window, got, want)
				}
				from := 10 * window
				if window == 0 {
					from = 5
				}
				observeMinutes(g, test.later, from, 10*window+10)
			}
		})
	}
}

func TestExpiredEdgeComesBackAsNew(t *testing.T) {
	g := NewGraph()
	g.RegisterNames([]mesh.Service{"a/a", "a/b", "a/c"})
	g.Snapshot(minute(0))
	observeMinutes(g, Call{Caller: "a/a", Callee: "a/b", Source: AccessLog}, 0, 5)
	g.MarkSticky("a/a", "a/b")
	for m := 10; m <= 50; m += 10 {
		observeMinutes(g, Call{Caller: "a/a", Callee: "a/c", Source: AccessLog}, m-5, m)
		g.Snapshot(minute(m).Add(time.Second))
	}
	observeMinutes(g, Call{Caller: "a/a", Callee: "a/b", Source: AccessLog}, 50, 52)
	snap := g.Snapshot(minute(52))
	e, found := edgeOf(snap, "a/a", "a/b")
	if !found || e.Calls != 2 || e.Sticky || !e.First.Equal(minute(50)) {
		t.Errorf("edge %+v, want 2 calls since minute 50 and no mark", e)
	}
	if want := uint64(25 + 2); snap.Requests() != want {
		t.Errorf("%d requests in all, want %d", snap.Requests(), want)
	}
}

// edgeOf returns an edge of snap.
func edgeOf(snap *Snapshot, caller, callee mesh.Service) (Edge, bool) {
	for _, e := range snap.Edges() {
		if e.Caller == caller && e.Callee == callee {
			return e, true
		}
	}
	return Edge{}, false
}

// TestLearnedSticky restarts a store at second 60; it is ready at 70.
func TestLearnedSticky(t *testing.T) {
	for _, test := range []struct {
		name   string
		failed func(second int) bool
		quick  bool // the restart is seen by its incarnation only
		want   bool
	}{
		{"errors outlive its readiness", func(s int) bool { return s >= 60 }, false, true},
		{"errors outlive a quick restart", func(s int) bool { return s >= 60 }, true, true},
		{"errors end 20 s after", func(s int) bool { return s >= 60 && s < 90 }, false, false},
		{"errors were there before", func(s int) bool { return s >= 20 }, false, false},
		{"no errors", func(int) bool { return false }, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := NewGraph()
			for s := range 140 {
				g.Snapshot(second(s))
				store := mesh.Instance{Name: "b-0", State: mesh.Ready}
				store.Ref = mesh.Ref{Service: "a/b", UID: "b-0"}
				if s >= 60 {
					store.Incarnation = 1
				}
				if s >= 60 && s < 70 && !test.quick {
					store.State = mesh.Unready
				}
				g.Register(&mesh.World{Services: []mesh.ServiceState{
					{Name: "a/a"}, {Name: "a/b", Instances: []mesh.Instance{store}},
				}})
				g.Observe(Call{Caller: "a/a", Callee: "a/b", At: second(s), Source: AccessLog, Failed: test.failed(s)})
			}
			e, found := edgeOf(g.Snapshot(second(140)), "a/a", "a/b")
			if !found || e.Sticky != test.want {
				t.Errorf("sticky %v, want %v", e.Sticky, test.want)
			}
		})
	}
}

// TestBoundOnMissedEdgesCovers repeats a service that calls rare callees in bursts of one
// minute each, and compares the bound with what the next request truly would do.
func TestBoundOnMissedEdgesCovers(t *testing.T) {
	const repeats, callees, minutes, burst = 200, 40, 120, 25
	names := []mesh.Service{"a/a"}
	for i := range callees {
		names = append(names, mesh.Service("a/c"+string(rune('0'+i/10))+string(rune('0'+i%10))))
	}
	covered, informative := 0, 0
	for seed := range uint64(repeats) {
		rng := rand.New(rand.NewPCG(seed, 3))
		weight, total := make([]float64, callees), 0.0
		for i := range weight {
			weight[i] = 1 / float64((i+1)*(i+1))
			total += weight[i]
		}
		g := NewGraph()
		g.RegisterNames(names)
		seen := make([]bool, callees)
		for m := range minutes {
			at, callee := rng.Float64()*total, 0
			for ; callee < callees-1 && at > weight[callee]; callee++ {
				at -= weight[callee]
			}
			seen[callee] = true
			for range burst { // all calls of a minute go the same way
				g.Observe(Call{Caller: "a/a", Callee: names[1+callee], At: minute(m), Source: Span})
			}
		}
		truth := 0.0
		for i, was := range seen {
			if !was {
				truth += weight[i] / total
			}
		}
		missed := g.Snapshot(minute(minutes)).Planned([]mesh.Service{"a/a"}).Missed
		if missed.Upper95 >= truth {
			covered++
		}
		if missed.Upper95 < 0.5 {
			informative++
		}
		if missed.N < minutes/5-1 || missed.N > minutes/5+1 {
			t.Fatalf("seed %d: %d trials, want the %d minutes held out", seed, missed.N, minutes/5)
		}
	}
	if covered < repeats*95/100 || informative < repeats*9/10 {
		t.Errorf("the bound covers %d and says something in %d of %d repetitions", covered, informative, repeats)
	}
}
