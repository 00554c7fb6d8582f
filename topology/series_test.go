package topology

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

func TestBestEvidenceCountsOnce(t *testing.T) {
	s := NewSeries()
	at := time.Unix(5000, 0)
	for range 3 {
		s.Record(Call{Caller: "a/a", Callee: "a/b", At: at, Source: Span})
	}
	if tick, _ := s.Service("a/b", 5000); tick.Requests != 3 {
		t.Errorf("spans alone: %d requests, want 3", tick.Requests)
	}
	for range 5 {
		s.Record(Call{Caller: "a/a", Callee: "a/b", At: at, Source: AccessLog, Failed: true})
	}
	s.Record(Call{Callee: "a/b", At: at, Source: Span, Weight: 7})
	s.Record(Call{Caller: "a/c", Callee: "a/b", At: at, Source: AccessLog, Connection: true})
	tick, _ := s.Service("a/b", 5000)
	if tick.Requests != 6 || tick.Errors != 5 {
		t.Errorf("%d requests, %d errors, want 6 and 5: logs of a/a and the connection of a/c", tick.Requests, tick.Errors)
	}
	if tick, ok := s.Service("a/d", 5000); ok || tick.Requests != 0 {
		t.Errorf("a service without calls has %d requests", tick.Requests)
	}
}

func TestServerStatisticsServeWithoutCallers(t *testing.T) {
	s := NewSeries()
	s.Record(Call{Callee: "a/b", At: time.Unix(5000, 0), Source: Span, Weight: 7, Latency: time.Second})
	tick, ok := s.Service("a/b", 5000)
	if !ok || tick.Requests != 7 || tick.P99() < 900*time.Millisecond {
		t.Errorf("%d requests with p99 %s, want 7 with about 1 s", tick.Requests, tick.P99())
	}
}

func TestRingForgetsWhatIsOld(t *testing.T) {
	s := NewSeries()
	call := Call{Caller: "a/a", Callee: "a/b", Source: AccessLog}
	for second := range int64(2000) {
		s.Advance(time.Unix(100_000+second, 0))
		call.At = time.Unix(100_000+second, 0)
		s.Record(call)
	}
	sum := s.Window("a/b", time.Unix(0, 0), time.Unix(102_000, 0))
	if sum.Requests > 600 || sum.Requests < 570 {
		t.Errorf("%d requests kept, want about ten minutes' worth", sum.Requests)
	}
	call.At = time.Unix(101_000, 0)
	s.Record(call)
	if s.Dropped() != 1 {
		t.Errorf("%d dropped, want the one older than the ring", s.Dropped())
	}
}

// TestSeriesAgainstPlainCounts compares with maps under random calls and freezes.
func TestSeriesAgainstPlainCounts(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 0))
		s := NewSeries()
		counts := map[string]uint64{}
		type kept struct {
			frozen *Series
			counts map[string]uint64
		}
		var frozen []kept
		for range 500 {
			caller, second := rng.IntN(4), int64(1000+rng.IntN(120))
			callee := mesh.Service(fmt.Sprintf("a/s%d", rng.IntN(3)))
			s.Record(Call{Caller: mesh.Service(fmt.Sprintf("a/c%d", caller)), Callee: callee, At: time.Unix(second, 0), Source: AccessLog})
			counts[fmt.Sprintf("%s@%d", callee, second)]++
			if rng.IntN(100) == 0 {
				copied := map[string]uint64{}
				for key, n := range counts {
					copied[key] = n
				}
				frozen = append(frozen, kept{s.Freeze(), copied})
			}
		}
		for _, k := range append(frozen, kept{s, counts}) {
			for service := range 3 {
				for second := int64(1000); second < 1120; second++ {
					name := mesh.Service(fmt.Sprintf("a/s%d", service))
					tick, _ := k.frozen.Service(name, second)
					if want := k.counts[fmt.Sprintf("%s@%d", name, second)]; tick.Requests != want || tick.Hist.Count() != want {
						t.Fatalf("seed %d: %s at %d has %d requests, want %d", seed, name, second, tick.Requests, want)
					}
				}
			}
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	g := NewGraph()
	g.RegisterNames([]mesh.Service{"shop/web", "shop/cart"})
	call := Call{Caller: "shop/web", Callee: "shop/cart", At: time.Unix(1000, 0), Source: AccessLog, Latency: time.Millisecond}
	b.ReportAllocs()
	for b.Loop() {
		g.Observe(call)
	}
}
