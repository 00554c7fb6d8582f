package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// TestFleet pushes a drain to 1, 10 and 30 callers, all real Envoys, every second one by
// the state of the world, and proves it by the word of each.
func TestFleet(t *testing.T) {
	world := rigWorld(t)
	solo := &world.Services[1]
	small := &mesh.World{Version: 1, Services: []mesh.ServiceState{*solo}}
	for _, p := range world.Proxies {
		if p.Instance == "solo-0" {
			small.Proxies = append(small.Proxies, p)
		}
	}
	r := newRigOf(t, deltaAPI, small)
	r.start(r.binary, &small.Proxies[0])
	for i, n := range []int{1, 10, 30} {
		r.grow(n)
		eventually(t, 40*time.Second, "all proxies have taken everything", r.settled)
		l := r.flowing("shop/solo")
		o := drainOf("shop/solo", uint64(i+1), "solo-0")
		start := time.Now()
		r.apply(o)
		t.Logf("%d callers: all ACKed after %s", n, time.Since(start))
		if p := r.prove(o, empty); p.Required != n || p.Reported != n {
			t.Errorf("%+v, want all %d callers to have spoken", p, n)
		}
		r.restart("solo-0", 300*time.Millisecond)
		r.withdraw(o, 0)
		l.flows(t, 30)
		l.stop(t)
	}
}

// grow adds callers of shop/solo, one Envoy after the other, until there are n.
func (r *rig) grow(n int) {
	r.t.Helper()
	for have := len(r.world.Proxies) - 1; have < n; have++ {
		p := mesh.Proxy{
			Node: fmt.Sprintf("caller-%02d", have), Service: "outside/web", Admin: freePort(r.t), Park: freePort(r.t),
			Outbound: []mesh.Outbound{{Service: "shop/solo", Listen: freePort(r.t), Timeout: 15 * time.Second}},
		}
		world := *r.world
		world.Version++
		last := len(world.Proxies) - 1 // solo-0 stays last: the list is sorted
		world.Proxies = append(append([]mesh.Proxy(nil), world.Proxies[:last]...), p, world.Proxies[last])
		r.world = &world
		r.server.SetWorld(r.world)
		r.api = []string{deltaAPI, stateAPI}[have%2]
		r.start(r.binary, &p)
		eventually(r.t, 10*time.Second, "the proxy is there", func() bool {
			r.server.mu.Lock()
			defer r.server.mu.Unlock()
			return !r.server.ledger.Connected(p.Node).IsZero()
		})
	}
}
