package xds_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

var update = flag.Bool("update", false, "rewrite testdata")

// shop is three services and an ingress: web (HTTP) calls cart (HTTP, two instances) and
// store (raw TCP).
func shop() *mesh.World {
	at := func(port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
	}
	instance := func(service mesh.Service, name string, port uint16) mesh.Instance {
		return mesh.Instance{
			Ref: mesh.Ref{Service: service, UID: mesh.UID("uid-" + name), Incarnation: 1}, Name: name,
			State: mesh.Ready, App: at(port), Inbound: at(port + 1), Proxy: name,
		}
	}
	sidecar := func(i mesh.Instance, outbound ...mesh.Outbound) mesh.Proxy {
		port := i.App.Port()
		return mesh.Proxy{
			Node: i.Proxy, Service: i.Service, Instance: i.UID, Admin: at(port + 2), Inbound: i.Inbound,
			App: i.App, Park: at(port + 3), Outbound: outbound,
		}
	}
	cart0, cart1 := instance("shop/cart", "cart-0", 21000), instance("shop/cart", "cart-1", 21100)
	store, web := instance("shop/store", "store-0", 22000), instance("shop/web", "web-0", 23000)
	toCart := mesh.Outbound{Service: "shop/cart", Listen: at(23010), Timeout: 10 * time.Second}
	toStore := mesh.Outbound{Service: "shop/store", Listen: at(23011)}
	return &mesh.World{
		Version: 1,
		Services: []mesh.ServiceState{
			{Name: "shop/cart", Protocol: mesh.HTTP, Replicas: 2, Instances: []mesh.Instance{cart0, cart1}},
			{Name: "shop/store", Protocol: mesh.TCP, Replicas: 1, Instances: []mesh.Instance{store}},
			{Name: "shop/web", Protocol: mesh.HTTP, Replicas: 1, Instances: []mesh.Instance{web}},
		},
		Gateways: []mesh.Gateway{{Name: "outside/edge", Service: "shop/web", Proxy: "edge"}},
		Proxies: []mesh.Proxy{
			sidecar(cart0), sidecar(cart1),
			{
				Node: "edge", Service: "outside/edge", Admin: at(20002), Park: at(20003),
				Outbound: []mesh.Outbound{{Service: "shop/web", Listen: at(20010), Timeout: 15 * time.Second}},
			},
			sidecar(store), sidecar(web, toCart, toStore),
		},
	}
}

func drain(callee mesh.Service, d mesh.DrainOverlay) mesh.Overlay {
	if d.Share == 0 {
		d.Share = 100
	}
	return mesh.Overlay{
		Key: mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: callee}, Plan: "p", Step: "d1", Generation: 7, Drain: &d,
	}
}

func held(callee mesh.Service, uids ...mesh.UID) mesh.Overlay {
	return drain(callee, mesh.DrainOverlay{Instances: uids, OnEmpty: mesh.OnEmptyHold, Hold: 15 * time.Second})
}

// limit limits calls of shop/cart, by caller or by all.
func limit(caller mesh.Service, l mesh.LimitOverlay) mesh.Overlay {
	return mesh.Overlay{
		Key:        mesh.OverlayKey{Kind: mesh.OverlayLimit, Callee: "shop/cart", Caller: caller},
		Generation: 5, Limit: &l,
	}
}

func breaks(callee mesh.Service, b mesh.BreakOverlay) mesh.Overlay {
	return mesh.Overlay{Key: mesh.OverlayKey{Kind: mesh.OverlayBreak, Callee: callee}, Generation: 3, Break: &b}
}

// composed is one overlay of each kind on one edge.
func composed() []mesh.Overlay {
	return []mesh.Overlay{
		breaks("shop/cart", mesh.BreakOverlay{MaxRequests: 20, Consecutive5xx: 7}),
		limit("shop/web", mesh.LimitOverlay{PerSecond: 0.5}),
		held("shop/cart", "uid-cart-0", "uid-cart-1"),
	}
}

