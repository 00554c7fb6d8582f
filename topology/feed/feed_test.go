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
