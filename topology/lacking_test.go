package topology

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// spanOf is a call of which both sides were seen, and what the callee reported.
func spanOf(caller, callee mesh.Service, at time.Time, took time.Duration) []Call {
	return []Call{
		{Caller: caller, Callee: callee, At: at, Latency: took + 2*time.Millisecond, Source: Span},
		{Callee: callee, At: at, Latency: took, Source: Span},
	}
}

// shop replays 60 requests before the onset and 60 since: front calls order, which calls
// mail and pay in turn unless left says so.
func shop(t *testing.T, leaves func(i int, callee mesh.Service) bool) (*Snapshot, time.Time) {
	t.Helper()
	g := NewGraph()
	g.RegisterNames([]mesh.Service{"a/front", "a/order", "a/mail", "a/pay"})
	onset := time.Unix(10_000, 0)
	for i := -60; i < 60; i++ {
		at := onset.Add(time.Duration(i) * time.Second)
		jitter := time.Duration((i+60)*7%5) * time.Millisecond
		g.Observe(Call{Callee: "a/front", At: at, Latency: 40*time.Millisecond + jitter, Source: Span})
		g.ObserveAll(spanOf("a/front", "a/order", at, 20*time.Millisecond+jitter))
		for _, callee := range []mesh.Service{"a/mail", "a/pay"} {
			if i < 0 || !leaves(i, callee) {
				g.ObserveAll(spanOf("a/order", callee, at, 5*time.Millisecond+jitter))
			}
		}
	}
	return g.Snapshot(onset.Add(time.Minute)), onset
}

func TestRequestsThatLackACallShowTheirService(t *testing.T) {
	for name, c := range map[string]struct {
		leaves func(i int, callee mesh.Service) bool
		want   mesh.Service
	}{
		"mail is no longer called": {func(i int, callee mesh.Service) bool { return callee == "a/mail" && i%4 != 0 }, "a/order"},
		"one request in thirty":    {func(i int, callee mesh.Service) bool { return callee == "a/mail" && i%30 == 0 }, "a/front"},
		"nothing changed":          {func(int, mesh.Service) bool { return false }, "a/front"},
	} {
		t.Run(name, func(t *testing.T) {
			snap, onset := shop(t, c.leaves)
			group := snap.Group(Symptom{Service: "a/front", Onset: onset})
			if group.Suspects[0].Service != c.want || !slices.Contains(group.RestartSet, c.want) {
				t.Errorf("suspects %+v, restart set %v; want %s first", group.Suspects, group.RestartSet, c.want)
			}
		})
	}
}

// A call made elsewhere instead is no lack: only the choice changed.
func TestAnotherChoiceIsNoLack(t *testing.T) {
	g := NewGraph()
	g.RegisterNames([]mesh.Service{"a/front", "a/order", "a/mail", "a/pay"})
	onset := time.Unix(10_000, 0)
	for i := -60; i < 60; i++ {
		at, callee := onset.Add(time.Duration(i)*time.Second), mesh.Service("a/mail")
		if i >= 0 {
			callee = "a/pay"
		}
		g.Observe(Call{Callee: "a/front", At: at, Latency: 40 * time.Millisecond, Source: Span})
		g.ObserveAll(spanOf("a/front", "a/order", at, 20*time.Millisecond))
		g.ObserveAll(spanOf("a/order", callee, at, 5*time.Millisecond))
	}
	group := g.Snapshot(onset.Add(time.Minute)).Group(Symptom{Service: "a/front", Onset: onset})
	if group.Suspects[0].Service != "a/front" {
		t.Errorf("suspects %+v, want the symptom itself", group.Suspects)
	}
}

func TestRanksShowWhatTheMeanHides(t *testing.T) {
	var before, after, same Histogram
	for i := range 50 {
		before.Add(time.Duration(100+i) * time.Millisecond)
		same.Add(time.Duration(100+i) * time.Millisecond)
		after.Add(time.Duration(130+i) * time.Millisecond)
	}
	before.Add(10 * time.Second)
	same.Add(10 * time.Second)
	if z := rankShift(&before, &same); z < -0.5 || z > 0.5 {
		t.Errorf("the same latencies rank %.2f standard errors apart", z)
	}
	up, down := rankShift(&before, &after), rankShift(&after, &before)
	if up < 4 || down > -4 || fmt.Sprintf("%.6f", up) != fmt.Sprintf("%.6f", -down) {
		t.Errorf("ranks rose by %.2f and fell by %.2f standard errors, want 4 or more and the same", up, down)
	}
	if z := rankShift(&Histogram{}, &after); z != 0 {
		t.Errorf("nothing before: %.2f", z)
	}
}

func TestCulpritsCoverNearlyAllThatIsExplained(t *testing.T) {
	snap, _ := shop(t, func(int, mesh.Service) bool { return false })
	suspects := []Suspect{
		{Service: "a/order", Score: 0.6}, {Service: "a/mail", Score: 0.3}, {Service: "a/pay", Score: 0.08}, {Service: "a/front"},
	}
	for _, c := range []struct {
		suspects []Suspect
		sides    *sides
		want     int
	}{{suspects, &sides{}, 3}, {suspects, nil, 1}, {[]Suspect{{Service: "a/order", Score: 0.96}, suspects[1]}, &sides{}, 1}} {
		st := &study{s: snap, late: c.sides}
		if got := st.culprits(c.suspects); len(got) != c.want || snap.names[got[0]] != "a/order" {
			t.Errorf("culprits %v, want %d", got, c.want)
		}
	}
}

// A service with too few calls right before the onset is compared with what it did
// earlier.
func TestTooFewCallsBeforeReachFurtherBack(t *testing.T) {
	g := NewGraph()
	g.RegisterNames([]mesh.Service{"a/front", "a/order", "a/mail"})
	onset := time.Unix(10_000, 0)
	for i := -300; i < 60; i++ {
		at, took := onset.Add(time.Duration(i)*time.Second), 5*time.Millisecond
		if i >= 0 {
			took = 80 * time.Millisecond
		}
		jitter := time.Duration((i+300)%5) * time.Millisecond
		g.Observe(Call{Callee: "a/front", At: at, Latency: 40*time.Millisecond + jitter, Source: Span})
		g.ObserveAll(spanOf("a/front", "a/mail", at, 5*time.Millisecond+jitter))
		if i < -60 || i >= 0 {
			g.ObserveAll(spanOf("a/front", "a/order", at, took+jitter))
		}
	}
	group := g.Snapshot(onset.Add(time.Minute)).Group(Symptom{Service: "a/front", Onset: onset})
	if first := group.Suspects[0].Service; first != "a/order" {
		t.Errorf("suspects %+v, want a/order first", group.Suspects)
	}
}
