package server

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/gate"
)

// node is one proxy of the world and what it is to have.
type node struct {
	id      string
	target  xds.Resources
	serving xds.Resources // what it is offered now: target, or on the way to it
	version [kinds]uint64 // by kind of type
	watches [kinds]*watch // the same
	book    *gate.Book    // of the ledger, nil = never connected
	offered bool          // it was offered something, be it nothing, of every type
	plain   bool          // the world lists it as a gRPC client: there is no proxy
	awaited bool          // who waits for many proxies waits for an answer of this one now
	live    *stream       // its newest stream, ended or not; nil = never connected
	envoy   string
	client  bool                  // it was seen to be a gRPC client
	calls   map[mesh.Service]bool // of a gRPC client: what it asked for
}

func newNode(id string) *node { return &node{id: id} }

// kinds is how many kinds of types there are: each that we serve, and all others.
const kinds = 6

// kindOf returns the kind of a type, 0 of one that we do not serve.
func kindOf(t xds.TypeURL) int {
	switch t {
	case xds.ClusterType:
		return 1
	case xds.EndpointType:
		return 2
	case xds.ListenerType:
		return 3
	case xds.RouteType:
		return 4
	case xds.RuntimeType:
		return 5
	}
	return 0
}

// class is what tells the resources of two proxies of one world apart. As a rule all
// proxies of a service are of one class, or many, if each listens on addresses of its own.
type class struct {
	service            mesh.Service
	kind               mesh.ProxyKind
	inbound, app, park netip.AddrPort
	outbound           *mesh.Outbound // the first; lists are compared by where they are
	outbounds          int
	cuts               uint64
	boosted            bool   // see Boost
	early              string // overlays that are armed for it before they are for others
}

// scenes is what was built last, by class, and all that is worth keeping for the next time.
type scenes struct {
	shared xds.Shared
	built  map[class]*xds.Resources
	steps  map[stepKey]*step
	key    stepKey       // the last that was asked for
	step   *step         // its
	layer  *xds.Resource // of which beat is the heartbeat; the pointer keeps it in place
	beat   mem.Buffer
	ttl    time.Duration // for which an overlay layer holds
}

