package server

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/gate"
)

// node is one proxy of the world and what it is to have.
type node struct {
	id      string
	target  xds.Resources
	serving xds.Resources // what it is offered now: target, or on the way to it
	version map[xds.TypeURL]uint64
	watches map[xds.TypeURL]*watch
	live    *stream // its newest stream, ended or not; nil = never connected
	envoy   string
}

func newNode(id string) *node {
	return &node{id: id, version: map[xds.TypeURL]uint64{}, watches: map[xds.TypeURL]*watch{}}
}

// rebuild computes what each proxy is to have and offers what changed. If a reference
// leads nowhere it changes nothing and returns why. The caller holds mu.
func (s *Server) rebuild() error {
	built := map[string]xds.Resources{}
	var faults []error
	for id := range s.nodes {
		resources, errs := s.scene(id).Build(id)
		for _, err := range errs {
			s.log.Warn("overlay is left out", "node", id, "error", err)
		}
		if err := resources.Check(); err != nil {
			faults = append(faults, fmt.Errorf("resources of %s: %w", id, err))
		}
		if s.corrupt != nil {
			s.corrupt(id, &resources)
		}
		built[id] = resources
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(built)) {
		n := s.nodes[id]
		n.target = built[id]
		s.advance(n)
	}
	return nil
}

// scene is what a proxy's resources are made of.
func (s *Server) scene(id string) xds.Scene {
	scene := xds.Scene{World: s.world, Cuts: s.cuts}
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
	if s.ledger.Connected(n.id).IsZero() {
		for _, t := range xds.Types() {
			s.offer(n, t, n.target.Of(t))
		}
		return
	}
	s.offer(n, xds.RuntimeType, n.target.Of(xds.RuntimeType))
	s.offer(n, xds.ClusterType, xds.Union(&n.target, &n.serving, xds.ClusterType))
	s.offer(n, xds.EndpointType, xds.Union(&n.target, &n.serving, xds.EndpointType))
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

// took reports whether the proxy has the newest version of a type. It never asks for a
// type of which nothing names a resource.
func (s *Server) took(n *node, t xds.TypeURL) bool {
	return len(n.serving.Of(t)) == 0 || s.ledger.State(n.id, string(t), n.version[t]) == gate.Acked
}

// offer makes resources what the proxy is to have of a type, and sends the difference
// if it waits for any.
func (s *Server) offer(n *node, t xds.TypeURL, resources []xds.Resource) {
	next := n.serving.With(t, resources)
	if n.version[t] > 0 && xds.Same(&n.serving, &next, t) {
		return
	}
	n.serving = next
	n.version[t]++
	if w := n.watches[t]; w != nil {
		s.respond(n, w)
	}
}
