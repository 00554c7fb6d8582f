package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/sluicemesh/sluice/mesh"
)

// Config is what a Server needs.
type Config struct {
	Socket     string // path of the Unix socket, < 108 bytes
	World      *mesh.World
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil = no metrics
	Now        func() time.Time      // nil = time.Now
	TTL        time.Duration         // of the overlay at the proxies, 0 = 5 s
}

// Server is the control plane of the proxies of one world.
type Server struct {
	grpc    *grpc.Server
	traffic *Traffic
}

// New returns a Server that does not listen yet.
func New(c Config) (*Server, error) {
	s := &Server{grpc: grpc.NewServer()}
	s.traffic = &Traffic{}
	return s, nil
}

// GRPC returns the gRPC server, so that further services (access logs) can be
// registered on it before Serve.
func (s *Server) GRPC() *grpc.Server { return s.grpc }

// Traffic returns the driver's port to the proxies.
func (s *Server) Traffic() *Traffic { return s.traffic }

// SetWorld replaces the world; the proxies get what changed.
func (s *Server) SetWorld(w *mesh.World) {}

// Serve listens on the socket and serves until ctx ends, then waits for its streams.
func (s *Server) Serve(ctx context.Context) error { return errNotYet }

// Proxies returns the state of every proxy of the world, sorted by node.
func (s *Server) Proxies() []ProxyStatus { return nil }

// Traffic applies overlays to the proxies and proves them.
type Traffic struct{}

var errNotYet = errors.New("not yet")

// Apply pushes an overlay: endpoints first, then the key that turns traffic over.
func (t *Traffic) Apply(ctx context.Context, o mesh.Overlay) (mesh.Acks, error) {
	return mesh.Acks{}, errNotYet
}

// Prove reports what is observed about the overlay's target until ctx ends.
func (t *Traffic) Prove(ctx context.Context, key mesh.OverlayKey, generation uint64, report func(mesh.Proof)) error {
	return errNotYet
}

// Extend grants the overlay another lease from now.
func (t *Traffic) Extend(ctx context.Context, key mesh.OverlayKey, generation uint64, lease time.Duration) error {
	return errNotYet
}

// Withdraw removes the overlay, giving traffic back over ramp.
func (t *Traffic) Withdraw(ctx context.Context, key mesh.OverlayKey, ramp time.Duration) error {
	return errNotYet
}

// Installed returns the overlays in force, sorted by key.
func (t *Traffic) Installed() []mesh.Overlay { return nil }