// TestGolden compares what a proxy gets, whole for the base, and for each overlay the
// resources that it changes: everything else must be the base's, byte for byte.
func TestGolden(t *testing.T) {
	for _, test := range []struct {
		name, node string
		overlays   []mesh.Overlay
	}{
		{"base-ingress", "edge", nil},
		{"base-caller", "web-0", nil},
		{"base-tcp-callee", "store-0", nil},
		{"drained", "web-0", []mesh.Overlay{
			drain("shop/cart", mesh.DrainOverlay{Instances: []mesh.UID{"uid-cart-0", "uid-cart-1"}}),
		}},
		{"held", "web-0", []mesh.Overlay{held("shop/cart", "uid-cart-0", "uid-cart-1")}},
		{"held-at-ingress", "edge", []mesh.Overlay{held("shop/web", "uid-web-0")}},
		{"shed", "web-0", []mesh.Overlay{drain("shop/cart", mesh.DrainOverlay{
			Instances: []mesh.UID{"uid-cart-0", "uid-cart-1"}, OnEmpty: mesh.OnEmptyShed,
		})}},
		{"rerouted", "web-0", []mesh.Overlay{drain("shop/cart", mesh.DrainOverlay{
			Instances: []mesh.UID{"uid-cart-0", "uid-cart-1"}, To: "shop/web",
		})}},
		{"partial", "web-0", []mesh.Overlay{drain("shop/cart", mesh.DrainOverlay{
			Instances: []mesh.UID{"uid-cart-1"}, Share: 25,
		})}},
		{"tcp-held", "web-0", []mesh.Overlay{held("shop/store", "uid-store-0")}},
		{"circuit-break", "web-0", []mesh.Overlay{{
			Key:        mesh.OverlayKey{Kind: mesh.OverlayBreak, Callee: "shop/cart", Caller: "shop/web"},
			Generation: 3, Break: &mesh.BreakOverlay{MaxRequests: 20},
		}}},
		{"rate-limit-of-an-edge", "web-0", []mesh.Overlay{limit("shop/web", mesh.LimitOverlay{PerSecond: 100, Burst: 10})}},
		{"rate-limit-at-the-callee", "cart-0", []mesh.Overlay{limit("", mesh.LimitOverlay{PerSecond: 5})}},
		{"rate-limit-at-the-callee-leaves-callers", "web-0", []mesh.Overlay{limit("", mesh.LimitOverlay{PerSecond: 5})}},
		{"circuit-break-ejects", "web-0", []mesh.Overlay{breaks("shop/cart", mesh.BreakOverlay{
			MaxRequests: 20, MaxRetries: 3, Consecutive5xx: 7,
		})}},
		{"circuit-break-tcp", "web-0", []mesh.Overlay{breaks("shop/store", mesh.BreakOverlay{MaxConnections: 9})}},
		{"composed", "web-0", composed()},
		{"streams-refused", "web-0", []mesh.Overlay{drain("shop/cart", mesh.DrainOverlay{
			Instances: []mesh.UID{"uid-cart-0"}, Streams: mesh.StreamsRefuse,
		})}},
		{"tcp-streams-refused", "web-0", []mesh.Overlay{drain("shop/store", mesh.DrainOverlay{
			Instances: []mesh.UID{"uid-store-0"}, OnEmpty: mesh.OnEmptyHold, Streams: mesh.StreamsRefuse,
		})}},
		{"callee-is-not-touched", "cart-0", []mesh.Overlay{held("shop/cart", "uid-cart-0")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			world := shop()
			got, errs := xds.Build(world, test.node, test.overlays)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			if err := got.Check(); err != nil {
				t.Error(err)
			}
			base := xds.Base(world, test.node)
			if test.overlays == nil {
				base = xds.Resources{}
			}
			compare(t, test.name, changes(t, &base, &got))
		})
	}
}

// changes prints the resources of b that a does not have in that version.
func changes(t *testing.T, a, b *xds.Resources) []byte {
	var out bytes.Buffer
	for _, typ := range xds.Types() {
		for _, r := range b.Of(typ) {
			if old := a.Find(typ, r.Name); old == nil || old.Version != r.Version {
				fmt.Fprintf(&out, "# %s %s version %s\n%s\n", typ.Short(), r.Name, r.Version, canonical(t, r))
			}
		}
		for _, r := range a.Of(typ) {
			if b.Find(typ, r.Name) == nil {
				fmt.Fprintf(&out, "# %s %s removed\n", typ.Short(), r.Name)
			}
		}
	}
	return out.Bytes()
}

// canonical is protojson without its random spaces.
func canonical(t *testing.T, r xds.Resource) []byte {
	t.Helper()
	raw, err := protojson.Marshal(r.Message)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func compare(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; run with -update and read the diff. First difference:\n%s", path, firstDifference(got, want))
	}
}

func firstDifference(got, want []byte) string {
	a, b := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(a), len(b))
}
