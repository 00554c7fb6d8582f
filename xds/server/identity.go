package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// Remote is the listener for proxies that do not reach the Unix socket.
type Remote struct {
	Address string      // host:port
	TLS     *tls.Config // must demand and verify a client certificate
	// Allow returns nil if the holder of the connection's certificate may speak as the
	// proxy: the node id of a request must match it.
	Allow func(tls.ConnectionState, *mesh.Proxy) error
}

// guard stands before every service of the server (ADS, load reports, access logs): it
// holds streams to the identity of their connection, and to the limits.
type guard struct {
	server *Server
	limits Limits
	allow  func(tls.ConnectionState, *mesh.Proxy) error
	refuse *prometheus.CounterVec

	mu      sync.Mutex
	streams map[string]int // by node
}

// secure makes the guard and returns what the gRPC server is to be made with.
func (s *Server) secure(c *Config) []grpc.ServerOption {
	limits := s.limits
	g := &guard{server: s, limits: limits, refuse: s.metrics.refused, streams: map[string]int{}}
	d := &door{limits: limits, refused: g.refused, now: s.now,
		in: s.metrics.bytes.WithLabelValues("in"), out: s.metrics.bytes.WithLabelValues("out")}
	s.door = d
	if c.Remote != nil {
		s.remote = c.Remote.Address
		g.allow = c.Remote.Allow
		d.tls = credentials.NewTLS(c.Remote.TLS)
	}
	return []grpc.ServerOption{
		grpc.Creds(d), grpc.InTapHandle(d.tap), grpc.StreamInterceptor(g.stream),
		grpc.MaxConcurrentStreams(limits.StreamsPerConnection),
		grpc.MaxRecvMsgSize(limits.MessageBytes), grpc.MaxHeaderListSize(limits.HeaderBytes),
		grpc.ConnectionTimeout(limits.Handshake),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: limits.Ping, Timeout: limits.Ping / 2}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: limits.Ping / 4, PermitWithoutStream: true}),
	}
}

func (g *guard) refused(reason string) { g.refuse.WithLabelValues(reason).Inc() }

// stream is the interceptor.
func (g *guard) stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	st := &guarded{ServerStream: ss, guard: g, session: sessionOf(ss.Context())}
	if st.session == nil {
		return status.Error(codes.Unauthenticated, "the connection came through no door")
	}
	st.first = time.AfterFunc(g.limits.FirstMessage, func() { st.session.cut(refusedSilent) })
	defer st.end()
	err := handler(srv, st)
	if refusal := st.refusal.Load(); refusal != nil {
		return *refusal // the protocol servers take an end of requests for the proxy's own wish
	}
	return err
}

// guarded is a stream of which every message is looked at. Its methods are called by the
// stream's handler: RecvMsg by one goroutine, SendMsg by one.
type guarded struct {
	grpc.ServerStream
	guard   *guard
	session *session
	first   *time.Timer // cuts the connection if no request comes; stopped by the first
	node    string      // that the stream speaks for, "" = not yet known; of RecvMsg's goroutine
	types   []string    // of resources that it has asked for; at most maxTypes
	refusal atomic.Pointer[error]

	mu      sync.Mutex
	counted bool // the stream is counted as node's
	ended   bool
}

// maxTypes bounds the types of resources of one stream: for each, state is kept.
const maxTypes = 32

// end gives back what the stream counted. A request may still be looked at: the protocol
// servers read in a goroutine of their own, which outlives the handler.
func (st *guarded) end() {
	st.first.Stop()
	st.mu.Lock()
	defer st.mu.Unlock()
	st.ended = true
	if st.counted {
		st.guard.leave(st.node)
	}
}

// RecvMsg implements grpc.ServerStream.
func (st *guarded) RecvMsg(m any) error {
	if err := st.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	st.first.Stop()
	if err := st.look(m); err != nil {
		st.refusal.Store(&err)
		return err
	}
	return nil
}

// look returns nil if a request is within limits and its stream's node.
func (st *guarded) look(m any) error {
	if n := named(m); n > st.guard.limits.Subscriptions {
		st.guard.refused(refusedSubscriptions)
		return status.Errorf(codes.ResourceExhausted, "a request names %d resources, at most %d are served",
			n, st.guard.limits.Subscriptions)
	}
	if err := st.typed(m); err != nil {
		return err
	}
	node := nodeOf(m)
	switch {
	case st.node != "" && (node == nil || node.GetId() == st.node):
		return nil
	case node == nil && st.session.local:
		return nil // its service says what is missing
	case node == nil:
		st.guard.refused(refusedNode)
		return status.Error(codes.PermissionDenied, "the first request of a stream must name its node")
	case st.node != "":
		st.guard.refused(refusedNode)
		return status.Errorf(codes.PermissionDenied, "the stream speaks for node %q, not for %q", st.node, node.GetId())
	}
	return st.speakFor(node.GetId())
}

