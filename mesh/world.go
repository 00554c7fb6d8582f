package mesh

import (
	"net/netip"
	"time"
)

// UID identifies a pod or process for its whole life. A local process restarted
// in place keeps its UID and gets the next incarnation.
type UID string

// Ref names one incarnation of one instance: the unit of every restart.
type Ref struct {
	Service     Service
	UID         UID
	Incarnation uint64
}

// InstanceState is what the registry last knew of an instance.
type InstanceState string

// Instance states.
const (
	Starting InstanceState = "starting" // process up, never yet ready in this incarnation
	Ready    InstanceState = "ready"
	Unready  InstanceState = "unready" // was ready, fails its readiness check
	Stopped  InstanceState = "stopped" // no process
)

// Instance is one pod or process of a service.
type Instance struct {
	Ref
	Name    string // "cart-0"; unique in its service
	Zone    string
	Version string
	State   InstanceState
	App     netip.AddrPort // where the application itself listens
	Inbound netip.AddrPort // where callers reach it: its sidecar, or App if it has none
	Proxy   string         // xDS node id of its sidecar, "" if none
}

// ServiceState is a service with its declaration and its present instances.
type ServiceState struct {
	Name         Service
	Protocol     Protocol
	Replicas     int           // wanted instances
	MinAvailable int           // capacity floor besides the policy's
	Upstreams    []Upstream    // declared, sorted by Service
	Objective    Objective     // zero: observe only
	Startup      time.Duration // declared P99 of a restart, 0 = unknown
	Quorum       int           // least ready members of a quorum service, 0 = none
	Protected    bool          // never a target
	Instances    []Instance    // sorted by Name
}

// ReadyCount counts the instances that are Ready.
func (s *ServiceState) ReadyCount() int {
	n := 0
	for i := range s.Instances {
		if s.Instances[i].State == Ready {
			n++
		}
	}
	return n
}

// World is what the registry knows at one moment: an immutable snapshot, sorted by
// service name. Holders must not change it.
type World struct {
	Version  uint64 // grows with every change
	Services []ServiceState
	Gateways []Gateway // sorted by Name
	Proxies  []Proxy   // sorted by Node
}

// Gateway is an ingress: load from outside enters the mesh through its proxy.
type Gateway struct {
	Name    Service // "outside/<gateway>"
	Service Service // where it sends
	Proxy   string  // xDS node id
}

// ProxyKind says what speaks xDS at a node.
type ProxyKind string

// Kinds of proxies.
const (
	ProxyEnvoy ProxyKind = ""     // an Envoy
	Proxyless  ProxyKind = "grpc" // a gRPC client inside the application, without a proxy
)

// Proxy is one Envoy: the sidecar of an instance, or a gateway. A gRPC client that speaks
// xDS by itself is one too: it has no addresses, and calls Outbound by name.
type Proxy struct {
	Node     string  // xDS node id
	Service  Service // that it stands beside; a gateway's own name
	Instance UID     // "" for a gateway
	Admin    netip.AddrPort
	Inbound  netip.AddrPort // where callers reach the instance; invalid for a gateway
	App      netip.AddrPort // where the application listens; invalid for a gateway
	Park     netip.AddrPort // its parking listener, for held requests
	Outbound []Outbound     // sorted by Service
	Kind     ProxyKind
}

// Outbound is an address at which a proxy serves an upstream to its application.
type Outbound struct {
	Service Service
	Listen  netip.AddrPort
	Timeout time.Duration // of one request, 0 = unbounded (streams)
}

// Find returns the service called name, nil if there is none. O(log n).
func (w *World) Find(name Service) *ServiceState {
	lo, hi := 0, len(w.Services)
	for lo < hi {
		mid := (lo + hi) / 2
		if w.Services[mid].Name < name {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(w.Services) && w.Services[lo].Name == name {
		return &w.Services[lo]
	}
	return nil
}

// Instance returns the instance with uid and its service, nil if there is none.
// O(services + instances).
func (w *World) Instance(uid UID) (*ServiceState, *Instance) {
	for i := range w.Services {
		s := &w.Services[i]
		for j := range s.Instances {
			if s.Instances[j].UID == uid {
				return s, &s.Instances[j]
			}
		}
	}
	return nil, nil
}
