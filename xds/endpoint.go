package xds

import (
	"net/netip"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sluicemesh/sluice/mesh"
)

const (
	// strictPriority keeps the parking endpoint, at priority 1, from being chosen while
	// any endpoint of priority 0 is healthy (Envoy's default of 140 spills).
	strictPriority = 100_000
	fullWeight     = 100
)

// refused is where a parked TCP connection is sent: nobody listens there, so that the
// attempt fails at once and is made again.
func refused() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 255, 255, 254}), 1)
}

// tcpPark is the parking endpoint of a raw TCP upstream: connections that are held are
// refused until the drain ends; those that are shed, or refused by the stream policy, find no
// endpoint, and are closed.
func tcpPark(drain *Staged) netip.AddrPort {
	if drain != nil && drain.Drain.OnEmpty == mesh.OnEmptyHold && drain.Drain.Streams != mesh.StreamsRefuse {
		return refused()
	}
	return netip.AddrPort{}
}

// assignment is the endpoints of service under the resource name, with drain's change
// (nil: none); park is the calling proxy's parking endpoint, for drains that need it.
func assignment(name string, world *mesh.World, service mesh.Service, drain *Staged, park netip.AddrPort,
) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Policy: &endpointv3.ClusterLoadAssignment_Policy{
			OverprovisioningFactor: wrapperspb.UInt32(strictPriority),
		},
	}
	first := ownEndpoints(world.Find(service), drain)
	if drain != nil && drain.Drain.To != "" {
		first = append(first, ownEndpoints(world.Find(drain.Drain.To), nil)...)
	}
	out.Endpoints = append(out.Endpoints, &endpointv3.LocalityLbEndpoints{LbEndpoints: first})
	if parks(drain) && park.IsValid() {
		out.Endpoints = append(out.Endpoints, &endpointv3.LocalityLbEndpoints{
			Priority: 1, LbEndpoints: []*endpointv3.LbEndpoint{healthy(endpoint(park))},
		})
	}
	return out
}

// parks reports whether drain sends requests to a parking endpoint when nothing is left.
func parks(drain *Staged) bool {
	return drain != nil && drain.Drain.OnEmpty != mesh.OnEmptyNone
}

// ownEndpoints lists the instances of a service. One that is not ready is UNHEALTHY,
// unless none is ready: then all are offered, since the registry may be late.
func ownEndpoints(state *mesh.ServiceState, drain *Staged) []*endpointv3.LbEndpoint {
	if state == nil {
		return nil
	}
	open := state.ReadyCount() == 0 && !parks(drain)
	var out []*endpointv3.LbEndpoint
	for i := range state.Instances {
		instance := &state.Instances[i]
		if !instance.Inbound.IsValid() {
			continue
		}
		e := endpoint(instance.Inbound)
		e.HealthStatus = corev3.HealthStatus_UNHEALTHY
		if open || instance.State == mesh.Ready {
			healthy(e)
		}
		if drain != nil {
			drainEndpoint(e, instance, drain)
		}
		out = append(out, e)
	}
	return out
}

// drainEndpoint takes e out of service, or gives it a part of its weight back. It
// stays in the list: an endpoint that is removed vanishes from load reports with its
// requests still in flight.
func drainEndpoint(e *endpointv3.LbEndpoint, instance *mesh.Instance, drain *Staged) {
	drained := drain.Drain.To != "" || slices.Contains(drain.Drain.Instances, instance.UID)
	switch {
	case drained && drain.Back == 0:
		e.HealthStatus = corev3.HealthStatus_DRAINING
	case drained:
		e.LoadBalancingWeight = wrapperspb.UInt32(uint32(min(max(drain.Back, 1), fullWeight)))
	case drain.Back > 0:
		e.LoadBalancingWeight = wrapperspb.UInt32(fullWeight)
	}
}

func healthy(e *endpointv3.LbEndpoint) *endpointv3.LbEndpoint {
	e.HealthStatus = corev3.HealthStatus_HEALTHY
	return e
}
