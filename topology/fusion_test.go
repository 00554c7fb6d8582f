package topology

import (
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// TestWhatTwoSourcesReportCountsOnce has the same calls reported by several sources, the
// weakest first: the figures are those of the best that has spoken.
func TestWhatTwoSourcesReportCountsOnce(t *testing.T) {
	const web, cart = mesh.Service("shop/web"), mesh.Service("shop/cart")
	at := time.Unix(1_700_000_000, 0)
	g := NewGraph()
	g.RegisterNames([]mesh.Service{web, cart})
	for _, step := range []struct {
		source     Source
		connection bool
		weight     uint64
		sampled    bool
	}{
		{MeshMetric, true, 1, true},
		{Span, false, 10, true},
		{MeshMetric, false, 1000, false},
		{AccessLog, false, 999, false},
	} {
		g.Observe(Call{
			Caller: web, Callee: cart, At: at, Source: step.source, Connection: step.connection,
			Weight: step.weight, Failed: true, Latency: time.Millisecond,
		})
		s := g.Snapshot(at.Add(time.Second))
		if got := s.Series().Window(cart, at, at.Add(time.Second)); got.Requests != step.weight || got.Errors != step.weight {
			t.Errorf("with %v: %d calls, %d errors, want %d", step.source.Names(), got.Requests, got.Errors, step.weight)
		}
		if got := s.Requests(); got != step.weight {
			t.Errorf("with %v: the graph says %d calls, want %d", step.source.Names(), got, step.weight)
		}
		if _, kind := s.best(s.figure(0), at.Unix()+1); kind.sampled() != step.sampled {
			t.Errorf("with %v: sampled is %v", step.source.Names(), kind.sampled())
		}
	}
}
