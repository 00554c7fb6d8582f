package server

import (
	"errors"
	"strings"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/xds"
)

// liveTest runs on a mesh of real Envoys that others have used before.
type liveTest struct {
	name string
	run  func(*testing.T, *rig)
}

// TestLive runs on real Envoys that speak delta xDS.
func TestLive(t *testing.T) {
	runLive(t, newRig(t, deltaAPI), []liveTest{
		{"a single instance is held over its restart", singleInstance},
		{"two instances roll", rolling},
		{"a partial drain leaves the rest serving", partial},
		{"a NACK is reported and taken back", nacked},
		{"a cluster that changes does not stall", worldChange},
		{"an overlay sheds", shed},
		{"an overlay reroutes", reroute},
		{"raw TCP connections are held", tcpHold},
		{"a lease that runs out is withdrawn by the server", leaseEnds},
		{"websocket and gRPC pass, and are cut by policy", streams},
		{"new streams are refused by policy", streamsRefused},
		{"streams are asked to end by policy", streamsAsked},
		{"the overlay lapses without a control plane, and the next one comes up clean", lapse},
		{"an overlay applied before the proxies are back covers the gap", handover},
		{"a rate is limited, at the caller and at the callee", rateLimits},
		{"a limit lapses without a control plane", limitLapses},
		{"requests at once are bounded", breaks},
		{"a failing instance is ejected", ejects},
		{"limit, breaker and drain compose", limitsCompose},
		{"the first proof after a restart does not wait for load reports", firstProof},
	})
}

// TestLiveState runs what depends on the protocol on Envoys that speak the state of the
// world.
func TestLiveState(t *testing.T) {
	r := newRig(t, stateAPI)
	for _, p := range r.server.Proxies() {
		if p.Variant != "state" {
			t.Errorf("%s speaks %q", p.Node, p.Variant)
		}
	}
	runLive(t, r, []liveTest{
		{"a single instance is held over its restart", singleInstance},
		{"two instances roll", rolling},
		{"a NACK is reported and taken back, and is no loop", nackedState},
		{"a cluster that changes does not stall", worldChange},
		{"a lease that runs out is withdrawn by the server", leaseEnds},
		{"websocket and gRPC pass, and are cut by policy", streams},
		{"the overlay lapses without a control plane, and the next one comes up clean", lapse},
		{"an overlay applied before the proxies are back covers the gap", handover},
		{"a listener that was cut is not cut again by the next control plane", cutsAreKept},
		{"a failing instance is ejected", ejects},
	})
}

// TestLiveWorkers runs what could differ between the workers of an Envoy, each of which has
// connections and counts of its own, on Envoys of two.
func TestLiveWorkers(t *testing.T) {
	runLive(t, newRigWith(t, deltaAPI, 2), []liveTest{
		{"a single instance is held over its restart", singleInstance},
		{"two instances roll", rolling},
		{"a partial drain leaves the rest serving", partial},
		{"raw TCP connections are held", tcpHold},
		{"websocket and gRPC pass, and are cut by policy", streams},
		{"the overlay lapses without a control plane, and the next one comes up clean", lapse},
		{"an overlay applied before the proxies are back covers the gap", handover},
		{"requests at once are bounded", breaks},
		{"a failing instance is ejected", ejects},
		{"limit, breaker and drain compose", limitsCompose},
		{"the first proof after a restart does not wait for load reports", firstProof},
	})
}

// runLive runs tests one after the other, and stops at the first that fails.
func runLive(t *testing.T, r *rig, tests []liveTest) {
	t.Helper()
	for _, test := range tests {
		if !t.Run(test.name, func(t *testing.T) {
			r.t = t
			test.run(t, r)
			r.noOverlays()
		}) {
			return
		}
	}
}

// noOverlays demands that a test left nothing behind.
func (r *rig) noOverlays() {
	r.t.Helper()
	if left := r.traffic.Installed(); len(left) > 0 {
		r.t.Errorf("overlays left: %v", left)
	}
	eventually(r.t, 10*time.Second, "all proxies have taken everything", r.settled)
}

// flowing starts the load and waits until it flows.
func (r *rig) flowing(service mesh.Service) *load {
	r.t.Helper()
	l := startLoad(r.front(service))
	l.flows(r.t, 30)
	return l
}

// flows waits until n more requests are answered.
func (l *load) flows(t *testing.T, n int64) {
	t.Helper()
	from := l.ok.Load()
	eventually(t, 8*time.Second, "traffic flows", func() bool { return l.ok.Load() >= from+n })
}

