package feed_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/feed"
)

func world() *mesh.World {
	return &mesh.World{Version: 1, Services: []mesh.ServiceState{
		{Name: "shop/cart", Objective: mesh.Objective{Errors: 0.01}},
		{Name: "shop/web"},
	}}
}

func TestEvidenceBecomesAnEdgeAndFailuresASymptom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := feed.New(time.Now)
		f.SetWorld(world())
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			f.Run(ctx, func() []mesh.Service { return nil })
			close(done)
		}()
		for range 120 {
			f.Observe(topology.Call{
				Caller: "shop/web", Callee: "shop/cart", At: time.Now(), Latency: time.Millisecond,
				Failed: true, Source: topology.AccessLog,
			})
			time.Sleep(50 * time.Millisecond) //nolint:forbidigo // the bubble's clock, not the wall's
		}
		if got := f.Snapshot().Callers("shop/cart"); len(got) != 1 || got[0] != "shop/web" {
			t.Errorf("callers of shop/cart: got %v, want [shop/web]", got)
		}
		present := f.Present()
		if len(present) != 1 || present[0].Service != "shop/cart" {
			t.Errorf("symptoms: got %v, want one of shop/cart", present)
		}
		cancel()
		<-done
	})
}

func TestSilenceIsNotIdleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := feed.New(time.Now)
		f.SetWorld(world())
		start := time.Now().Unix()
		f.Sources(func() bool { second := time.Now().Unix() - start; return second < 10 || second >= 20 })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		time.AfterFunc(15*time.Second+500*time.Millisecond, func() { // a span, from elsewhere
			f.Observe(topology.Call{Caller: "shop/web", Callee: "shop/cart", At: time.Now(), Source: topology.Span})
		})
		f.Run(ctx, func() []mesh.Service { return nil })
		for second := range int64(30) {
			want := second < 9 || second >= 19 || second == 15 // the tick is in the second after
			if got := f.Reporting(start + second); got != want {
				t.Errorf("Reporting(%d) = %v, want %v", second, got, want)
			}
		}
	})
}