// typed bounds the types that the stream asks for.
func (st *guarded) typed(m any) error {
	req, is := m.(interface{ GetTypeUrl() string })
	if !is || slices.Contains(st.types, req.GetTypeUrl()) {
		return nil
	}
	if len(st.types) == maxTypes {
		st.guard.refused(refusedSubscriptions)
		return status.Errorf(codes.ResourceExhausted, "a stream asks for more than %d types", maxTypes)
	}
	st.types = append(st.types, req.GetTypeUrl())
	return nil
}

// speakFor lets the stream speak for a node, for good.
func (st *guarded) speakFor(node string) error {
	if err := st.guard.identify(st.Context(), st.session, node); err != nil {
		return err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return status.Error(codes.Canceled, "the stream has ended")
	}
	if err := st.guard.enter(node); err != nil {
		return err
	}
	st.node, st.counted = node, true
	return nil
}

// SendMsg implements grpc.ServerStream. A response that is not taken blocks only its own
// stream, and that not for long: then the connection is cut, so that nothing is kept for it.
func (st *guarded) SendMsg(m any) error {
	if f, is := m.(*frame); is && f.atOnce {
		return st.ServerStream.SendMsg(m)
	}
	late := time.AfterFunc(st.guard.limits.Send, func() { st.session.cut(refusedSlow) })
	defer late.Stop()
	return st.ServerStream.SendMsg(m)
}

// identify returns nil if the connection's other end may speak as the node. Over the Unix
// socket it is our own user, who may; whether the node exists its service decides.
func (g *guard) identify(ctx context.Context, session *session, node string) error {
	if session.local {
		return nil
	}
	proxy := g.server.awaitProxy(ctx, node)
	if proxy == nil {
		g.refused(refusedNode)
		return status.Errorf(codes.PermissionDenied, "node id %q is not in the world", node)
	}
	if err := g.allow(session.state, proxy); err != nil {
		g.refused(refusedIdentity)
		g.server.log.Warn("proxy refused: its certificate is another's", "node", node, "error", err)
		return status.Errorf(codes.PermissionDenied, "node id %q: %v", node, err)
	}
	return nil
}

// awaitProxy returns the proxy that the world lists, within the patience for newcomers.
func (s *Server) awaitProxy(ctx context.Context, node string) *mesh.Proxy {
	ctx, cancel := context.WithTimeout(ctx, unknownPatience)
	defer cancel()
	var found *mesh.Proxy
	_ = s.await(ctx, func() (bool, error) {
		if s.world != nil {
			found = xds.FindProxy(s.world, node)
		}
		return found != nil, nil
	})
	return found
}

// enter counts a stream of a node.
func (g *guard) enter(node string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.streams[node]
	if n == 0 && len(g.streams) >= g.limits.Nodes {
		g.refused(refusedNodes)
		return status.Errorf(codes.ResourceExhausted, "%d proxies are connected", len(g.streams))
	}
	if n >= g.limits.StreamsPerNode {
		g.refused(refusedStreams)
		return status.Errorf(codes.ResourceExhausted, "node %q has %d streams", node, n)
	}
	g.streams[node] = n + 1
	return nil
}

func (g *guard) leave(node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.streams[node]--; g.streams[node] <= 0 {
		delete(g.streams, node)
	}
}

// nodeOf returns the node that a message of any of our services names, nil if none.
func nodeOf(m any) *corev3.Node {
	switch m := m.(type) {
	case interface{ GetNode() *corev3.Node }: // ADS and load reports
		return m.GetNode()
	case *accesslogv3.StreamAccessLogsMessage:
		return m.GetIdentifier().GetNode()
	}
	return nil
}

// named counts the resources that a request names.
func named(m any) int {
	switch m := m.(type) {
	case *discoveryv3.DeltaDiscoveryRequest:
		return max(len(m.GetResourceNamesSubscribe()), len(m.GetResourceNamesUnsubscribe()),
			len(m.GetInitialResourceVersions()))
	case *discoveryv3.DiscoveryRequest:
		return len(m.GetResourceNames())
	}
	return 0
}

// subscribed bounds what a stream subscribes to of one type, over all its requests.
func (s *Server) subscribed(sub cache.Subscription) error {
	if n := len(sub.SubscribedResources()); n > s.limits.Subscriptions {
		s.metrics.refused.WithLabelValues(refusedSubscriptions).Inc()
		return status.Errorf(codes.ResourceExhausted, "a stream subscribes to %d resources, at most %d are served",
			n, s.limits.Subscriptions)
	}
	return nil
}

// listenAll opens the Unix socket, and the TCP address if there is one.
func (s *Server) listenAll(ctx context.Context) ([]net.Listener, error) {
	socket, err := listen(ctx, s.socket)
	if err != nil {
		return nil, err
	}
	listeners := []net.Listener{doorway{Listener: socket, door: s.door}}
	if s.remote == "" {
		return listeners, nil
	}
	var config net.ListenConfig
	tcp, err := config.Listen(ctx, "tcp", s.remote)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen for remote proxies: %w", err), socket.Close())
	}
	return append(listeners, doorway{Listener: tcp, door: s.door}), nil
}