func singleInstance(t *testing.T, r *rig) {
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 1, "solo-0")
	r.apply(o)
	r.prove(o, empty)
	r.restart("solo-0", 1500*time.Millisecond)
	r.withdraw(o, 0)
	l.flows(t, 50)
	l.stop(t)
}

func rolling(t *testing.T, r *rig) {
	l := r.flowing("shop/cart")
	for i, uid := range []mesh.UID{"cart-0", "cart-1"} {
		o := drainOf("shop/cart", uint64(i+1), uid)
		r.apply(o)
		r.prove(o, empty)
		before := l.answered(string(uid))
		r.restart(uid, 700*time.Millisecond)
		if n := l.answered(string(uid)) - before; n > 2 {
			t.Errorf("%s answered %d requests while it was drained", uid, n)
		}
		r.withdraw(o, 300*time.Millisecond)
		before = l.answered(string(uid))
		eventually(t, 5*time.Second, "it serves again", func() bool { return l.answered(string(uid)) > before+10 })
	}
	l.stop(t)
}

func partial(t *testing.T, r *rig) {
	l := r.flowing("shop/cart")
	o := drainOf("shop/cart", 11, "cart-0")
	o.Drain.Share, o.Drain.OnEmpty = 50, mesh.OnEmptyNone
	r.apply(o)
	zero, one := l.answered("cart-0"), l.answered("cart-1")
	l.flows(t, 150)
	zero, one = l.answered("cart-0")-zero, l.answered("cart-1")-one
	if zero == 0 || one < 2*zero || one > 5*zero { // 25 % against 75 %
		t.Errorf("with half of the requests drained off it, cart-0 answered %d and cart-1 %d", zero, one)
	}
	r.withdraw(o, 0)
	l.stop(t)
}

func nacked(t *testing.T, r *rig) {
	l := r.flowing("shop/solo")
	r.server.mu.Lock()
	r.server.corrupt = func(_ string, res *xds.Resources) { badWeights(res, xds.Twin("shop/solo")) }
	r.server.mu.Unlock()
	o := drainOf("shop/solo", 21, "solo-0")
	_, err := r.traffic.Apply(t.Context(), o)
	var nack *NackError
	if !errors.As(err, &nack) || nack.Node != "ingress" || nack.Type != "EDS" ||
		!strings.Contains(nack.Text, "LoadBalancingWeight") {
		t.Errorf("got error %v, want the ingress's NACK of EDS with Envoy's words", err)
	}
	r.server.mu.Lock()
	r.server.corrupt = nil
	err = r.server.rebuild()
	r.server.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	r.noOverlays()
	o.Generation++
	r.apply(o)
	r.prove(o, empty)
	r.withdraw(o, 0)
	l.flows(t, 30)
	l.stop(t)
}

// badWeights gives the twin of a cluster an endpoint of weight 0, which Envoy refuses;
// only while the twin is drained, so that taking the drain back mends it.
func badWeights(res *xds.Resources, cluster string) {
	endpoints := append([]xds.Resource(nil), res.Endpoints...)
	for i := range endpoints {
		r := &endpoints[i]
		assignment, ok := r.Message.(*endpointv3.ClusterLoadAssignment)
		if !ok || !strings.HasPrefix(r.Name, cluster+"@") || len(assignment.GetEndpoints()) < 2 {
			continue
		}
		damaged := proto.CloneOf(assignment)
		damaged.Endpoints[0].LbEndpoints[0].LoadBalancingWeight = wrapperspb.UInt32(0)
		body, err := anypb.New(damaged)
		if err != nil {
			panic(err)
		}
		r.Body, r.Version, r.Message = body, "damaged", damaged
	}
	res.Endpoints = endpoints
}

// worldChange changes a cluster in place and demands that it takes nothing like the
// 15 s for which Envoy waits for endpoints that it is not sent again.
func worldChange(t *testing.T, r *rig) {
	l := r.flowing("shop/solo")
	start := time.Now()
	world := *r.world
	world.Services = append([]mesh.ServiceState(nil), world.Services...)
	world.Services[2].Protocol = mesh.HTTP // shop/store: its cluster, listener and routes change
	r.server.SetWorld(&world)
	eventually(t, 5*time.Second, "all proxies have taken the changed cluster", r.settled)
	r.server.SetWorld(r.world)
	eventually(t, 5*time.Second, "all proxies have taken it back", r.settled)
	t.Logf("both changes were taken after %s", time.Since(start))
	l.stop(t)
}

func shed(t *testing.T, r *rig) {
	o := drainOf("shop/solo", 31, "solo-0")
	o.Drain.OnEmpty = mesh.OnEmptyShed
	r.apply(o)
	defer r.withdraw(o, 0)
	resp, err := post(r.front("shop/solo"))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("x-sluice-park") != "" {
		t.Errorf("got %s %v, want 503 with Retry-After and nothing of ours", resp.Status, resp.Header)
	}
}

