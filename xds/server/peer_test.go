package server

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/sluicemesh/sluice/internal/testca"
	"github.com/sluicemesh/sluice/mesh/identity"
)

// peerNoter notes who called.
type peerNoter struct {
	collectorv1.UnimplementedTraceServiceServer
	path   string
	remote bool
}

// Export implements collectorv1.TraceServiceServer.
func (n *peerNoter) Export(
	ctx context.Context, _ *collectorv1.ExportTraceServiceRequest,
) (*collectorv1.ExportTraceServiceResponse, error) {
	n.path = ""
	state, remote := Peer(ctx)
	if n.remote = remote; remote {
		id, err := identity.Peer(state)
		if err != nil {
			return nil, err
		}
		n.path = id.Path()
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// TestPeer calls another service of the server over mutual TLS and over the socket.
func TestPeer(t *testing.T) {
	g := &gated{
		t: t, world: rigWorld(t), ca: testca.New(t, "mesh.test"), dir: t.TempDir(),
		address: freePort(t).String(), socket: filepath.Join(shortDir(t), "x.sock"),
	}
	testca.Write(t, g.dir, g.ca.Issue(identity.ControlPlane, hence(time.Hour)), g.ca)
	server, err := New(Config{Socket: g.socket, World: g.world, Remote: &Remote{
		Address: g.address, TLS: identity.ServerConfig(source(t, g.dir), testDomain),
		Allow: identity.Allow(testDomain, identity.ServiceRule),
	}})
	if err != nil {
		t.Fatal(err)
	}
	noter := &peerNoter{}
	collectorv1.RegisterTraceServiceServer(server.GRPC(), noter)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-stopped
	})
	const path = "/ns/shop/svc/cart"
	remote := collectorv1.NewTraceServiceClient(g.dial(g.client(g.ca, path, hence(time.Hour))))
	eventually(t, 10*time.Second, "the server answers", func() bool {
		_, err := remote.Export(t.Context(), &collectorv1.ExportTraceServiceRequest{})
		return err == nil
	})
	if !noter.remote || noter.path != path {
		t.Errorf("over TLS: remote %v, path %q", noter.remote, noter.path)
	}
	if _, err := collectorv1.NewTraceServiceClient(g.local()).Export(t.Context(), &collectorv1.ExportTraceServiceRequest{}); err != nil {
		t.Fatal(err)
	}
	if noter.remote || noter.path != "" {
		t.Errorf("over the socket: remote %v, path %q", noter.remote, noter.path)
	}
	evil := testca.New(t, "mesh.test")
	if _, err := collectorv1.NewTraceServiceClient(g.dial(g.client(evil, path, hence(time.Hour)))).Export(
		t.Context(), &collectorv1.ExportTraceServiceRequest{}); err == nil {
		t.Error("a certificate of another authority is let in")
	}
}