// rebuild computes what each proxy is to have and offers what changed. If a reference
// leads nowhere it changes nothing and returns why. The caller holds mu.
func (s *Server) rebuild() error {
	if s.world == nil {
		return nil
	}
	s.scenes.shared.Trim(keptParts * (len(s.world.Services) + len(s.world.Proxies) + 1))
	built, targets := map[class]*xds.Resources{}, make([]*xds.Resources, len(s.world.Proxies))
	var last *xds.Resources
	var lastOf class
	var faults []error
	early := slices.DeleteFunc(s.keys(), func(key mesh.OverlayKey) bool { return len(s.overlays[key].early) == 0 })
	for i := range s.world.Proxies {
		p := &s.world.Proxies[i]
		c := s.classOf(p, early)
		if last == nil || c != lastOf {
			var err error
			if last, err = s.builtOf(built, c, p.Node); err != nil {
				faults = append(faults, fmt.Errorf("resources of %s: %w", p.Node, err))
			}
			lastOf = c
		}
		if targets[i] = last; s.corrupt != nil {
			damaged := *last
			s.corrupt(p.Node, &damaged)
			targets[i] = &damaged
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	s.scenes.built, s.scenes.steps, s.scenes.key, s.scenes.step = built, nil, stepKey{}, nil
	for i := range targets { // sorted by node
		if n := s.nodes[s.world.Proxies[i].Node]; n != nil {
			n.target = *targets[i]
			s.advance(n)
		}
	}
	return nil
}

// builtOf returns what is built for a class, of which node is one.
func (s *Server) builtOf(built map[class]*xds.Resources, c class, node string) (*xds.Resources, error) {
	if resources, done := built[c]; done {
		return resources, nil
	}
	resources, err := s.build(c, node)
	built[c] = &resources
	return &resources, err
}

// keptParts bounds what is kept: some resources for each service and proxy.
const keptParts = 64

func (s *Server) classOf(p *mesh.Proxy, early []mesh.OverlayKey) class {
	c := class{service: p.Service, kind: p.Kind, inbound: p.Inbound, app: p.App, park: p.Park, outbounds: len(p.Outbound), cuts: s.cuts[p.Node], boosted: s.tracing != nil && s.tracing.Boosted[p.Service]}
	if len(p.Outbound) > 0 {
		c.outbound = &p.Outbound[0]
	}
	for _, key := range early {
		if s.overlays[key].early[p.Node] {
			c.early += string(key.Kind) + " " + string(key.Callee) + " " + string(key.Caller) + "\n"
		}
	}
	return c
}

// build builds the resources of a class, of which node is one, and checks what is new.
func (s *Server) build(c class, node string) (xds.Resources, error) {
	scene := s.scene(node)
	scene.Shared = &s.scenes.shared
	resources, errs := scene.Build(node)
	for _, err := range errs {
		s.log.Warn("overlay is left out", "node", node, "error", err)
	}
	if former, known := s.scenes.built[c]; known && len(resources.Reuse(former)) == 0 {
		return *former, nil
	}
	return resources, resources.Check()
}

// scene is what a proxy's resources are made of.
func (s *Server) scene(id string) xds.Scene {
	scene := xds.Scene{World: s.world, Cuts: s.cuts, Tracing: s.tracing}
	for _, key := range s.keys() {
		staged := s.overlays[key].Staged
		staged.Armed = staged.Armed || s.overlays[key].early[id]
		scene.Overlays = append(scene.Overlays, staged)
	}
	return scene
}

// advance brings what a proxy is offered nearer to its target: first what is new, with
// what is still in use, then the listeners and routes that use the new, then the old
// goes. It is called again whenever the proxy has answered. The caller holds mu.
func (s *Server) advance(n *node) {
	if n.there() {
		return
	}
	// A gRPC client keeps what it has until it knows all of what is to take its place.
	if n.book.Connected().IsZero() || n.plain {
		for _, t := range xds.Types() {
			s.offer(n, t, n.target.Of(t))
		}
		n.offered = true
		return
	}
	s.offer(n, xds.RuntimeType, n.target.Of(xds.RuntimeType))
	s.offer(n, xds.ClusterType, s.union(n, xds.ClusterType))
	s.offer(n, xds.EndpointType, s.union(n, xds.EndpointType))
	if !s.took(n, xds.ClusterType) {
		return
	}
	s.offer(n, xds.ListenerType, n.target.Of(xds.ListenerType))
	s.offer(n, xds.RouteType, n.target.Of(xds.RouteType))
	if !s.took(n, xds.ListenerType) || !s.took(n, xds.RouteType) {
		return
	}
	s.offer(n, xds.ClusterType, n.target.Of(xds.ClusterType))
	s.offer(n, xds.EndpointType, n.target.Of(xds.EndpointType))
}

// union returns what a proxy is to have of a type, and of what it is offered what it is
// not to have any more.
func (s *Server) union(n *node, t xds.TypeURL) []xds.Resource {
	if target := n.target.Of(t); s.scenes.stepOf(t, n.serving.Of(t), target) != nil {
		return target
	}
	return xds.Union(&n.target, &n.serving, t)
}

// there reports whether the proxy is offered its target and nothing else.
func (n *node) there() bool {
	a, b := &n.serving, &n.target
	return n.offered && oneList(a.Clusters, b.Clusters) && oneList(a.Endpoints, b.Endpoints) &&
		oneList(a.Listeners, b.Listeners) && oneList(a.Routes, b.Routes) && oneList(a.Runtime, b.Runtime)
}

// oneList reports whether a and b are the same piece of memory.
func oneList(a, b []xds.Resource) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// took reports whether the proxy has the newest version of a type. It never asks for a
// type of which nothing names a resource.
func (s *Server) took(n *node, t xds.TypeURL) bool {
	return len(n.serving.Of(t)) == 0 || n.book.State(string(t), n.version[kindOf(t)]) == gate.Acked
}

// offer makes resources what the proxy is to have of a type, and sends the difference
// if it waits for any.
func (s *Server) offer(n *node, t xds.TypeURL, resources []xds.Resource) {
	kind := kindOf(t)
	if n.version[kind] > 0 && s.scenes.same(t, n.serving.Of(t), resources) {
		return
	}
	n.serving = n.serving.With(t, resources)
	n.version[kind]++
	s.turns++
	if w := n.watches[kind]; w != nil {
		s.respond(n, w)
	}
}
