package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"golang.org/x/net/websocket"

	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
)

// handlerSettings is what a handler service is started with.
type handlerSettings struct {
	topology *shape.Topology
	service  *shape.Service
	instance string
	faults   *faults
	dir      fault.Dir
	env      func(string) string
	address  string // to listen at
}

// runHandler starts a handler service and serves until ctx ends.
func runHandler(ctx context.Context, log *slog.Logger, s handlerSettings) error {
	traces, err := newTraces(ctx, s)
	if err != nil {
		return err
	}
	defer traces.stop(log)
	n, err := newNode(s)
	if err != nil {
		return err
	}
	defer n.close()
	n.tracer = traces.tracer
	tending, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, p := range n.pools {
		go p.tend(tending)
	}
	if err := n.begin(ctx); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	log.Info("ready", "service", s.service.Name, "instance", s.instance)
	return n.run(ctx, listener)
}

// newNode connects a service to its upstreams by the environment, and heeds the
// marker of a fault that outlives restarts.
func newNode(s handlerSettings) (*node, error) {
	n := &node{service: s.service, instance: s.instance, faults: s.faults, values: map[string]string{},
		peers: map[string]*peer{}, pools: map[string]*pool{}, stopping: make(chan struct{})}
	for _, upstream := range s.service.Upstreams() {
		variable := shape.EnvName(upstream.Name)
		address := s.env(variable)
		if address == "" {
			return nil, fmt.Errorf("upstream %s: %w: set %s", upstream.Name, errNoAddress, variable)
		}
		if callee, _ := s.topology.Find(upstream.Name); callee.Kind == shape.Store {
			n.pools[upstream.Name] = newPool(address, s.topology.Pool.Idle, s.topology.Pool.Lifetime)
			continue
		}
		peer, err := newPeer(upstream.Name, address)
		if err != nil {
			return nil, err
		}
		n.peers[upstream.Name] = peer
	}
	marker, err := s.dir.Marked()
	if err != nil {
		return nil, err
	}
	if marker != nil && marker.Service == s.service.Name {
		return n, s.faults.obey(fault.Order{ID: marker.ID, Do: fault.DoStrict})
	}
	return n, nil
}

func (n *node) close() {
	for _, p := range n.peers {
		p.close()
	}
	for _, p := range n.pools {
		p.close()
	}
}

// run serves HTTP/1.1, HTTP/2 without TLS and gRPC on one listener until ctx ends,
// then finishes what is under way.
func (n *node) run(ctx context.Context, listener net.Listener) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	rpc := newRPC(n)
	server := &http.Server{Handler: n.routes(rpc), Protocols: protocols, ReadHeaderTimeout: 10 * time.Second,
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 1000}}
	unused := newConns()
	server.ConnState = unused.note
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	close(n.stopping)
	defer time.AfterFunc(100*time.Millisecond, unused.close).Stop()
	bounded, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		server.Close()
		return fmt.Errorf("finish requests: %w", err)
	}
	return nil
}

// routes tells gRPC, websockets, streams and plain operations apart.
func (n *node) routes(rpc http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(headerApp, n.service.Name)
	})
	mux.Handle("GET /ws", websocket.Server{Handler: n.echo})
	mux.HandleFunc("GET /stream", n.stream)
	mux.HandleFunc("/", n.operation)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			rpc.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// operation answers POST /OPERATION.
func (n *node) operation(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 64<<10))
	o := n.serve(r.Context(), request{operation: strings.TrimPrefix(r.URL.Path, "/"),
		key: r.Header.Get(headerKey), carrier: propagation.HeaderCarrier(r.Header)})
	o.write(n.service.Name, w.Header().Set)
	w.WriteHeader(o.status)
	fmt.Fprintln(w, n.service.Name, n.instance)
}
