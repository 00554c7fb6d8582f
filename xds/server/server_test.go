package server

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// serving starts a server and returns a client of its socket.
func serving(t *testing.T, world *mesh.World) (*Server, discoveryv3.AggregatedDiscoveryServiceClient) {
	t.Helper()
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "x.sock")
	s, err := New(Config{Socket: socket, World: world})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- s.Serve(ctx) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-stopped, conn.Close()); err != nil {
			t.Error(err)
		}
	})
	return s, discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
}

// peer is a proxy that speaks by hand.
type peer struct {
	t      *testing.T
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func dialPeer(t *testing.T, client discoveryv3.AggregatedDiscoveryServiceClient) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	stream, err := client.DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return &peer{t: t, stream: stream}
}

func (p *peer) send(req *discoveryv3.DeltaDiscoveryRequest) {
	p.t.Helper()
	if err := p.stream.Send(req); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) recv() *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	resp, err := p.stream.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	return resp
}

func as(node string, typ xds.TypeURL, names ...string) *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: node}, TypeUrl: string(typ), ResourceNamesSubscribe: names,
	}
}

func TestUnknownNodeIsRefused(t *testing.T) {
	_, client := serving(t, rigWorld(t))
	p := dialPeer(t, client)
	p.send(as("stranger", xds.ClusterType))
	_, err := p.stream.Recv()
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), `"stranger"`) {
		t.Errorf("got %v, want PermissionDenied that names the node", err)
	}
}

// A server that has no world yet sends nothing: an empty set would take everything away.
func TestNoWorldSendsNothing(t *testing.T) {
	s, client := serving(t, nil)
	p := dialPeer(t, client)
	p.send(as("ingress", xds.ClusterType))
	s.SetWorld(rigWorld(t))
	if resp := p.recv(); len(resp.GetResources()) != 5 {
		t.Errorf("got %d clusters, want 5", len(resp.GetResources()))
	}
}

// What the proxy says it has is not sent again; what it misses is; what is gone is named.
func TestReconnect(t *testing.T) {
	s, client := serving(t, rigWorld(t))
	first := dialPeer(t, client)
	first.send(as("ingress", xds.ClusterType))
	resp := first.recv()
	has := map[string]string{"shop/gone": "1"}
	for _, r := range resp.GetResources()[1:] {
		has[r.GetName()] = r.GetVersion()
	}
	missing := resp.GetResources()[0].GetName()
	second := dialPeer(t, client)
	req := as("ingress", xds.ClusterType)
	req.InitialResourceVersions = has
	second.send(req)
	resp = second.recv()
	if len(resp.GetResources()) != 1 || resp.GetResources()[0].GetName() != missing ||
		len(resp.GetRemovedResources()) != 1 || resp.GetRemovedResources()[0] != "shop/gone" {
		t.Errorf("got %d resources, removed %v; want %s, removed shop/gone",
			len(resp.GetResources()), resp.GetRemovedResources(), missing)
	}
	second.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(xds.ClusterType), ResponseNonce: resp.GetNonce()})
	eventually(t, 5*time.Second, "its ACK is booked", func() bool {
		return s.Proxies()[2].Types[0].Acked > 0
	})
}

// A change goes out after the clusters that it needs, and a NACK is shown.
func TestPushAndNack(t *testing.T) {
	world := rigWorld(t)
	s, client := serving(t, world)
	p := dialPeer(t, client)
	p.send(as("ingress", xds.RuntimeType, xds.Overlays))
	resp := p.recv()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(xds.RuntimeType), ResponseNonce: resp.GetNonce()})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	limit := mesh.Overlay{
		Key: mesh.OverlayKey{Kind: mesh.OverlayBreak, Callee: "shop/cart"}, Generation: 1,
		Break: &mesh.BreakOverlay{MaxRequests: 10},
	}
	applied := make(chan error, 1)
	go func() {
		_, err := s.Traffic().Apply(ctx, limit)
		applied <- err
	}()
	// Nobody answers for EDS, so the keys are not turned on.
	if err := <-applied; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ingress") {
		t.Errorf("got %v, want DeadlineExceeded that names the proxy", err)
	}
	if left := s.Traffic().Installed(); len(left) != 1 {
		t.Errorf("installed are %v, want the overlay, until it is withdrawn", left)
	}
}

func TestStaleGenerationIsRefused(t *testing.T) {
	world := rigWorld(t)
	world.Proxies = nil // nobody calls, nobody must ACK
	s, err := New(Config{Socket: "x.sock", World: world})
	if err != nil {
		t.Fatal(err)
	}
	o := drainOf("shop/solo", 5, "solo-0")
	for i := range 2 {
		if _, err := s.Traffic().Apply(t.Context(), o); err != nil {
			t.Errorf("time %d: %v", i+1, err)
		}
	}
	o.Generation = 4
	if _, err := s.Traffic().Apply(t.Context(), o); !errors.Is(err, ErrStale) {
		t.Errorf("an earlier generation: %v, want ErrStale", err)
	}
	if err := s.Traffic().Prove(t.Context(), o.Key, 4, func(mesh.Proof) {}); !errors.Is(err, ErrStale) {
		t.Errorf("proof of an earlier generation: %v, want ErrStale", err)
	}
	if err := s.Traffic().Withdraw(t.Context(), o.Key, time.Hour); err != nil {
		t.Error(err)
	}
	if err := s.Traffic().Withdraw(t.Context(), o.Key, 0); err != nil {
		t.Errorf("withdrawing what is not there: %v", err)
	}
}

func TestSocket(t *testing.T) {
	if _, err := New(Config{Socket: "/" + strings.Repeat("x", 107)}); err == nil {
		t.Error("a path of 108 bytes is taken")
	}
	path := filepath.Join(t.TempDir(), "x.sock")
	if len(path) > maxSocketPath {
		t.Skip("the temporary directory's path is too long for a socket")
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another sluiced") {
		t.Errorf("a socket in use: %v", err)
	}
	stale.SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listen(t.Context(), path)
	if err != nil {
		t.Fatalf("a socket left by a dead server: %v", err)
	}
	defer again.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v, want 0600", info.Mode(), err)
	}
}

// No report can crash the server, nor make a count negative.
func FuzzInFlight(f *testing.F) {
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var req loadstatsv3.LoadStatsRequest
		if proto.Unmarshal(data, &req) != nil {
			return
		}
		for cluster, endpoints := range inFlight(req.GetClusterStats()) {
			for address, n := range endpoints {
				if n <= 0 {
					t.Errorf("%s %s: %d in flight", cluster, address, n)
				}
			}
		}
	})
}
