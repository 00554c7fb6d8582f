// Package fakeplane is a control plane for tests of the surfaces: a fixed mesh with
// traffic, a symptom and proxies, and a kernel that obeys the contract of api/server's
// ports but moves its plans only when told to. It is not for anything that ships.
package fakeplane

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/api/server"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// Plane is the control plane. Its methods are safe for concurrent use.
type Plane struct {
	Start time.Time
	Auto  bool // plans run to their end as soon as they are submitted
	// Tampered makes the last record of the audit one that was changed.
	Tampered bool

	mu       sync.Mutex
	now      time.Time
	graph    *topology.Graph
	snapshot *topology.Snapshot
	world    *mesh.World
	plans    []*microkernel.Record // newest last
	watches  map[microkernel.PlanID][]chan microkernel.Record
	paused   string
	frozen   string
}

// Tokens of the four roles.
const (
	ViewerToken   = "viewer-token-of-the-fake"
	ProposerToken = "proposer-token-of-the-fake"
	ApproverToken = "approver-token-of-the-fake"
	AdminToken    = "admin-token-of-the-fake"
)

// calls are who calls whom in the fixed mesh, with requests a second; "*" is sticky.
func calls() []struct {
	caller, callee string
	rate           int
	sticky         bool
} {
	return []struct {
		caller, callee string
		rate           int
		sticky         bool
	}{
		{"outside/ingress", "hotel/frontend", 200, false},
		{"hotel/frontend", "hotel/search", 120, false},
		{"hotel/frontend", "hotel/profile", 90, false},
		{"hotel/frontend", "hotel/recommendation", 40, false},
		{"hotel/frontend", "hotel/user", 30, false},
		{"hotel/frontend", "hotel/reservation", 20, false},
		{"hotel/search", "hotel/geo", 120, false},
		{"hotel/search", "hotel/rate", 110, false},
		{"hotel/profile", "hotel/memcached-profile", 90, true},
		{"hotel/profile", "hotel/mongodb-profile", 12, false},
		{"hotel/rate", "hotel/memcached-rate", 100, false},
		{"hotel/rate", "hotel/mongodb-rate", 15, false},
		{"hotel/geo", "hotel/mongodb-geo", 30, false},
		{"hotel/recommendation", "hotel/mongodb-recommendation", 40, false},
		{"hotel/user", "hotel/mongodb-user", 30, false},
		{"hotel/reservation", "hotel/memcached-reserve", 20, false},
		{"hotel/reservation", "hotel/mongodb-reservation", 12, false},
		{"hotel/recommendation", "hotel/user", 5, false},
		{"hotel/user", "hotel/recommendation", 4, false},
	}
}

// New returns a plane at a fixed time, with a minute of traffic behind it.
func New() *Plane {
	start := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	p := &Plane{
		Start: start, now: start, graph: topology.NewGraph(),
		watches: map[microkernel.PlanID][]chan microkernel.Record{},
	}
	p.world = world()
	p.graph.Register(p.world)
	for second := range 60 {
		p.second(start.Add(time.Duration(second-60) * time.Second))
	}
	p.snapshot = p.graph.Snapshot(start)
	return p
}

// second records the traffic of one second; profile fails since half a minute.
func (p *Plane) second(at time.Time) {
	for _, c := range calls() {
		for i := range c.rate {
			bad := c.callee == "hotel/memcached-profile" || c.callee == "hotel/profile"
			failed := bad && p.Start.Sub(at) <= 30*time.Second && i%4 == 0
			p.graph.Observe(topology.Call{
				Caller: mesh.Service(c.caller), Callee: mesh.Service(c.callee),
				At:      at.Add(time.Duration(i) * time.Second / time.Duration(c.rate+1)),
				Latency: time.Duration(3+i%17) * time.Millisecond, Failed: failed, Source: topology.AccessLog,
			})
		}
	}
}

