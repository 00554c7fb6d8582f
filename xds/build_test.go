package xds_test

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// Equal input gives equal bytes, whatever the order of maps inside.
func TestBuildIsDeterministic(t *testing.T) {
	overlays := []mesh.Overlay{held("shop/cart", "uid-cart-0"), held("shop/store", "uid-store-0")}
	first, _ := xds.Build(shop(), "web-0", overlays)
	for range 20 {
		again, _ := xds.Build(shop(), "web-0", overlays)
		for _, typ := range xds.Types() {
			if !xds.Same(&first, &again, typ) {
				t.Fatalf("%s differs from one build to the next", typ.Short())
			}
		}
	}
}

// A drain of an HTTP callee touches its twin's endpoints and the runtime layer, and
// nothing else: never a cluster, whose in-flight counts would be lost.
func TestDrainIsMinimal(t *testing.T) {
	for _, o := range []mesh.Overlay{
		held("shop/cart", "uid-cart-0"),
		drain("shop/cart", mesh.DrainOverlay{Instances: []mesh.UID{"uid-cart-0"}, To: "shop/web"}),
	} {
		base := xds.Base(shop(), "web-0")
		got, _ := xds.Build(shop(), "web-0", []mesh.Overlay{o})
		for _, typ := range []xds.TypeURL{xds.ClusterType, xds.ListenerType, xds.RouteType} {
			if !xds.Same(&base, &got, typ) {
				t.Errorf("%s changed", typ.Short())
			}
		}
		for _, r := range got.Endpoints {
			old := base.Find(xds.EndpointType, r.Name)
			if changed := old.Version != r.Version; changed != strings.HasPrefix(r.Name, "shop/cart~o@") {
				t.Errorf("%s changed: %t", r.Name, changed)
			}
		}
	}
}

// The keys of all overlays are one resource, so that they lapse together.
func TestRuntimeIsOneResource(t *testing.T) {
	overlays := []mesh.Overlay{held("shop/cart", "uid-cart-0")}
	got, _ := xds.Build(shop(), "web-0", overlays)
	base := xds.Base(shop(), "web-0")
	if len(got.Runtime) != 1 || got.Runtime[0].Name != "ov" || !got.Armed() || base.Armed() {
		t.Fatalf("runtime is %v, armed %t, base armed %t", got.Runtime, got.Armed(), base.Armed())
	}
	fields := got.Runtime[0].Message.(*runtimev3.Runtime).GetLayer().GetFields()
	for key, want := range map[string]float64{"sl.shop.cart.o": 100, "sl.shop.cart.hold": 100, "sl.gen": 7} {
		if fields[key].GetNumberValue() != want {
			t.Errorf("%s = %v, want %v", key, fields[key], want)
		}
	}
	if len(fields) != 3 {
		t.Errorf("keys are %v, want just these three", fields)
	}
	overlays[0].Generation++
	again, _ := xds.Build(shop(), "web-0", overlays)
	if xds.Same(&got, &again, xds.RuntimeType) {
		t.Error("a new generation does not change the runtime layer: Envoy would not be sent what lapsed")
	}
}

func TestStages(t *testing.T) {
	o := held("shop/cart", "uid-cart-0")
	build := func(staged xds.Staged) (weights []string, armed bool) {
		res, errs := xds.Scene{World: shop(), Overlays: []xds.Staged{staged}}.Build("web-0")
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, r := range res.Endpoints {
			if strings.HasPrefix(r.Name, "shop/cart~o@") {
				for _, e := range r.Message.(*endpointv3.ClusterLoadAssignment).GetEndpoints()[0].GetLbEndpoints() {
					weights = append(weights, fmt.Sprint(e.GetHealthStatus(), " ", e.GetLoadBalancingWeight().GetValue()))
				}
			}
		}
		return weights, res.Armed()
	}
	for _, test := range []struct {
		staged xds.Staged
		want   string
		armed  bool
	}{
		{xds.Staged{Overlay: o}, "[DRAINING 0 HEALTHY 0]", false},
		{xds.Staged{Overlay: o, Armed: true}, "[DRAINING 0 HEALTHY 0]", true},
		{xds.Staged{Overlay: o, Armed: true, Back: 10}, "[HEALTHY 10 HEALTHY 100]", true},
		{xds.Staged{Overlay: o, Armed: true, Back: 100}, "[HEALTHY 100 HEALTHY 100]", true},
	} {
		weights, armed := build(test.staged)
		if fmt.Sprint(weights) != test.want || armed != test.armed {
			t.Errorf("armed %t, back %d: got %v, armed %t, want %s", test.staged.Armed, test.staged.Back, weights, armed,
				test.want)
		}
	}
}

