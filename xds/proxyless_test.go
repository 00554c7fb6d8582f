package xds_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// clients is shop with one more caller of shop/cart, a gRPC client.
func clients() *mesh.World {
	world := shop()
	world.Proxies = append(world.Proxies, mesh.Proxy{
		Node: "zap-0", Service: "shop/web", Kind: mesh.Proxyless,
		Outbound: []mesh.Outbound{{Service: "shop/cart", Timeout: time.Second}, {Service: "shop/store"}},
	})
	return world
}

// A gRPC client gets what it asks for by name, and nothing that it could not read.
func TestProxylessResources(t *testing.T) {
	res := xds.Base(clients(), "zap-0")
	if err := res.Check(); err != nil {
		t.Error(err)
	}
	if len(res.Runtime) > 0 || len(res.Listeners) != 1 || len(res.Routes) != 1 || len(res.Clusters) != 1 || len(res.Endpoints) != 1 {
		t.Fatalf("got %d listeners, %d routes, %d clusters, %d endpoints and %d layers, want one of each but layers",
			len(res.Listeners), len(res.Routes), len(res.Clusters), len(res.Endpoints), len(res.Runtime))
	}
	listener := res.Listeners[0].Message.(*listenerv3.Listener)
	if listener.GetName() != "shop/cart" || listener.GetApiListener() == nil || listener.GetAddress() != nil {
		t.Errorf("got listener %v, want an API listener shop/cart", listener)
	}
	if res.Clusters[0].Message.(*clusterv3.Cluster).GetLrsServer().GetSelf() == nil {
		t.Error("the cluster asks for no load reports")
	}
}

// A drained endpoint is not there, one that is being restored has its share of weight, and
// each is a locality of its own, by which loads are reported.
func TestProxylessEndpoints(t *testing.T) {
	o := drain("shop/cart", mesh.DrainOverlay{Instances: []mesh.UID{"uid-cart-0"}})
	for _, test := range []struct {
		staged xds.Staged
		want   string
	}{
		{xds.Staged{Overlay: o}, "127.0.0.1:21101 100"},
		{xds.Staged{Overlay: o, Armed: true}, "127.0.0.1:21101 100"},
		{xds.Staged{Overlay: o, Armed: true, Back: 30}, "127.0.0.1:21001 30, 127.0.0.1:21101 100"},
	} {
		res, errs := xds.Scene{World: clients(), Overlays: []xds.Staged{test.staged}}.Build("zap-0")
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		var got []string
		for _, l := range res.Endpoints[0].Message.(*endpointv3.ClusterLoadAssignment).GetEndpoints() {
			got = append(got, l.GetLocality().GetSubZone()+" "+l.GetLoadBalancingWeight().String()[len("value:"):])
		}
		if strings.Join(got, ", ") != test.want {
			t.Errorf("got %v, want %s", got, test.want)
		}
	}
}

// One caller that is a gRPC client takes away what it cannot do, and no more.
func TestProxylessCapability(t *testing.T) {
	world := clients()
	want := mesh.Capability{Drain: true, Reroute: true, InPlace: true, Grade: mesh.GradeA, Proxyless: true}
	if got := xds.CapabilityIn(world, world.Find("shop/cart")); got != want {
		t.Errorf("shop/cart: got %+v, want %+v", got, want)
	}
	if got, want := xds.CapabilityIn(world, world.Find("shop/web")), (mesh.Capability{
		Drain: true, Reroute: true, InPlace: true, Grade: mesh.GradeC, Proxyless: true,
	}); got != want {
		t.Errorf("shop/web, which is itself one: got %+v, want %+v", got, want)
	}
	if got := xds.CapabilityIn(shop(), shop().Find("shop/cart")); got != xds.Capability(shop().Find("shop/cart")) {
		t.Errorf("without one: got %+v", got)
	}
	for name, o := range map[string]mesh.Overlay{
		"hold":             held("shop/cart", "uid-cart-0"),
		"break":            breaks("shop/cart", mesh.BreakOverlay{MaxRequests: 3}),
		"limit at it":      limit("shop/web", mesh.LimitOverlay{PerSecond: 4}),
		"limit before it":  {Key: mesh.OverlayKey{Kind: mesh.OverlayLimit, Callee: "shop/web"}, Limit: &mesh.LimitOverlay{PerSecond: 4}},
		"drain of a share": drain("shop/cart", mesh.DrainOverlay{Share: 10}),
	} {
		if err := xds.Validate(world, o); !errors.Is(err, xds.ErrUnsupported) || !strings.Contains(err.Error(), "zap-0") {
			t.Errorf("%s: got error %v, want ErrUnsupported that names zap-0", name, err)
		}
	}
	if err := xds.Validate(world, limit("", mesh.LimitOverlay{PerSecond: 4})); err != nil {
		t.Errorf("a limit that the callee's own proxies keep: %v", err)
	}
}
