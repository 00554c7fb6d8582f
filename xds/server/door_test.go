package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	dto "github.com/prometheus/client_model/go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/sluicemesh/sluice/internal/testca"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/identity"
	"github.com/sluicemesh/sluice/xds"
)

var testDomain = spiffeid.RequireTrustDomainFromString("mesh.test")

// gated is a server behind its door, over TCP with mutual TLS and over its socket.
type gated struct {
	t       *testing.T
	server  *Server
	world   *mesh.World
	ca      *testca.CA
	dir     string // of the server's certificate files
	address string
	socket  string
}

// newGated starts a server within limits.
func newGated(t *testing.T, limits Limits) *gated {
	t.Helper()
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &gated{
		t: t, world: rigWorld(t), ca: testca.New(t, "mesh.test"), dir: filepath.Join(dir, "tls"),
		address: freePort(t).String(), socket: filepath.Join(dir, "x.sock"),
	}
	testca.Write(t, g.dir, g.ca.Issue(identity.ControlPlane, hence(time.Hour)), g.ca)
	g.server, err = New(Config{
		Socket: g.socket, World: g.world, Limits: limits, TTL: rigTTL,
		Remote: &Remote{
			Address: g.address, TLS: identity.ServerConfig(source(t, g.dir), testDomain),
			Allow: identity.Allow(testDomain, identity.ServiceRule),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- g.server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	return g
}

func hence(d time.Duration) time.Time { return time.Now().Add(d) }

func pathsIn(dir string) identity.Paths {
	return identity.Paths{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem"),
	}
}

// source reads certificates, and sees a change at the next handshake.
func source(t *testing.T, dir string) *identity.Files {
	t.Helper()
	at := time.Now()
	f, err := identity.Open(pathsIn(dir), testDomain, nil, func() time.Time {
		at = at.Add(2 * time.Second)
		return at
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// client returns the configuration of a client with a certificate of path by an authority.
func (g *gated) client(by *testca.CA, path string, until time.Time) *tls.Config {
	g.t.Helper()
	pair := by.Issue(path, until)
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		g.t.Fatal(err)
	}
	// What the client thinks of the server is not what is tested with it.
	return &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, NextProtos: []string{"h2"}}
}

// dial returns a connection over TCP.
func (g *gated) dial(config *tls.Config) *grpc.ClientConn {
	g.t.Helper()
	return g.connect(g.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
}

// local returns a connection over the socket.
func (g *gated) local(more ...grpc.DialOption) *grpc.ClientConn {
	return g.connect("unix:"+g.socket, append(more, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
}

func (g *gated) connect(target string, options ...grpc.DialOption) *grpc.ClientConn {
	g.t.Helper()
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	return conn
}

// refusals is how often the server refused for a reason.
func (g *gated) refusals(reason string) int {
	g.t.Helper()
	var m dto.Metric
	if err := g.server.metrics.refused.WithLabelValues(reason).Write(&m); err != nil {
		g.t.Fatal(err)
	}
	return int(m.GetCounter().GetValue())
}

// outcome opens an ADS stream as a node and returns how its first answer comes.
func (g *gated) outcome(conn *grpc.ClientConn, node string) error {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	if err := stream.Send(as(node, xds.ClusterType)); err != nil {
		_, err = stream.Recv()
		return err
	}
	_, err = stream.Recv()
	return err
}

func TestIdentityOfProxies(t *testing.T) {
	g := newGated(t, Limits{})
	foreign, other := testca.New(t, "else.test"), testca.New(t, "mesh.test")
	eventually(t, 5*time.Second, "it serves", func() bool {
		return g.outcome(g.dial(g.client(g.ca, "/ns/outside/svc/web", hence(time.Hour))), "ingress") == nil
	})
	for _, test := range []struct {
		name   string
		config *tls.Config
		node   string
		want   codes.Code
		reason string
	}{
		{"its own", g.client(g.ca, "/ns/shop/svc/cart", hence(time.Hour)), "cart-0", codes.OK, ""},
		{"that of its instance", g.client(g.ca, "/ns/shop/svc/cart/instance/cart-1", hence(time.Hour)), "cart-1", codes.OK, ""},
		{"that of another instance", g.client(g.ca, "/ns/shop/svc/cart/instance/cart-1", hence(time.Hour)), "cart-0",
			codes.PermissionDenied, refusedIdentity},
		{"that of another service", g.client(g.ca, "/ns/shop/svc/solo", hence(time.Hour)), "cart-0",
			codes.PermissionDenied, refusedIdentity},
		{"that of the control plane", g.client(g.ca, identity.ControlPlane, hence(time.Hour)), "cart-0",
			codes.PermissionDenied, refusedIdentity},
		{"of a node that is not listed", g.client(g.ca, "/ns/shop/svc/cart", hence(time.Hour)), "stranger",
			codes.PermissionDenied, refusedNode},
		{"expired", g.client(g.ca, "/ns/shop/svc/cart", hence(-time.Minute)), "cart-0", codes.Unavailable, refusedHandshake},
		{"of another trust domain", g.client(foreign, "/ns/shop/svc/cart", hence(time.Hour)), "cart-0",
			codes.Unavailable, refusedHandshake},
		{"of an authority that is not trusted", g.client(other, "/ns/shop/svc/cart", hence(time.Hour)), "cart-0",
			codes.Unavailable, refusedHandshake},
		{"none", &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}, "cart-0", codes.Unavailable, refusedHandshake},
	} {
		before := 0
		if test.reason != "" {
			before = g.refusals(test.reason)
		}
		if err := g.outcome(g.dial(test.config), test.node); status.Code(err) != test.want {
			t.Errorf("certificate %s: got %v, want %s", test.name, err, test.want)
		}
		if test.reason != "" {
			eventually(t, 5*time.Second, test.name+" is counted as "+test.reason, func() bool {
				return g.refusals(test.reason) > before
			})
		}
	}
	plain := g.connect(g.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err := g.outcome(plain, "cart-0"); status.Code(err) != codes.Unavailable {
		t.Errorf("without TLS: %v, want Unavailable", err)
	}
}

// Load reports stand behind the same door: nobody reports zero for another.
func TestLoadReportsAreOfTheirOwnNode(t *testing.T) {
	g := newGated(t, Limits{})
	conn := g.dial(g.client(g.ca, "/ns/shop/svc/cart", hence(time.Hour)))
	report := func(node string) error {
		stream, err := loadstatsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(t.Context(), grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		if err := stream.Send(&loadstatsv3.LoadStatsRequest{Node: as(node, "").GetNode()}); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	if err := report("cart-0"); err != nil {
		t.Errorf("its own: %v", err)
	}
	if err := report("ingress"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another's: %v, want PermissionDenied", err)
	}
}

// A stream speaks for one node from its first request on.
func TestNodeOfAStreamStays(t *testing.T) {
	g := newGated(t, Limits{})
	for name, conn := range map[string]*grpc.ClientConn{
		"TCP": g.dial(g.client(g.ca, "/ns/shop/svc/cart", hence(time.Hour))), "socket": g.local(),
	} {
		p := dialPeer(t, discoveryv3.NewAggregatedDiscoveryServiceClient(conn))
		p.send(as("cart-0", xds.ClusterType))
		p.recv()
		p.send(as("ingress", xds.ListenerType))
		if _, err := p.stream.Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("over %s: %v, want PermissionDenied", name, err)
		}
	}
}

// Certificate and authority of the server change while a stream is up: the stream stays,
// the next connection sees the new, and who has only the old is refused.
func TestServerRotates(t *testing.T) {
	g := newGated(t, Limits{})
	old := g.client(g.ca, "/ns/shop/svc/cart", hence(time.Hour))
	p := dialPeer(t, discoveryv3.NewAggregatedDiscoveryServiceClient(g.dial(old)))
	p.send(as("cart-0", xds.ClusterType))
	p.recv()
	next := testca.New(t, "mesh.test")
	testca.Write(t, g.dir, next.Issue(identity.ControlPlane, hence(time.Hour)), next)
	if err := g.outcome(g.dial(g.client(next, "/ns/shop/svc/cart/instance/cart-1", hence(time.Hour))), "cart-1"); err != nil {
		t.Errorf("a certificate by the new authority: %v", err)
	}
	if err := g.outcome(g.dial(old), "cart-1"); status.Code(err) != codes.Unavailable {
		t.Errorf("a certificate by the old authority: %v, want Unavailable", err)
	}
	p.send(as("cart-0", xds.ListenerType))
	if resp := p.recv(); resp.GetTypeUrl() != string(xds.ListenerType) {
		t.Errorf("the stream from before got %v", resp)
	}
}

func TestUserOfTheSocket(t *testing.T) {
	for _, test := range []struct {
		peer uint32
		own  int
		want bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1000, 0, false}} {
		if err := allowUser(test.peer, test.own); (err == nil) != test.want {
			t.Errorf("user %d at the socket of %d: %v", test.peer, test.own, err)
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Skip(err)
	}
	defer listener.Close()
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := listener.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := sameUser(conn); err != nil {
		t.Errorf("our own user: %v", err)
	}
}

func TestStreamsOfANodeAreBounded(t *testing.T) {
	g := newGated(t, Limits{StreamsPerNode: 2, Nodes: 2})
	loads := loadstatsv3.NewLoadReportingServiceClient(g.local())
	open := func(node string) error {
		stream, err := loads.StreamLoadStats(t.Context(), grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		if err := stream.Send(&loadstatsv3.LoadStatsRequest{Node: as(node, "").GetNode()}); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	for i, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted} {
		if err := open("cart-0"); status.Code(err) != want {
			t.Errorf("stream %d: %v, want %s", i+1, err, want)
		}
	}
	if err := open("cart-1"); err != nil {
		t.Errorf("another node: %v", err)
	}
	if err := open("ingress"); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a third node: %v, want ResourceExhausted", err)
	}
	if g.refusals(refusedStreams) != 1 || g.refusals(refusedNodes) != 1 {
		t.Errorf("counted %d streams, %d nodes, want 1 and 1", g.refusals(refusedStreams), g.refusals(refusedNodes))
	}
}

func TestSubscriptionsAreBounded(t *testing.T) {
	g := newGated(t, Limits{Subscriptions: 4})
	ask := func(requests ...*discoveryv3.DeltaDiscoveryRequest) error {
		p := dialPeer(t, discoveryv3.NewAggregatedDiscoveryServiceClient(g.local()))
		for _, req := range requests {
			p.send(req)
		}
		for range requests {
			if _, err := p.stream.Recv(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := ask(as("cart-0", xds.EndpointType, "a", "b", "c", "d", "e")); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("5 names at once: %v, want ResourceExhausted", err)
	}
	// The second subscription of a type is answered after the first is ACKed, but counted at once.
	few := ask(as("cart-0", xds.EndpointType, "a", "b", "c"), as("cart-0", xds.EndpointType, "d", "e"))
	if status.Code(few) != codes.ResourceExhausted {
		t.Errorf("5 names in two requests: %v, want ResourceExhausted", few)
	}
	var kinds []*discoveryv3.DeltaDiscoveryRequest
	for i := range maxTypes + 1 {
		kinds = append(kinds, as("cart-0", xds.TypeURL(fmt.Sprintf("type.googleapis.com/made.up.%d", i)), "a"))
	}
	if err := ask(kinds...); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("%d types: %v, want ResourceExhausted", len(kinds), err)
	}
}

func TestLargeRequestsAreRefused(t *testing.T) {
	g := newGated(t, Limits{MessageBytes: 1024})
	err := g.outcome(g.local(), strings.Repeat("x", 2048))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v, want ResourceExhausted", err)
	}
}

// A stream that says nothing, and a connection that does not even speak TLS, end by
// themselves.
func TestSilenceEnds(t *testing.T) {
	g := newGated(t, Limits{FirstMessage: 200 * time.Millisecond, Handshake: 200 * time.Millisecond})
	p := dialPeer(t, discoveryv3.NewAggregatedDiscoveryServiceClient(g.local()))
	if _, err := p.stream.Recv(); status.Code(err) != codes.Unavailable || g.refusals(refusedSilent) == 0 {
		t.Errorf("a silent stream: %v, counted %d, want Unavailable, counted", err, g.refusals(refusedSilent))
	}
	conn, err := net.Dial("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(hence(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection without a word: %v, want it closed", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	g := newGated(t, Limits{Connections: 2})
	held := func() (net.Conn, error) {
		conn, err := net.Dial("tcp", g.address)
		if err != nil {
			return nil, err
		}
		conn.SetReadDeadline(hence(300 * time.Millisecond))
		_, err = conn.Read(make([]byte, 1))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return conn, nil
		}
		conn.Close()
		return nil, errors.New("closed")
	}
	var conns []net.Conn
	eventually(t, 5*time.Second, "it listens", func() bool {
		conn, err := held()
		if err == nil {
			conns = append(conns, conn)
		}
		return err == nil
	})
	second, err := held()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := held(); err == nil || g.refusals(refusedConnections) != 1 {
		t.Errorf("a third connection is held, %d counted", g.refusals(refusedConnections))
	}
	conns[0].Close()
	eventually(t, 5*time.Second, "there is room again", func() bool {
		conn, err := held()
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// A proxy that asks and asks and does not read is cut, and meanwhile blocks nobody.
func TestSlowReader(t *testing.T) {
	g := newGated(t, Limits{Send: 300 * time.Millisecond})
	p := dialPeer(t, discoveryv3.NewAggregatedDiscoveryServiceClient(g.local(
		grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))))
	asked := make(chan error, 1)
	go func() {
		for i := 0; ; i++ { // each name is answered: there is no such layer
			name := fmt.Sprintf("%d%s", i, strings.Repeat("x", 2000))
			if err := p.stream.Send(as("ingress", xds.RuntimeType, name)); err != nil || i > 2000 {
				asked <- err
				return
			}
		}
	}()
	if err := g.outcome(g.local(), "cart-0"); err != nil {
		t.Errorf("another proxy meanwhile: %v", err)
	}
	select {
	case err := <-asked:
		if err == nil || g.refusals(refusedSlow) == 0 {
			t.Errorf("it ended with %v, counted %d", err, g.refusals(refusedSlow))
		}
	case <-time.After(10 * time.Second):
		t.Error("the stream still waits for its reader")
	}
}

// Streams that are opened and reset at once are refused beyond a burst, and end the
// connection when they go on; no handler runs for them.
func TestRapidReset(t *testing.T) {
	g := newGated(t, Limits{StreamBurst: 50, StreamRate: 1})
	conn, framer := g.raw()
	defer conn.Close()
	id := uint32(1)
	for range 50 * (rateGrace + 4) {
		if g.tryOpen(framer, id, "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources") != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // it was cut
		}
		id += 2
	}
	conn.SetReadDeadline(hence(10 * time.Second))
	for {
		if _, err := framer.ReadFrame(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
			break
		}
	}
	if n := g.refusals(refusedRate); n < 50 {
		t.Errorf("%d streams refused, want most of them", n)
	}
	if err := g.outcome(g.local(), "cart-0"); err != nil {
		t.Errorf("another proxy: %v", err)
	}
}

// raw opens HTTP/2 over TLS by hand, with windows of no bytes.
func (g *gated) raw() (net.Conn, *http2.Framer) {
	g.t.Helper()
	var conn *tls.Conn
	eventually(g.t, 5*time.Second, "it listens", func() bool {
		var err error
		conn, err = tls.Dial("tcp", g.address, g.client(g.ca, "/ns/outside/svc/web", hence(time.Hour)))
		return err == nil
	})
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		g.t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}); err != nil {
		g.t.Fatal(err)
	}
	return conn, framer
}

// tryOpen starts a gRPC stream by hand.
func (g *gated) tryOpen(framer *http2.Framer, id uint32, method string) error {
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "POST"}, {":scheme", "https"}, {":path", method}, {":authority", "x"},
		{"content-type", "application/grpc"}, {"te", "trailers"},
	} {
		if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}); err != nil {
			return err
		}
	}
	return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block.String()), EndHeaders: true})
}
