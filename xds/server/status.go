package server

import (
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// ProxyStatus is what is known of one proxy.
type ProxyStatus struct {
	Node      string
	Service   mesh.Service
	Connected time.Time // since when; zero = not connected
	Envoy     string    // version, of a gRPC client that of gRPC; "" before it first connected
	Client    bool      // a gRPC client without a proxy
	Variant   string    // of the protocol: "delta", "state"; "" before it first connected
	Types     []TypeStatus
	Overlays  []mesh.OverlayKey // in force at it
}

// TypeStatus is how far one resource type got at one proxy.
type TypeStatus struct {
	Type      string // "CDS", "EDS", "LDS", "RDS", "RTDS"
	Resources int
	Sent      uint64 // version last sent, 0 = none
	Acked     uint64 // version last ACKed, 0 = none
	AckedAt   time.Time
	Nack      string // Envoy's text, "" unless the last answer was a NACK
	NackedAt  time.Time
}

// Proxies returns the state of every proxy of the world, sorted by node.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.world == nil {
		return nil
	}
	out := make([]ProxyStatus, 0, len(s.world.Proxies))
	for i := range s.world.Proxies {
		out = append(out, s.status(&s.world.Proxies[i]))
	}
	return out
}

func (s *Server) status(p *mesh.Proxy) ProxyStatus {
	n := s.nodes[p.Node]
	status := ProxyStatus{
		Node: p.Node, Service: p.Service, Connected: s.ledger.Connected(p.Node), Envoy: n.envoy,
		Client: p.Kind == mesh.Proxyless, Variant: n.live.variant(),
	}
	for _, t := range xds.Types() {
		e := s.ledger.Entry(p.Node, string(t))
		row := TypeStatus{
			Type: t.Short(), Resources: len(n.serving.Of(t)),
			Sent:  max(e.Sent, e.Acked), // what a former control plane sent and it still has counts
			Acked: e.Acked, AckedAt: e.AckedAt,
		}
		if e.Nacked > 0 {
			row.Nack, row.NackedAt = e.Text, e.NackedAt
		}
		status.Types = append(status.Types, row)
	}
	for _, key := range s.keys() {
		if o := s.overlays[key]; o.Armed && xds.Concerns(key, p) {
			status.Overlays = append(status.Overlays, key)
		}
	}
	return status
}

// variant names the variant of the protocol that a stream speaks.
func (str *stream) variant() string {
	switch {
	case str == nil:
		return ""
	case str.id < 0:
		return "state"
	}
	return "delta"
}
