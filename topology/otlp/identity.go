package otlp

import (
	"context"
	"crypto/x509"
	"net/http"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/sluicemesh/sluice/mesh"
)

// MaxExporters bounds the exporters that have counters of their own; the rest share one.
const MaxExporters = 1024

// Labels of exporters that are none of theirs.
const (
	unidentified   = "unidentified"
	otherExporters = "other"
)

// BySPIFFE returns a Config.Identify for connections over mTLS whose certificates name
// services as spiffe://DOMAIN/ns/NAMESPACE/svc/NAME, or, as Istio does, .../sa/NAME. The
// certificate must have been verified by the listener.
func BySPIFFE(domain string) func(context.Context) (mesh.Service, bool) {
	return func(ctx context.Context) (mesh.Service, bool) {
		p, known := peer.FromContext(ctx)
		if !known {
			return "", false
		}
		info, secure := p.AuthInfo.(credentials.TLSInfo)
		if !secure || len(info.State.VerifiedChains) == 0 {
			return "", false
		}
		return named(info.State.VerifiedChains[0][0], domain)
	}
}

// named returns the service that a certificate names, which has one URI.
func named(leaf *x509.Certificate, domain string) (mesh.Service, bool) {
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" || leaf.URIs[0].Host != domain {
		return "", false
	}
	return ServiceAt(leaf.URIs[0].Path)
}

// ServiceAt returns the service that the path of a SPIFFE ID names.
func ServiceAt(path string) (mesh.Service, bool) {
	part := strings.Split(path, "/")
	if len(part) != 5 || part[0] != "" || part[1] != "ns" || part[3] != "svc" && part[3] != "sa" {
		return "", false
	}
	service, err := mesh.ParseService(part[2] + "/" + part[4])
	return service, err == nil
}

// withPeer is the context of r with the peer that gRPC would have put there.
func withPeer(r *http.Request) context.Context {
	if r.TLS == nil {
		return r.Context()
	}
	return peer.NewContext(r.Context(), &peer.Peer{AuthInfo: credentials.TLSInfo{State: *r.TLS}})
}

// exporterOf says who exports, and for whom it may speak: "" = for any service.
func (s *Server) exporterOf(ctx context.Context) (label string, only mesh.Service) {
	if s.config.Identify == nil {
		return unidentified, ""
	}
	service, known := s.config.Identify(ctx)
	switch {
	case !known:
		return unidentified, ""
	case s.config.Collector != nil && s.config.Collector(service):
		return string(service), ""
	}
	return string(service), service
}

// blame counts what an exporter sent and was refused; s.mu is held.
func (s *Server) blame(exporter string, c *Counts) {
	if !s.exporters[exporter] && exporter != unidentified {
		if len(s.exporters) >= MaxExporters {
			exporter = otherExporters
		} else {
			s.exporters[exporter] = true
		}
	}
	for _, refused := range []struct {
		reason string
		spans  int64
	}{
		{"identity-mismatch", c.Mismatch}, {"bad-name", c.BadName},
		{"unknown-service", c.Unknown}, {"out-of-bounds", c.OutOfBounds},
	} {
		if refused.spans > 0 {
			s.quarantined.WithLabelValues(exporter, refused.reason).Add(float64(refused.spans))
		}
	}
}
