package server

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// TestTraps holds what was learned of Envoy by measuring against real ones, behind inbound
// sidecars (docs/xds.md lists all, also those that other tests hold). Here shop/cart calls
// shop/solo by its own sidecars.
func TestTraps(t *testing.T) {
	world := rigWorld(t)
	for i := range world.Proxies {
		if p := &world.Proxies[i]; p.Service == "shop/cart" {
			p.Outbound = []mesh.Outbound{{Service: "shop/solo", Listen: freePort(t), Timeout: 10 * time.Second}}
		}
	}
	r := newRigOf(t, deltaAPI, world)
	for i := range world.Proxies {
		r.start(r.binary, &world.Proxies[i])
	}
	eventually(t, 20*time.Second, "all proxies have taken everything", r.settled)
	runLive(t, r, []liveTest{
		{"no panic: what is drained gets nothing, although nothing else is left", noPanic},
		{"the park is last: an endpoint that fails spills nothing to it", parkIsLast},
		{"an inbound sidecar waits for its application", sidecarWaits},
		{"clusters that come and go take no count along", countsSurvive},
		{"callers are drained before callees", callersFirst},
	})
}

// noPanic drains the only instance, and neither holds nor sheds: Envoy's default would send
// all requests to it.
func noPanic(t *testing.T, r *rig) {
	o := drainOf("shop/solo", 101, "solo-0")
	o.Drain.OnEmpty, o.Drain.Hold = mesh.OnEmptyNone, 0
	r.apply(o)
	r.prove(o, empty)
	if got := statuses(t, r.front("shop/solo"), 40, 4); got[http.StatusServiceUnavailable] != 40 {
		t.Errorf("got %v, want 40 refused", got)
	}
	r.withdraw(o, 0)
	if got := statuses(t, r.front("shop/solo"), 20, 4); got[http.StatusOK] != 20 {
		t.Errorf("restored: %v, want 20 to pass", got)
	}
}

// parkIsLast arms a hold that drains nothing, so that the park stands below two endpoints,
// and lets one of them be unhealthy: Envoy would spill a part to the park by default.
func parkIsLast(t *testing.T, r *rig) {
	o := drainOf("shop/cart", 111)
	r.apply(o)
	r.setState("cart-1", mesh.Unready)
	eventually(t, 5*time.Second, "all proxies have taken it", r.settled)
	before := r.counter("http.park.downstream_rq_total")
	if got := statuses(t, r.front("shop/cart"), 100, 6); got[http.StatusOK] != 100 {
		t.Errorf("got %v, want 100 to pass", got)
	}
	if n := r.counter("http.park.downstream_rq_total") - before; n != 0 {
		t.Errorf("%d of 100 requests were parked", n)
	}
	r.setState("cart-1", mesh.Ready)
	r.withdraw(o, 0)
}

// counter reads a counter of the ingress.
func (r *rig) counter(name string) int {
	r.t.Helper()
	for _, p := range r.world.Proxies {
		if p.Node != "ingress" {
			continue
		}
		resp, err := http.Get("http://" + p.Admin.String() + "/stats?filter=" + url.QueryEscape("^"+name+"$"))
		if err != nil {
			r.t.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := readCounters(io.LimitReader(resp.Body, adminBytes))
		if err != nil {
			r.t.Fatal(err)
		}
		return n
	}
	return 0
}

// sidecarWaits kills an application that nobody has drained while nothing is in flight: its
// sidecar accepts requests in its stead, so no caller's retry would help.
func sidecarWaits(t *testing.T, r *rig) {
	r.apps["solo-0"].kill()
	answers := make(chan map[int]int, 1)
	go func() { answers <- statuses(t, r.front("shop/solo"), 20, 20) }()
	pause(t, time.Second)
	r.apps["solo-0"].start()
	if got := <-answers; got[http.StatusOK] != 20 {
		t.Errorf("got %v, want 20 to pass", got)
	}
}

// countsSurvive has clusters made and removed while a websocket is open on a drained
// instance: a cluster that changes in place would count from zero.
func countsSurvive(t *testing.T, r *rig) {
	conn, _ := upgrade(t, r.front("shop/solo"))
	echo(t, conn, "open")
	o := drainOf("shop/solo", 121, "solo-0")
	r.apply(o)
	one := func(p mesh.Proof) bool { return p.Reported == p.Required && p.InFlight == 1 && p.Inbound == 1 }
	r.prove(o, one)
	breaker := breakOf("shop/solo", 122, mesh.BreakOverlay{Consecutive5xx: 5})
	r.apply(breaker)
	r.stays(o, one)
	r.withdraw(breaker, 0)
	r.stays(o, one)
	_ = conn.Close()
	r.prove(o, empty)
	r.withdraw(o, 0)
}

// stays demands that all proofs of some time, of which each load report may bring one, are as
// the predicate likes.
func (r *rig) stays(o mesh.Overlay, likes func(mesh.Proof) bool) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 8*gateInterval)
	defer cancel()
	err := r.traffic.Prove(ctx, o.Key, o.Generation, func(p mesh.Proof) {
		if !likes(p) {
			r.t.Errorf("got %+v", p)
		}
	})
	if err != nil {
		r.t.Error(err)
	}
}

// callersFirst takes a service and what it calls out of service, in the order in which the
// gates can open: were the callee held first, its callers' requests would stay in flight for
// as long as they are held.
func callersFirst(t *testing.T, r *rig) {
	for _, p := range r.world.Proxies {
		if p.Service == "shop/cart" {
			address := p.Outbound[0].Listen.String()
			r.apps[p.Instance].upstream.Store(&address)
			defer r.apps[p.Instance].upstream.Store(nil)
		}
	}
	l := r.flowing("shop/cart")
	cart, solo := drainOf("shop/cart", 131, "cart-0", "cart-1"), drainOf("shop/solo", 132, "solo-0")
	start := time.Now()
	for _, o := range []mesh.Overlay{cart, solo} {
		r.apply(o)
		r.prove(o, empty)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("both gates were open after %s", took)
	}
	for _, uid := range []mesh.UID{"solo-0", "cart-0", "cart-1"} {
		r.restart(uid, 200*time.Millisecond)
	}
	for _, o := range slices.Backward([]mesh.Overlay{cart, solo}) {
		r.withdraw(o, 0)
	}
	l.flows(t, 60)
	l.stop(t)
}