// world has one instance of each store and two of each other service but profile.
func world() *mesh.World {
	w := &mesh.World{Version: 1, Gateways: []mesh.Gateway{{
		Name: "outside/ingress", Service: "hotel/frontend", Proxy: "ingress",
	}}}
	seen := map[string]*mesh.ServiceState{}
	for _, c := range calls() {
		state := seen[c.callee]
		if state == nil {
			state = &mesh.ServiceState{Name: mesh.Service(c.callee), Protocol: mesh.HTTP, Replicas: 2}
			seen[c.callee] = state
		}
		if caller := seen[c.caller]; caller != nil {
			caller.Upstreams = append(caller.Upstreams, mesh.Upstream{
				Service: mesh.Service(c.callee), Timeout: mesh.DefaultUpstreamTimeout, Sticky: c.sticky,
			})
		}
	}
	port := uint16(20000)
	for _, name := range slices.Sorted(keys(seen)) {
		state := seen[name]
		if store(state.Name) {
			state.Protocol, state.Replicas = mesh.TCP, 1
		} else {
			state.Objective = mesh.Objective{P99: 100 * time.Millisecond, Errors: 0.01}
		}
		if name == "hotel/profile" {
			state.Replicas = 1
		}
		slices.SortFunc(state.Upstreams, func(a, b mesh.Upstream) int {
			return slices.Compare([]byte(a.Service), []byte(b.Service))
		})
		for i := range state.Replicas {
			instance := fmt.Sprintf("%s-%d", state.Name.Name(), i)
			state.Instances = append(state.Instances, mesh.Instance{
				Ref:  mesh.Ref{Service: state.Name, UID: mesh.UID("u-" + instance), Incarnation: 1},
				Name: instance, State: mesh.Ready, Proxy: state.Name.Namespace() + "." + instance,
				App:     netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port),
				Inbound: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port+1),
			})
			port += 2
		}
		w.Services = append(w.Services, *state)
	}
	return w
}

func keys(m map[string]*mesh.ServiceState) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range m {
			if !yield(name) {
				return
			}
		}
	}
}

func store(name mesh.Service) bool {
	return len(name.Name()) > 8 && (name.Name()[:8] == "mongodb-" || name.Name()[:9] == "memcached")
}

// Snapshot implements server.Snapshots.
func (p *Plane) Snapshot() *topology.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot
}

// World implements server.Registry.
func (p *Plane) World() *mesh.World { return p.world }

// Symptoms implements server.Symptoms: profile fails until a plan has committed.
func (p *Plane) Symptoms() []server.Symptom {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, record := range p.plans {
		if record.Phase == microkernel.Committed {
			return nil
		}
	}
	return []server.Symptom{{
		Service: "hotel/profile", Onset: p.Start.Add(-30 * time.Second), Noticed: p.Start.Add(-28 * time.Second),
		Evidence: "errors 25.6 % of 900 in 10 s, objective 1 %", ErrorShare: 0.256, P99: 19 * time.Millisecond,
	}}
}

// Overlays are the drains that are confirmed and not yet restored.
func (p *Plane) Overlays() []mesh.Overlay {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overlays()
}

// Proxies implements server.Proxies: one sidecar an instance, and the ingress.
func (p *Plane) Proxies() []server.Proxy {
	overlays := p.Overlays()
	since := p.Start.Add(-10 * time.Minute)
	var out []server.Proxy
	for _, gateway := range p.world.Gateways {
		out = append(out, proxy(gateway.Proxy, gateway.Name, since, overlays))
	}
	for i := range p.world.Services {
		for _, instance := range p.world.Services[i].Instances {
			out = append(out, proxy(instance.Proxy, instance.Service, since, overlays))
		}
	}
	for i := range out {
		if out[i].Node == "hotel.geo-1" {
			out[i].Connected = false
		}
		if out[i].Node == "hotel.rate-0" {
			out[i].Types[2].Nack = "Error adding/updating listener(s) out: duplicate address"
		}
	}
	return out
}

func proxy(node string, service mesh.Service, since time.Time, overlays []mesh.Overlay) server.Proxy {
	p := server.Proxy{Node: node, Service: service, Connected: true, Since: since, EnvoyVersion: "1.38.0"}
	for i, kind := range []string{"cds", "eds", "lds", "rds", "rtds"} {
		p.Types = append(p.Types, server.ProxyType{Type: kind, Sent: "v7", Acked: "v7", At: since, Resources: 5 - i})
	}
	for _, overlay := range overlays {
		p.Overlays = append(p.Overlays, overlay.Key)
	}
	return p
}
