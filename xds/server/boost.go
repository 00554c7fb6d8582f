package server

import (
	"maps"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// Trace makes the proxies send spans; see xds.Tracing. It is called before Serve.
func (s *Server) Trace(t xds.Tracing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tracing = &t
	s.again()
}

// Boost has the proxies of services begin a trace for every request, and all others for
// the share that Trace set; without Trace it does nothing. It replaces the last Boost.
// Proxies that lose the control plane fall back when the overlay layer lapses.
func (s *Server) Boost(services []mesh.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	boosted := make(map[mesh.Service]bool, len(services))
	for _, service := range services {
		boosted[service] = true
	}
	if s.tracing == nil || maps.Equal(boosted, s.tracing.Boosted) {
		return
	}
	next := *s.tracing
	next.Boosted = boosted
	s.tracing = &next
	s.again()
}

// again offers the proxies what has changed of their resources. The caller holds mu.
func (s *Server) again() {
	if err := s.rebuild(); err != nil {
		s.log.Error("resources are faulty, proxies keep what they have", "error", err)
	}
	s.schedule()
	s.bump()
}
