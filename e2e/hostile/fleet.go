package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// fleet is a mesh that is being described: services with instances, and who calls whom.
type fleet struct {
	services map[mesh.Service]*mesh.ServiceState
	edges    []edge
	loads    map[mesh.Service]float64 // requests a second
	quiet    bool                     // no traffic was seen
	silent   bool                     // no dependency is declared
}

// edge is a caller and its callee.
type edge struct {
	caller, callee mesh.Service
	timeout        time.Duration
	sticky         bool
}

func newFleet() *fleet {
	return &fleet{services: map[mesh.Service]*mesh.ServiceState{}, loads: map[mesh.Service]float64{}}
}

// add describes a service of n ready instances, the k-th in zone a, b or c.
func (f *fleet) add(name mesh.Service, n int) *mesh.ServiceState {
	s := &mesh.ServiceState{Name: name, Protocol: mesh.HTTP, Replicas: n, Startup: 2 * time.Second}
	for k := range n {
		port := 20000 + uint16(len(f.services)%4000)*8 + uint16(k%8)
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		instance := fmt.Sprintf("%.50s-%d", name.Name(), k)
		s.Instances = append(s.Instances, mesh.Instance{
			Ref:  mesh.Ref{Service: name, UID: mesh.UID(fmt.Sprintf("%s.%s", name.Namespace(), instance)), Incarnation: 1},
			Name: instance, Zone: string(rune('a' + k%3)), State: mesh.Ready, Inbound: at,
			Proxy: name.Namespace() + "." + instance,
		})
	}
	f.services[name] = s
	f.loads[name] = 100
	return s
}

// calls describes an edge; services that are not there yet get two instances.
func (f *fleet) calls(caller, callee mesh.Service) *edge {
	for _, name := range []mesh.Service{caller, callee} {
		if f.services[name] == nil && name.Namespace() != mesh.OutsideNamespace {
			f.add(name, 2)
		}
	}
	f.edges = append(f.edges, edge{caller: caller, callee: callee, timeout: 10 * time.Second})
	return &f.edges[len(f.edges)-1]
}

// world is the registry's view of the fleet.
func (f *fleet) world() *mesh.World {
	w := &mesh.World{Version: 1, Gateways: []mesh.Gateway{{Name: "outside/web", Service: "shop/front", Proxy: "web"}}}
	for _, s := range f.services {
		state := *s
		for _, e := range f.edges {
			if e.caller == s.Name && !f.silent {
				state.Upstreams = append(state.Upstreams, mesh.Upstream{Service: e.callee, Timeout: e.timeout, Sticky: e.sticky})
			}
		}
		slices.SortFunc(state.Upstreams, func(a, b mesh.Upstream) int {
			return strings.Compare(string(a.Service), string(b.Service))
		})
		w.Services = append(w.Services, state)
	}
	slices.SortFunc(w.Services, func(a, b mesh.ServiceState) int { return strings.Compare(string(a.Name), string(b.Name)) })
	if f.services["shop/front"] == nil || f.silent {
		w.Gateways = nil
	}
	return w
}

// graph is the call graph after a minute in which every edge was used.
func (f *fleet) graph(w *mesh.World, now time.Time) *topology.Graph {
	g := topology.NewGraph()
	g.Register(w)
	if f.quiet {
		return g
	}
	for _, e := range f.edges {
		g.Observe(topology.Call{
			Caller: e.caller, Callee: e.callee, At: now.Add(-time.Second), Latency: 3 * time.Millisecond,
			Source: topology.AccessLog, Weight: 5000,
		})
	}
	return g
}

// shop is the mesh that most rows attack.
func shop() *fleet {
	f := newFleet()
	f.add("shop/front", 3)
	f.add("shop/cart", 3)
	f.add("shop/single", 1)
	f.add("shop/slow", 1).Startup = 12 * time.Second
	f.add("shop/glacial", 1).Startup = 20 * time.Second
	f.add("shop/zoned", 4)
	f.add("shop/other", 2)
	f.add("shop/hub", 3)
	f.add(long(), 2)
	f.add("shop/ledger", 3).Quorum = 2
	f.calls("outside/web", "shop/front")
	for _, callee := range []mesh.Service{"shop/cart", "shop/single", "shop/slow", "shop/zoned", "shop/other", long()} {
		f.calls("shop/front", callee)
	}
	f.calls("shop/front", "shop/glacial").timeout = 60 * time.Second
	f.calls("shop/cart", "shop/ledger")
	for i := range 4 {
		f.calls(mesh.Service(fmt.Sprintf("zoo/c%02d", i)), "shop/leaf")
	}
	f.add("shop/leaf", 3)
	for i := range 25 {
		f.calls(mesh.Service(fmt.Sprintf("zoo/c%02d", i)), "shop/hub")
	}
	for i := range 6 {
		f.calls(ring(i), ring((i+1)%6))
	}
	for i := range 6 {
		f.services[ring(i)].Startup = time.Second
	}
	f.calls("shop/front", ring(0))
	for i := range 40 {
		f.calls("shop/front", leaf(i))
	}
	return f
}

// long is a service whose name is as long as may be and begins with digits.
func long() mesh.Service { return "0digits/" + mesh.Service(strings.Repeat("9", 63)) }

// ring is the i-th of six services that call each other in a circle.
func ring(i int) mesh.Service { return mesh.Service(fmt.Sprintf("ring/r%d", i)) }

// leaf is the i-th of forty services that only shop/front calls.
func leaf(i int) mesh.Service { return mesh.Service(fmt.Sprintf("zoo/s%02d", i)) }