// An overlay on one edge concerns its caller alone, and goes before one on all.
func TestEdgeOverlay(t *testing.T) {
	all, edge := held("shop/cart", "uid-cart-0"), held("shop/cart", "uid-cart-1")
	edge.Key.Caller = "shop/web"
	both, _ := xds.Build(shop(), "web-0", []mesh.Overlay{edge, all})
	just, _ := xds.Build(shop(), "web-0", []mesh.Overlay{edge})
	if !xds.Same(&both, &just, xds.EndpointType) {
		t.Error("the overlay on the edge does not win")
	}
	edge.Key.Caller = "shop/other"
	other, _ := xds.Build(shop(), "web-0", []mesh.Overlay{edge})
	base := xds.Base(shop(), "web-0")
	if !xds.Same(&other, &base, xds.EndpointType) || other.Armed() {
		t.Error("an overlay on another caller's edge is in force")
	}
}

func TestReadiness(t *testing.T) {
	health := func(change func(*mesh.World)) string {
		world := shop()
		change(world)
		res := xds.Base(world, "web-0")
		var out []string
		for _, r := range res.Endpoints {
			if strings.HasPrefix(r.Name, "shop/cart@") {
				for _, e := range r.Message.(*endpointv3.ClusterLoadAssignment).GetEndpoints()[0].GetLbEndpoints() {
					out = append(out, e.GetHealthStatus().String())
				}
			}
		}
		return strings.Join(out, " ")
	}
	set := func(states ...mesh.InstanceState) func(*mesh.World) {
		return func(w *mesh.World) {
			for i, state := range states {
				w.Services[0].Instances[i].State = state
			}
		}
	}
	if got := health(set(mesh.Ready, mesh.Starting)); got != "HEALTHY UNHEALTHY" {
		t.Errorf("one ready, one starting: %s", got)
	}
	if got := health(set(mesh.Stopped, mesh.Unready)); got != "HEALTHY HEALTHY" {
		t.Errorf("none ready: %s, want both offered, their sidecars hold", got)
	}
}

func TestValidate(t *testing.T) {
	limit := mesh.Overlay{
		Key: mesh.OverlayKey{Kind: mesh.OverlayLimit, Callee: "shop/store"}, Limit: &mesh.LimitOverlay{PerSecond: 1},
	}
	long := held("shop/cart", "uid-cart-0")
	long.Drain.Hold = time.Minute
	for name, test := range map[string]struct {
		overlay     mesh.Overlay
		unsupported bool
		want        string
	}{
		"no such service":   {held("shop/none"), false, "no such service"},
		"rate limit":        {limit, true, "rate limit"},
		"share of raw TCP":  {drain("shop/store", mesh.DrainOverlay{Share: 50}), true, "share"},
		"share above 100":   {drain("shop/cart", mesh.DrainOverlay{Share: 101}), false, "want 1..100"},
		"hold too long":     {long, true, "are covered"},
		"other protocol":    {drain("shop/cart", mesh.DrainOverlay{To: "shop/store"}), false, "protocols"},
		"no reroute target": {drain("shop/cart", mesh.DrainOverlay{To: "shop/none"}), false, "no such service"},
		"empty":             {mesh.Overlay{Key: limit.Key}, false, "do not match"},
		"streams asked":     {drain("shop/store", mesh.DrainOverlay{Streams: mesh.StreamsAsk}), true, "only cut"},
		"streams begged":    {drain("shop/cart", mesh.DrainOverlay{Streams: "beg"}), false, "unknown"},
		"drain of nothing":  {mesh.Overlay{Key: held("shop/cart").Key}, false, "do not match"},
	} {
		err := xds.Validate(shop(), test.overlay)
		if err == nil || errors.Is(err, xds.ErrUnsupported) != test.unsupported || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, errs := xds.Build(shop(), "web-0", []mesh.Overlay{test.overlay}); len(errs) != 1 {
			t.Errorf("%s: Build says %v", name, errs)
		}
	}
	noPark := shop()
	noPark.Proxies[4].Park = netip.AddrPort{}
	if err := xds.Validate(noPark, held("shop/cart", "uid-cart-0")); !errors.Is(err, xds.ErrUnsupported) {
		t.Errorf("a caller without a park: %v", err)
	}
}