func reroute(t *testing.T, r *rig) {
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 41, "solo-0")
	o.Drain.OnEmpty, o.Drain.To = mesh.OnEmptyNone, "shop/cart"
	r.apply(o)
	r.prove(o, empty)
	before := l.answered("solo-0")
	l.flows(t, 60)
	if n := l.answered("solo-0") - before; n > 2 || l.answered("cart-0") == 0 || l.answered("cart-1") == 0 {
		t.Errorf("after the reroute solo-0 answered %d, cart-0 %d, cart-1 %d", n, l.answered("cart-0"),
			l.answered("cart-1"))
	}
	r.withdraw(o, 200*time.Millisecond)
	before = l.answered("solo-0")
	l.flows(t, 30)
	if l.answered("solo-0") == before {
		t.Error("traffic did not come back")
	}
	l.stop(t)
}

func leaseEnds(t *testing.T, r *rig) {
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 51, "solo-0")
	o.Lease = 500 * time.Millisecond
	r.apply(o)
	if err := r.traffic.Extend(t.Context(), o.Key, 51, time.Second); err != nil {
		t.Error(err)
	}
	if err := r.traffic.Extend(t.Context(), o.Key, 50, time.Second); !errors.Is(err, ErrStale) {
		t.Errorf("extending another generation: %v, want ErrStale", err)
	}
	eventually(t, 5*time.Second, "the overlay is gone", func() bool { return len(r.traffic.Installed()) == 0 })
	l.flows(t, 60)
	l.stop(t)
}

// lapse kills the control plane while requests are held and the instance is healthy
// again: they come free when the TTL is over.
func lapse(t *testing.T, r *rig) {
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 61, "solo-0")
	r.apply(o)
	r.prove(o, empty)
	pause(t, rigTTL) // heartbeats keep it
	if _, lapsed := r.server.leases.Lapsed("ingress", time.Now()); lapsed {
		t.Error("it lapsed although heartbeats are sent")
	}
	before := l.answered("solo-0")
	killed := time.Now()
	r.kill()
	eventually(t, rigTTL+8*time.Second, "traffic is whole without a control plane", func() bool {
		return l.answered("solo-0") > before+100
	})
	if whole := time.Since(killed); whole < rigTTL/3 {
		t.Errorf("whole after %s: it was not held at all", whole)
	}
	r.serve()
	eventually(t, 15*time.Second, "proxies are back", r.settled)
	l.flows(t, 60)
	l.stop(t)
}

// handover kills the control plane while the instance is down, and has the next one
// apply the overlay before proxies are back, as a kernel with a journal does.
func handover(t *testing.T, r *rig) {
	l := r.flowing("shop/solo")
	o := drainOf("shop/solo", 71, "solo-0")
	r.apply(o)
	r.prove(o, empty)
	r.apps["solo-0"].kill()
	r.kill()
	r.serve()
	o.Generation++
	r.apply(o)
	r.prove(o, empty)
	r.apps["solo-0"].start()
	r.withdraw(o, 0)
	l.flows(t, 60)
	l.stop(t)
}

// nackedState is nacked, and demands that a proxy which refuses is not asked again and
// again.
func nackedState(t *testing.T, r *rig) {
	nacked(t, r)
	pause(t, 200*time.Millisecond)
	if n := r.nacks(); n != 1 {
		t.Errorf("%.0f NACKs, want 1", n)
	}
}

// nacks counts the NACKs since the control plane was started.
func (r *rig) nacks() float64 {
	registry := prometheus.NewRegistry()
	if err := registry.Register(r.server.metrics.nacks); err != nil {
		r.t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	total := 0.0
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			total += metric.GetCounter().GetValue()
		}
	}
	return total
}

// cutsAreKept restarts the control plane while a stream is open over an inbound listener
// that was replaced before: the next one must not replace it, for having forgotten.
func cutsAreKept(t *testing.T, r *rig) {
	r.server.mu.Lock()
	cuts := r.server.cuts["solo-0"]
	r.server.mu.Unlock()
	if cuts == 0 {
		t.Fatal("the listener was not cut by an earlier test: nothing to see here")
	}
	conn, _ := upgrade(t, r.front("shop/solo"))
	echo(t, conn, "open")
	r.kill()
	r.serve()
	eventually(t, 15*time.Second, "proxies are back", r.settled)
	pause(t, envoy.DrainTime+500*time.Millisecond)
	echo(t, conn, "still open")
	_ = conn.Close()
}
