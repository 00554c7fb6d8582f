package server

import (
	"fmt"
	"maps"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/xds"
)

// ProxyChange is what one proxy would be sent.
type ProxyChange struct {
	Step isa.StepID // of the program; "" = in force
	Node string
	xds.Change
}

// Config returns what a proxy is offered now; nothing for one that the world does not list.
func (s *Server) Config(node string) xds.Resources {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.nodes[node]; n != nil {
		return n.serving
	}
	return xds.Resources{}
}

// Overlaid lists what the overlays in force change of a proxy's resources.
func (s *Server) Overlaid(node string) []ProxyChange {
	s.mu.Lock()
	n, world := s.nodes[node], s.world
	var serving xds.Resources
	if n != nil {
		serving = n.serving
	}
	s.mu.Unlock()
	if n == nil {
		return nil
	}
	base := xds.Base(world, node)
	return proxyChanges("", node, &base, &serving)
}

// Preview lists what the steps of an expanded program would change at the proxies, each
// step for itself against what they are to have now. Beyond most changes it only counts
// what is left off, a proxy as one. The error is that of the first overlay that cannot be
// carried out.
func (s *Server) Preview(p *isa.Program, most int) (changes []ProxyChange, leftOff int, err error) {
	s.mu.Lock()
	world := s.world
	scene := s.scene("")
	scene.Cuts = maps.Clone(s.cuts)
	s.mu.Unlock()
	if world == nil {
		return nil, 0, ErrNoWorld
	}
	for _, planned := range xds.Preview(world, p) {
		if err := xds.Validate(world, planned.Overlay); err != nil {
			return nil, 0, fmt.Errorf("step %s: %w", planned.Step, err)
		}
		for i := range world.Proxies {
			proxy := &world.Proxies[i]
			switch {
			case !xds.Concerns(planned.Overlay.Key, proxy):
			case len(changes) >= most:
				leftOff++
			default:
				changes = append(changes, pushes(scene, proxy.Node, planned)...)
			}
		}
	}
	if len(changes) > most {
		changes, leftOff = changes[:most], leftOff+len(changes)-most
	}
	return changes, leftOff, nil
}

// pushes lists what a planned overlay would change at one proxy.
func pushes(scene xds.Scene, node string, planned xds.Planned) []ProxyChange {
	now, _ := scene.Build(node)
	o := xds.Staged{Overlay: planned.Overlay, Armed: true}
	o.Generation = 1
	var others []xds.Staged
	for _, staged := range scene.Overlays {
		if staged.Key == o.Key {
			o.Generation = staged.Generation + 1
			continue
		}
		others = append(others, staged)
	}
	scene.Overlays = append(others, o)
	then, _ := scene.Build(node)
	return proxyChanges(planned.Step, node, &now, &then)
}

func proxyChanges(step isa.StepID, node string, a, b *xds.Resources) []ProxyChange {
	var out []ProxyChange
	for _, change := range xds.Diff(a, b) {
		out = append(out, ProxyChange{Step: step, Node: node, Change: change})
	}
	return out
}