func TestHoldCovers(t *testing.T) {
	if !xds.HoldCovers(xds.MaxHold) {
		t.Error("the longest hold that policy allows is not covered")
	}
	if xds.HoldCovers(20 * time.Second) {
		t.Error("20 s are covered: retries go on for longer than any caller waits")
	}
}

// Check finds each reference that leads nowhere.
func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		damage func(*xds.Resources)
		want   string
	}{
		"route to no cluster": {func(r *xds.Resources) {
			r.Clusters = without(r.Clusters, "shop/cart~o")
		}, `route out~shop/cart needs CDS "shop/cart~o"`},
		"listener without routes": {func(r *xds.Resources) { r.Routes = without(r.Routes, "park") },
			`listener park needs RDS "park"`},
		"cluster without endpoints": {func(r *xds.Resources) { r.Endpoints = nil }, "cluster shop/cart needs EDS"},
		"tcp proxy to no cluster": {func(r *xds.Resources) { r.Clusters = without(r.Clusters, "shop/store") },
			`listener out~shop/store needs CDS "shop/store"`},
		"twice": {func(r *xds.Resources) { r.Clusters = append(r.Clusters[:1:1], r.Clusters...) }, "there twice"},
	} {
		res := xds.Base(shop(), "web-0")
		test.damage(&res)
		if err := res.Check(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func without(list []xds.Resource, name string) []xds.Resource {
	var out []xds.Resource
	for _, r := range list {
		if r.Name != name {
			out = append(out, r)
		}
	}
	return out
}

// A cluster that changes in place asks for endpoints under a new name.
func TestClusterChangeRenewsEndpoints(t *testing.T) {
	name := func(world *mesh.World) string {
		res := xds.Base(world, "web-0")
		c := res.Find(xds.ClusterType, "shop/store").Message.(*clusterv3.Cluster)
		return c.GetEdsClusterConfig().GetServiceName()
	}
	before := name(shop())
	world := shop()
	world.Services[1].Protocol = mesh.HTTP
	if after := name(world); after == before {
		t.Errorf("both are %s", after)
	}
	if world = shop(); name(world) != before {
		t.Error("the name is not a function of the cluster")
	}
}

func TestCutsOf(t *testing.T) {
	for _, cuts := range []uint64{0, 1, 17} {
		res, _ := xds.Scene{World: shop(), Cuts: map[string]uint64{"cart-0": cuts}}.Build("cart-0")
		version := res.Find(xds.ListenerType, xds.InboundListener).Version
		if got, known := xds.CutsOf(shop(), "cart-0", version); !known || got != cuts {
			t.Errorf("got %d, %t, want %d", got, known, cuts)
		}
	}
	if _, known := xds.CutsOf(shop(), "cart-0", "0123456789abcdef"); known {
		t.Error("a foreign version is known")
	}
}

func TestUnion(t *testing.T) {
	a, b := xds.Base(shop(), "web-0"), xds.Base(shop(), "edge")
	var names []string
	for _, r := range xds.Union(&a, &b, xds.ClusterType) {
		names = append(names, r.Name)
	}
	want := "app shop/cart shop/cart~o shop/store shop/web shop/web~o"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCallee(t *testing.T) {
	for cluster, want := range map[string]string{
		"shop/cart": "shop/cart false", "shop/cart~o": "shop/cart true", "app": "app false", "~o": "~o false",
	} {
		service, twin := xds.Callee(cluster)
		if got := fmt.Sprint(service, " ", twin); got != want {
			t.Errorf("%s: got %s, want %s", cluster, got, want)
		}
	}
}

// Every body is what its message marshals to: nothing is sent that was not checked.
func TestBodies(t *testing.T) {
	res := xds.Base(shop(), "web-0")
	for _, typ := range xds.Types() {
		for _, r := range res.Of(typ) {
			message, err := r.Body.UnmarshalNew()
			if err != nil || !proto.Equal(message, r.Message) || r.Body.GetTypeUrl() != string(typ) {
				t.Errorf("%s %s: body is not the message: %v", typ.Short(), r.Name, err)
			}
		}
	}
}

// Overlays compose in their fixed order, whatever the order in which they come.
func TestCompositionHasOneOrder(t *testing.T) {
	overlays := composed()
	want, errs := xds.Build(shop(), "web-0", overlays)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for range len(overlays) {
		overlays = append(overlays[1:], overlays[0])
		got, _ := xds.Build(shop(), "web-0", overlays)
		for _, typ := range xds.Types() {
			if !xds.Same(&want, &got, typ) {
				t.Errorf("%s depends on the order of the overlays", typ.Short())
			}
		}
	}
}

// No overlay changes a cluster that is there already: its in-flight counts, and so the
// proof of a drain, would be lost.
func TestNoOverlayChangesACluster(t *testing.T) {
	base := xds.Base(shop(), "web-0")
	got, _ := xds.Build(shop(), "web-0", composed())
	for _, r := range base.Clusters {
		if now := got.Find(xds.ClusterType, r.Name); now == nil || now.Version != r.Version {
			t.Errorf("%s changed", r.Name)
		}
	}
	twin := got.Find(xds.ClusterType, "shop/cart~o").Message.(*clusterv3.Cluster)
	if twin.GetOutlierDetection() != nil {
		t.Error("the twin has outlier detection, which would eject the park")
	}
}

// The parts of a limit add up to no more than the whole, however it is divided, and each
// is what Envoy accepts.
func TestLimitIsShared(t *testing.T) {
	for _, rate := range []float64{1e-9, 0.02, 0.5, 1, 7, 19.99, 1000, 1e9} {
		res, errs := xds.Build(shop(), "cart-0", []mesh.Overlay{limit("", mesh.LimitOverlay{PerSecond: rate})})
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		route := res.Find(xds.RouteType, xds.InboundListener).Message.(*routev3.RouteConfiguration)
		filter := new(ratelimitv3.LocalRateLimit)
		packed := route.GetVirtualHosts()[0].GetTypedPerFilterConfig()["envoy.filters.http.local_ratelimit"]
		if err := packed.UnmarshalTo(filter); err != nil {
			t.Fatal(err)
		}
		if err := filter.ValidateAll(); err != nil {
			t.Errorf("rate %g: %v", rate, err)
		}
		bucket := filter.GetTokenBucket()
		interval := bucket.GetFillInterval().AsDuration()
		share := float64(bucket.GetTokensPerFill().GetValue()) / interval.Seconds()
		slowest := share > rate/2 && interval == 24*time.Hour // one a day is the least that can be said
		if interval < 50*time.Millisecond || bucket.GetMaxTokens() < bucket.GetTokensPerFill().GetValue() ||
			!slowest && math.Abs(share-rate/2) > rate/1000 {
			t.Errorf("rate %g among two: each %v, that is %g a second, want half", rate, bucket, share)
		}
	}
}

func TestWhatCannotBeLimitedOrBroken(t *testing.T) {
	onStore := limit("", mesh.LimitOverlay{PerSecond: 5})
	onStore.Key.Callee = "shop/store"
	bare := shop()
	bare.Services[0].Instances[1].Proxy = ""
	for _, test := range []struct {
		name        string
		world       *mesh.World
		overlay     mesh.Overlay
		unsupported bool
	}{
		{"a rate of raw TCP", shop(), onStore, true},
		{"all calls of a service without sidecars", bare, limit("", mesh.LimitOverlay{PerSecond: 5}), true},
		{"ejection of raw TCP", shop(), breaks("shop/store", mesh.BreakOverlay{Consecutive5xx: 5}), true},
		{"requests of raw TCP", shop(), breaks("shop/store", mesh.BreakOverlay{MaxRequests: 5}), true},
		{"a rate of nothing", shop(), limit("", mesh.LimitOverlay{}), false},
		{"a rate that is no number", shop(), limit("", mesh.LimitOverlay{PerSecond: math.NaN()}), false},
		{"an edge that is none", shop(), limit("outside/edge", mesh.LimitOverlay{PerSecond: 5}), false},
	} {
		err := xds.Validate(test.world, test.overlay)
		if err == nil || errors.Is(err, xds.ErrUnsupported) != test.unsupported {
			t.Errorf("%s: got error %v, want one, unsupported %t", test.name, err, test.unsupported)
		}
	}
}
