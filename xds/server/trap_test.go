package server

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
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
		{"an ACK is no proof that a route leads anywhere", ackIsNoProof},
		{"a control plane that was paused knows that its overlay lapsed", paused},
		{"what happened can be seen in the metrics", metricsTell},
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

// ackIsNoProof sends callers a route to a cluster that there is not: Envoy ACKs it and
// answers 503. Our own check refuses the same resources, so that they are never sent.
func ackIsNoProof(t *testing.T, r *rig) {
	const route, nowhere = "out~shop/solo", "shop/nowhere"
	r.corrupt(func(_ string, res *xds.Resources) { leadAstray(res, route, nowhere) })
	eventually(t, 5*time.Second, "all proxies have ACKed it", r.settled)
	if n := r.nacks(); n > 0 {
		t.Errorf("%.0f NACKs: Envoy has become stricter", n)
	}
	if got := statuses(t, r.front("shop/solo"), 20, 4); got[http.StatusServiceUnavailable] != 20 {
		t.Errorf("got %v, want 20 refused", got)
	}
	r.corrupt(nil)
	eventually(t, 5*time.Second, "all proxies have taken it back", r.settled)
	if got := statuses(t, r.front("shop/solo"), 20, 4); got[http.StatusOK] != 20 {
		t.Errorf("got %v, want 20 to pass", got)
	}
	good := r.server.Config("ingress")
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	leadAstray(&good, route, nowhere)
	if err := good.Check(); err == nil {
		t.Error("resources with a route to nowhere pass the check")
	}
}

// corrupt damages what is sent from now on; nil = no more.
func (r *rig) corrupt(how func(string, *xds.Resources)) {
	r.t.Helper()
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.server.corrupt = how
	if err := r.server.rebuild(); err != nil {
		r.t.Fatal(err)
	}
}

// leadAstray points all routes of a configuration to a cluster.
func leadAstray(res *xds.Resources, name, cluster string) {
	list := slices.Clone(res.Routes)
	for i := range list {
		config, is := list[i].Message.(*routev3.RouteConfiguration)
		if !is || list[i].Name != name {
			continue
		}
		damaged := proto.CloneOf(config)
		for _, route := range damaged.GetVirtualHosts()[0].GetRoutes() {
			if action := route.GetRoute(); action != nil {
				action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: cluster}
			}
		}
		body, err := anypb.New(damaged)
		if err != nil {
			panic(err)
		}
		list[i] = xds.Resource{Name: name, Version: "damaged", Body: body, Message: damaged}
	}
	res.Routes = list
}

// paused stops the control plane for longer than the TTL, as SIGSTOP or a machine that is
// stuck would. Its heartbeats then come too late: Envoy refuses them, and identical content
// would not be sent again. The overlay proves nothing any more; another one does.
func paused(t *testing.T, r *rig) {
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 141, "solo-0")
	r.apply(o)
	r.prove(o, empty)
	before := l.answered("solo-0")
	r.server.mu.Lock()
	func() {
		defer r.server.mu.Unlock()
		eventually(t, 3*rigTTL, "it lapses", func() bool { return l.answered("solo-0") > before+30 })
	}()
	r.prove(o, func(p mesh.Proof) bool { return p.Lapsed })
	r.withdraw(o, 0)
	o.Generation++
	r.apply(o)
	r.prove(o, empty)
	r.withdraw(o, 0)
	l.flows(t, 30)
	l.stop(t)
}

// metricsTell reads the metrics after all that the tests before it did.
func metricsTell(t *testing.T, r *rig) {
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			got[name] += valueOf(m)
		}
	}
	for _, name := range []string{
		"sluice_xds_push_to_ack_seconds EDS", "sluice_xds_push_to_ack_seconds RTDS", "sluice_xds_push_to_ack_seconds CDS",
		"sluice_xds_gate_seconds", "sluice_xds_bytes_total in", "sluice_xds_bytes_total out",
	} {
		if got[name] <= 0 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	if n := float64(len(r.world.Proxies)); got["sluice_xds_streams"] != n {
		t.Errorf("%v streams, want %v", got["sluice_xds_streams"], n)
	}
}

// valueOf is a counter's or gauge's value, or how often a histogram was fed.
func valueOf(m *dto.Metric) float64 {
	if h := m.GetHistogram(); h != nil {
		return float64(h.GetSampleCount())
	}
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}
