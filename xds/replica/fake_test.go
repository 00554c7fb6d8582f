package replica

import (
	"context"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	loadstatsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// proxy obeys the delta protocol and reports loads, as an Envoy would, until stopped.
type proxy struct {
	t      *testing.T
	node   string
	world  *mesh.World
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	held     chan struct{} // not nil: it answers nothing of endpoints until this is closed
	inFlight uint64        // that it says it has on shop/solo
}

// connect makes the proxy speak to the server at a socket.
func (p *proxy) connect(socket string) {
	p.t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	p.cancel = cancel
	p.done.Go(func() { p.discover(ctx, conn) })
	p.done.Go(func() { p.report(ctx, conn) })
	p.t.Cleanup(func() {
		p.disconnect()
		conn.Close()
	})
}

func (p *proxy) disconnect() {
	p.cancel()
	p.done.Wait()
}

// discover takes everything that it is sent.
func (p *proxy) discover(ctx context.Context, conn *grpc.ClientConn) {
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		return
	}
	ask := func(typ xds.TypeURL, names ...string) {
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: &corev3.Node{Id: p.node}, TypeUrl: string(typ), ResourceNamesSubscribe: names,
		})
	}
	ask(xds.ClusterType)
	ask(xds.ListenerType)
	ask(xds.RuntimeType, xds.Overlays)
	for {
		resp, err := stream.Recv()
		if err != nil {
			return
		}
		typ := xds.TypeURL(resp.GetTypeUrl())
		if typ == xds.EndpointType && !p.goOn(ctx) {
			return
		}
		_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()})
		if typ == xds.ClusterType {
			var names []string
			for _, r := range resp.GetResources() {
				var c clusterv3.Cluster
				if r.GetResource().UnmarshalTo(&c) == nil && c.GetEdsClusterConfig() != nil {
					names = append(names, c.GetEdsClusterConfig().GetServiceName())
				}
			}
			ask(xds.EndpointType, names...)
		}
	}
}

// goOn waits while the proxy is held.
func (p *proxy) goOn(ctx context.Context) bool {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held == nil {
		return true
	}
	select {
	case <-held:
		return true
	case <-ctx.Done():
		return false
	}
}

// hold makes it answer nothing until the returned function is called.
func (p *proxy) hold() (release func()) {
	held := make(chan struct{})
	p.mu.Lock()
	p.held = held
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		p.held = nil
		p.mu.Unlock()
		close(held)
	}
}

func (p *proxy) busy(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inFlight = n
}

// report sends loads as often as it is told to.
func (p *proxy) report(ctx context.Context, conn *grpc.ClientConn) {
	stream, err := loadstatsv3.NewLoadReportingServiceClient(conn).StreamLoadStats(ctx, grpc.WaitForReady(true))
	if err != nil {
		return
	}
	intervals := make(chan time.Duration, 16)
	p.done.Go(func() {
		for {
			resp, err := stream.Recv()
			if err != nil {
				return
			}
			intervals <- resp.GetLoadReportingInterval().AsDuration()
		}
	})
	every := time.Hour
	for stream.Send(p.loads()) == nil {
		select {
		case <-ctx.Done():
			return
		case every = <-intervals:
		case <-time.After(every):
		}
	}
}

// loads is what it has in flight on the first instance of shop/solo.
func (p *proxy) loads() *loadstatsv3.LoadStatsRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.world.Find("shop/solo").Instances[0].Inbound
	return &loadstatsv3.LoadStatsRequest{
		Node: &corev3.Node{Id: p.node},
		ClusterStats: []*endpointv3.ClusterStats{{
			ClusterName: "shop/solo",
			UpstreamLocalityStats: []*endpointv3.UpstreamLocalityStats{{
				UpstreamEndpointStats: []*endpointv3.UpstreamEndpointStats{{
					Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
						Address:       at.Addr().String(),
						PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port())},
					}}},
					TotalRequestsInProgress: p.inFlight,
				}},
			}},
		}},
	}
}

// drain is the overlay of every test.
func drain(generation uint64) mesh.Overlay {
	return mesh.Overlay{
		Key:  mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: "shop/solo"},
		Plan: "test", Step: "d1", Generation: generation, Lease: 20 * time.Second,
		Drain: &mesh.DrainOverlay{
			Instances: []mesh.UID{"solo-0"}, Share: 100, OnEmpty: mesh.OnEmptyHold, Hold: 5 * time.Second,
		},
	}
}
