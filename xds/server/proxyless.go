package server

import (
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// clientInterval is how often a gRPC client reports its loads: it heeds only the first
// interval that it is told, so that it cannot be asked for more while a gate is open.
const clientInterval = 500 * time.Millisecond

// isClient reports whether node is a gRPC client that speaks xDS by itself ("gRPC Go",
// "gRPC C-core", ...), and no Envoy.
func isClient(who *corev3.Node) bool { return strings.HasPrefix(who.GetUserAgentName(), "gRPC") }

// learn notes that a node is a gRPC client, if it says so and the world does not: the
// registry may only know that something speaks xDS there. The caller holds mu.
func (s *Server) learn(n *node, who *corev3.Node) {
	if n.client = n.client || isClient(who); !n.client || n.plain {
		return
	}
	s.log.Info("proxy is a gRPC client", "node", n.id, "agent", who.GetUserAgentName())
	s.see(s.world)
	if err := s.rebuild(); err != nil {
		s.log.Error("resources are faulty, proxies keep what they have", "error", err)
	}
}

// see makes world, with the kinds of nodes as they were seen, the world. Nodes are those
// that it lists. The caller holds mu.
func (s *Server) see(world *mesh.World) {
	out := *world
	out.Proxies = slices.Clone(world.Proxies)
	for i := range out.Proxies {
		p := &out.Proxies[i]
		n := s.nodes[p.Node]
		if n == nil {
			n = newNode(p.Node)
			s.nodes[p.Node] = n
		}
		if n.client {
			p.Kind = mesh.Proxyless
		}
		n.plain = p.Kind == mesh.Proxyless
	}
	s.world = &out
}

// calls notes which services a gRPC client calls: those whose listeners it asks for, which
// it does first on each stream. The caller holds mu.
func (s *Server) calls(n *node, w *watch) {
	if w.typ != xds.ListenerType || !n.plain {
		return
	}
	n.calls, s.calling.of = map[mesh.Service]bool{}, nil
	for name := range w.sub.SubscribedResources() {
		n.calls[mesh.Service(name)] = true
	}
	for _, o := range s.overlays {
		s.needLate(o)
	}
	s.bump()
}

// called reports whether a proxy is required for an overlay on callee: a gRPC client only
// once it has asked for the callee, and from then on until it asks without.
func (s *Server) called(p *mesh.Proxy, callee mesh.Service) bool {
	n := s.nodes[p.Node]
	return p.Kind != mesh.Proxyless || n != nil && n.calls[callee]
}

// Capability returns what overlays can do to a service as its callers are now.
func (s *Server) Capability(state *mesh.ServiceState) mesh.Capability {
	s.mu.Lock()
	world := s.world
	s.mu.Unlock()
	return xds.CapabilityIn(world, state)
}
