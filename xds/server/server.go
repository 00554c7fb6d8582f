package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/config"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/gate"
	"github.com/sluicemesh/sluice/xds/lease"
)

// maxSocketPath is the longest path of a Unix socket, in bytes (sun_path, Linux).
const maxSocketPath = 107

// defaultDrainTime is what mesh/envoy starts Envoys with.
const defaultDrainTime = 2 * time.Second

// Config is what a Server needs.
type Config struct {
	Socket     string      // path of the Unix socket, < 108 bytes
	World      *mesh.World // nil = none yet: proxies wait for SetWorld
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil = no metrics
	Now        func() time.Time      // nil = time.Now
	TTL        time.Duration         // of the overlay at the proxies, 0 = lease.DefaultTTL
	DrainTime  time.Duration         // the proxies' --drain-time-s, 0 = 2 s
	Remote     *Remote               // beside the socket; nil = nothing
	Limits     Limits
}

// Server is the control plane of the proxies of one world.
type Server struct {
	socket    string
	remote    string // address, "" = none
	door      *door
	limits    Limits
	log       *slog.Logger
	drainTime time.Duration
	now       func() time.Time
	grpc      *grpc.Server
	metrics   *metrics
	admin     *http.Client    // of the proxies' admin interfaces
	ctx       context.Context // of all streams and of what the server does by itself
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu       sync.Mutex
	changed  chan struct{} // closed when anything below changes; nil = nobody waits for that
	stepped  chan struct{} // the same, but of answers only those of proxies that are awaited
	turns    uint64        // counts changes other than an ACK
	started  time.Time
	world    *mesh.World
	nodes    map[string]*node
	scenes   scenes
	calling  calling
	streams  map[int64]*stream
	requests map[request]*stream // between callback and cache
	ledger   *gate.Ledger
	leases   *lease.Table
	overlays map[mesh.OverlayKey]*installed
	busy     map[mesh.OverlayKey]chan struct{}
	cuts     map[string]uint64
	tracing  *xds.Tracing // replaced, never changed; nil = no spans
	loads    map[string]*loadStream
	gates    map[*openGate]struct{}
	replicas replicas
	// corrupt, when set by a test, damages resources after they were checked.
	corrupt func(node string, r *xds.Resources)
}

// New returns a Server that does not listen yet.
func New(c Config) (*Server, error) {
	if len(c.Socket) > maxSocketPath {
		return nil, fmt.Errorf("socket path %q is %d bytes long, at most %d work: choose a shorter state directory",
			c.Socket, len(c.Socket), maxSocketPath)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Server{
		socket: c.Socket, log: c.Log, drainTime: cmp.Or(c.DrainTime, defaultDrainTime),
		now: c.Now, metrics: m, admin: adminClient(), limits: c.Limits.withDefaults(),
		started: c.Now(),
		nodes:   map[string]*node{}, streams: map[int64]*stream{},
		requests: map[request]*stream{},
		ledger:   gate.NewLedger(), leases: lease.NewTable(c.TTL),
		overlays: map[mesh.OverlayKey]*installed{}, busy: map[mesh.OverlayKey]chan struct{}{},
		cuts: map[string]uint64{}, loads: map[string]*loadStream{}, gates: map[*openGate]struct{}{},
		replicas: newReplicas(),
	}
	s.scenes.ttl = s.leases.TTL()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.grpc = grpc.NewServer(append(s.secure(&c), streamOptions()...)...)
	// Only of clusters and listeners does an empty request mean all.
	named := config.DeactivateLegacyWildcardForTypes(namedTypes())
	ads := &discovery{
		server: s,
		state:  sotw.NewServer(s.ctx, &configCache{s}, &stateCallbacks{s}, named),
	}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, ads)
	loadstatsv3.RegisterLoadReportingServiceServer(s.grpc, &loadService{server: s})
	s.SetWorld(c.World)
	return s, nil
}

// GRPC returns the gRPC server, so that further services (access logs) can be
// registered on it before Serve.
func (s *Server) GRPC() *grpc.Server { return s.grpc }

// Traffic returns the driver's port to the proxies.
func (s *Server) Traffic() *Traffic { return &Traffic{server: s} }

// Serve listens on the socket and serves until ctx ends, then waits for its streams. It
// may be called once. Overlays applied before it are in what a proxy gets first.
func (s *Server) Serve(ctx context.Context) error {
	defer s.admin.CloseIdleConnections()
	defer s.running.Wait()
	defer s.cancel()
	listeners, err := s.listenAll(ctx)
	if err != nil {
		return err
	}
	s.running.Go(func() { s.keep(s.ctx) })
	stop := context.AfterFunc(ctx, func() {
		s.cancel()
		s.grpc.Stop()
	})
	defer stop()
	var all errgroup.Group
	for _, listener := range listeners {
		all.Go(func() error {
			defer s.grpc.Stop() // one without the other would be half a control plane
			return s.grpc.Serve(listener)
		})
	}
	if err := all.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve xDS: %w", err)
	}
	return nil
}

// listen takes the Unix socket at path for itself, and away from a server that died.
func listen(ctx context.Context, path string) (net.Listener, error) {
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("socket %s is in use: is another sluiced running?", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("stale socket: %w", err)
		}
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen for proxies: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("socket of the proxies: %w", err), listener.Close())
	}
	return listener, nil
}

// SetWorld replaces the world; the proxies get what changed.
func (s *Server) SetWorld(world *mesh.World) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if world == nil {
		return
	}
	s.see(world)
	for id := range s.nodes {
		if xds.FindProxy(world, id) == nil {
			s.forget(id)
		}
	}
	if err := s.rebuild(); err != nil {
		s.log.Error("resources are faulty, proxies keep what they have", "error", err)
	}
	for _, o := range s.overlays {
		s.needLate(o)
	}
	s.schedule()
	s.bump()
}

// forget drops a proxy that is no longer in the world.
func (s *Server) forget(id string) {
	delete(s.nodes, id)
	delete(s.cuts, id)
	delete(s.replicas.gone, id)
	s.ledger.Drop(id)
	s.leases.Disarmed(id)
}
