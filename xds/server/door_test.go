package server

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	dto "github.com/prometheus/client_model/go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
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
	eventually(t, 5*time.Second, "it listens", func() bool {
		_, err := os.Stat(g.socket)
		return err == nil
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

// Whatever a service calls its node, the guard finds it.
func TestNodeOfEveryService(t *testing.T) {
	who := as("cart-0", "").GetNode()
	for _, m := range []any{
		&discoveryv3.DeltaDiscoveryRequest{Node: who}, &discoveryv3.DiscoveryRequest{Node: who},
		&loadstatsv3.LoadStatsRequest{Node: who},
		&accesslogv3.StreamAccessLogsMessage{Identifier: &accesslogv3.StreamAccessLogsMessage_Identifier{Node: who}},
	} {
		if got := nodeOf(m); got.GetId() != "cart-0" {
			t.Errorf("%T: node %v", m, got)
		}
	}
	if got := nodeOf(&accesslogv3.StreamAccessLogsMessage{}); got != nil {
		t.Errorf("a later log message names %v", got)
	}
}
