package xds

import (
	"github.com/sluicemesh/sluice/mesh"
)

// Headers between a proxy and its own parking listener. Applications can neither
// send nor see them.
const (
	CalleeHeader = "x-sluice-callee" // request: for whom the request is parked
	ParkHeader   = "x-sluice-park"   // response: parked, try again
)

// Names of what every proxy has.
const (
	AppCluster      = "app" // a sidecar's own application
	InboundListener = "in"
	Overlays        = "ov" // the runtime resource with all overlay keys
	LogName         = "sluice"
	parkName        = "park"
	xdsCluster      = "sluice_xds" // of the bootstrap (mesh/envoy.Cluster)

	generationKey = "sl.gen"
	twinSuffix    = "~o"
	breakSuffix   = "~b"
	outPrefix     = "out~"
)

// Twin names the overlay twin of service's cluster.
func Twin(service mesh.Service) string { return string(service) + twinSuffix }

// Callee returns the service that a cluster name stands for, and whether the cluster
// is the overlay twin. A name of ours that is no upstream ("app") is returned as is.
func Callee(cluster string) (service mesh.Service, twin bool) {
	if n := len(cluster) - len(twinSuffix); n > 0 && cluster[n:] == twinSuffix {
		return mesh.Service(cluster[:n]), true
	}
	return mesh.Service(cluster), false
}

// Breaker names the cluster of service that ejects failing endpoints; it is there only
// while an overlay asks for that.
func Breaker(service mesh.Service) string { return string(service) + breakSuffix }

// outName names the listener and the route configuration of an upstream.
func outName(service mesh.Service) string { return outPrefix + string(service) }

// Runtime keys of one callee. DNS-1123 labels hold no dot, so keys cannot collide.
func overlayKey(s mesh.Service) string { return "sl." + s.Namespace() + "." + s.Name() + ".o" }
func holdKey(s mesh.Service) string    { return "sl." + s.Namespace() + "." + s.Name() + ".hold" }
func shedKey(s mesh.Service) string    { return "sl." + s.Namespace() + "." + s.Name() + ".shed" }
func refuseKey(s mesh.Service) string  { return "sl." + s.Namespace() + "." + s.Name() + ".refuse" }
func breakKey(s mesh.Service) string   { return "sl." + s.Namespace() + "." + s.Name() + ".break" }
func limitKey(s mesh.Service) string   { return "sl." + s.Namespace() + "." + s.Name() + ".limit" }

// limitKeyOf is the runtime key of a rate limit: of an edge at its caller, of a callee as
// a whole at its own proxies, which may call their own service too.
func limitKeyOf(key mesh.OverlayKey) string {
	if key.Caller == "" {
		return limitKey(key.Callee) + ".in"
	}
	return limitKey(key.Callee)
}

// thresholdKey is Envoy's runtime key of a circuit breaker threshold.
func thresholdKey(cluster, threshold string) string {
	return "circuit_breakers." + cluster + ".default." + threshold
}
