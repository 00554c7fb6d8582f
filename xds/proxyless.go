package xds

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluicemesh/sluice/mesh"
)

// A gRPC client asks for the listener called NAMESPACE/NAME, and follows its names to a
// route, a cluster and endpoints. It has no runtime layer, no park and no twin: a drained
// endpoint is simply not there, at once, and until it is put back.

// clientUpstream adds what a gRPC client needs of one upstream.
func (b *builder) clientUpstream(out mesh.Outbound) {
	if ProtocolOf(b.scene.World, out.Service) == mesh.TCP {
		return
	}
	name := string(out.Service)
	cluster, endpoints := named(name, mesh.HTTP, func(c *clusterv3.Cluster) {
		c.TypedExtensionProtocolOptions, c.CommonLbConfig = nil, nil
		// Load reports go to whoever serves the cluster.
		c.LrsServer = &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Self{Self: &corev3.SelfConfigSource{}}}
	})
	b.add(ListenerType, name, clientListener(name))
	b.add(RouteType, name, clientRoutes(out))
	b.add(ClusterType, name, cluster)
	b.add(EndpointType, endpoints, clientAssignment(endpoints, b.scene.World, out.Service, b.overlay(mesh.OverlayDrain, out.Service)))
}

// clientListener is a listener that nobody listens at.
func clientListener(name string) *listenerv3.Listener {
	manager := connectionManager(name, name)
	manager = &hcmv3.HttpConnectionManager{
		StatPrefix: name, RouteSpecifier: manager.GetRouteSpecifier(), HttpFilters: manager.GetHttpFilters(),
	}
	return &listenerv3.Listener{Name: name, ApiListener: &listenerv3.ApiListener{ApiListener: pack(manager)}}
}

// clientRoutes sends all calls to the cluster.
func clientRoutes(out mesh.Outbound) *routev3.RouteConfiguration {
	action := &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: string(out.Service)}}
	if out.Timeout > 0 {
		action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(out.Timeout)}
	}
	return &routev3.RouteConfiguration{Name: string(out.Service), VirtualHosts: []*routev3.VirtualHost{{
		Name: string(out.Service), Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}},
			Action: &routev3.Route_Route{Route: action},
		}},
	}}}
}

// clientAssignment lists the endpoints that are to be called. gRPC reports its loads by
// locality, and goes on reporting a locality that was dropped until its last call has ended:
// so each endpoint is a locality of its own, named by its address.
func clientAssignment(name string, world *mesh.World, service mesh.Service, drain *Staged,
) *endpointv3.ClusterLoadAssignment {
	endpoints := ownEndpoints(world.Find(service), drain)
	if drain != nil && drain.Drain.To != "" {
		endpoints = append(endpoints, ownEndpoints(world.Find(drain.Drain.To), nil)...)
	}
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for _, e := range endpoints {
		if e.GetHealthStatus() != corev3.HealthStatus_HEALTHY {
			continue
		}
		weight := uint32(fullWeight)
		if w := e.GetLoadBalancingWeight(); w != nil {
			weight, e.LoadBalancingWeight = w.GetValue(), nil
		}
		socket := e.GetEndpoint().GetAddress().GetSocketAddress()
		out.Endpoints = append(out.Endpoints, &endpointv3.LocalityLbEndpoints{
			Locality:            &corev3.Locality{SubZone: fmt.Sprintf("%s:%d", socket.GetAddress(), socket.GetPortValue())},
			LoadBalancingWeight: wrapperspb.UInt32(weight),
			LbEndpoints:         []*endpointv3.LbEndpoint{e},
		})
	}
	return out
}

// validateProxyless refuses what gRPC clients cannot do, wherever they would have to.
func validateProxyless(world *mesh.World, o mesh.Overlay) error {
	for i := range world.Proxies {
		p := &world.Proxies[i]
		if p.Kind != mesh.Proxyless || !(Concerns(o.Key, p) || p.Service == o.Key.Callee && limitsAll(o.Key)) {
			continue
		}
		if what := beyondClients(o); what != "" {
			return fmt.Errorf("%w: %s of %s, since %s of %s is a gRPC client without a proxy", ErrUnsupported, what,
				o.Key.Callee, p.Node, p.Service)
		}
	}
	return nil
}

// limitsAll reports whether key is a rate limit that the callee's own proxies keep.
func limitsAll(key mesh.OverlayKey) bool { return key.Kind == mesh.OverlayLimit && key.Caller == "" }

// beyondClients names what of an overlay a gRPC client cannot do, "" if it can do it.
func beyondClients(o mesh.Overlay) string {
	switch d := o.Drain; {
	case d == nil:
		return string(o.Key.Kind)
	case d.OnEmpty != mesh.OnEmptyNone:
		return string(d.OnEmpty)
	case d.Share < 100:
		return "a drain of a share"
	case d.Streams == mesh.StreamsRefuse:
		return "refusal of streams"
	}
	return ""
}

// CapabilityIn is Capability, but for what the proxies of world cannot do that are gRPC
// clients: as callers they neither hold nor shed nor limit, and what they were told does
// not lapse; as the callee they count nothing.
func CapabilityIn(world *mesh.World, state *mesh.ServiceState) mesh.Capability {
	c := Capability(state)
	if world == nil || state == nil {
		return c
	}
	calls, callers, own := false, 0, false
	for i := range world.Proxies {
		p := &world.Proxies[i]
		own = own || p.Service == state.Name && p.Kind == mesh.Proxyless
		if Concerns(mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: state.Name}, p) {
			callers++
			calls = calls || p.Kind == mesh.Proxyless
		}
	}
	if !calls && !own {
		return c
	}
	can := mesh.Capability{Drain: c.Drain, Reroute: c.Reroute, InPlace: true, Grade: c.Grade, Proxyless: true}
	if own || !sidecars(state) { // only callers can tell
		can.Drain, can.Reroute, can.Grade = callers > 0, callers > 0, mesh.GradeC
	}
	return can
}
