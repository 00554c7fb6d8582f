package main

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/symptom"
)

// TestBoostFollowsASymptom has a symptom begin, last too long, end and begin anew.
func TestBoostFollowsASymptom(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	graph := topology.NewGraph()
	graph.RegisterNames([]mesh.Service{"outside/web", "shop/front", "shop/cart", "shop/other"})
	for _, pair := range [][2]mesh.Service{{"outside/web", "shop/front"}, {"shop/front", "shop/cart"}, {"shop/front", "shop/other"}} {
		graph.Observe(topology.Call{Caller: pair[0], Callee: pair[1], At: at, Source: topology.AccessLog})
	}
	snapshot := graph.Snapshot(at)
	around := []mesh.Service{"outside/web", "shop/cart", "shop/front"}
	broken := []symptom.Symptom{{Service: "shop/cart", Onset: at}}
	b := booster{until: map[mesh.Service]time.Time{}}
	for _, step := range []struct {
		after   time.Duration
		present []symptom.Symptom
		want    []mesh.Service
	}{
		{0, nil, nil},
		{time.Second, broken, around},
		{2 * time.Second, nil, around}, // held
		{boostHold + 2*time.Second, nil, nil},
		{boostFor, broken, around},
		{boostFor + time.Second, broken, around}, // held
		{boostFor + boostHold + time.Second, broken, nil},
		{time.Hour, []symptom.Symptom{{Service: "shop/cart", Onset: at.Add(time.Hour)}}, around},
	} {
		if got := b.next(at.Add(step.after), step.present, snapshot); !slices.Equal(got, step.want) {
			t.Errorf("after %s: %v, want %v", step.after, got, step.want)
		}
	}
}

func TestFlagsOfSources(t *testing.T) {
	base := []string{"--state", "s", "--supervisor", "s", "--xds", "x"}
	for _, test := range []struct {
		args  []string
		right bool
	}{
		{nil, true},
		{[]string{"--trace-percent", "0.5"}, true},
		{[]string{"--trace-percent", "101"}, false},
		{[]string{"--trace-percent", "NaN"}, false},
		{[]string{"--prometheus", "http://127.0.0.1:9090", "--prometheus-metrics", "istio,linkerd"}, true},
		{[]string{"--prometheus", "http://127.0.0.1:9090", "--prometheus-metrics", "consul"}, false},
		{[]string{"--prometheus", "http://127.0.0.1:9090", "--prometheus-interval", "1ms"}, false},
	} {
		if _, err := parse(append(slices.Clone(base), test.args...), t.Output()); (err == nil) != test.right {
			t.Errorf("%v: %v", test.args, err)
		}
	}
}

// TestWhoIsAtAnAddress has spans name a callee by address and by name in DNS.
func TestWhoIsAtAnAddress(t *testing.T) {
	world := resolveWorld()
	a := addressesOf(world)
	for _, test := range []struct {
		caller mesh.Service
		host   string
		port   uint16
		want   mesh.Service
	}{
		{"shop/front", "127.0.0.1", 7001, "shop/cart"}, // the application itself
		{"shop/front", "127.0.0.1", 7002, "shop/cart"}, // its sidecar
		{"shop/front", "127.0.0.1", 7003, "shop/cart"}, // the caller's own way to it
		{"shop/other", "127.0.0.1", 7003, ""},
		{"shop/front", "127.0.0.1", 7004, ""},
		{"shop/front", "cart.shop", 80, "shop/cart"},
		{"shop/front", "cart.shop.svc.cluster.local", 80, "shop/cart"},
		{"shop/front", "cart", 80, "shop/cart"}, // of the same namespace
		{"bank/front", "cart", 80, ""},
		{"shop/front", "cart.shop.example.com", 80, ""},
		{"shop/front", "", 80, ""},
	} {
		got, found := a.resolve(test.caller, test.host, test.port)
		if got != test.want || found != (test.want != "") {
			t.Errorf("%s at %s:%d: %q %v, want %q", test.caller, test.host, test.port, got, found, test.want)
		}
	}
}

func resolveWorld() *mesh.World {
	at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port) }
	return &mesh.World{
		Services: []mesh.ServiceState{{Name: "shop/cart", Instances: []mesh.Instance{{App: at(7001), Inbound: at(7002)}}}},
		Proxies:  []mesh.Proxy{{Service: "shop/front", Outbound: []mesh.Outbound{{Service: "shop/cart", Listen: at(7003)}}}},
	}
}
