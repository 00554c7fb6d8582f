package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/log"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"google.golang.org/grpc"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
	"github.com/sluicemesh/sluice/xds/server"
)

const pushWithin = time.Minute // one push, at most

// pushMesh is the input of a push bench: proxies that all call the same services. The
// services are raw TCP, so that each is one cluster, and a drain is one endpoint of one
// resource. As in pods, the proxies listen on the same addresses.
type pushMesh struct {
	world          *mesh.World
	names          []string // of the endpoints resources
	base           map[string]types.Resource
	changed        string         // the one that changes
	healthy, drain types.Resource // what it is, and with an endpoint that drains
	order          []subscription // what a client asks for
	overlay        mesh.Overlay   // what makes ours change it
	all            map[xds.TypeURL][]string
}

func pushService(i int) mesh.Service { return mesh.Service(fmt.Sprintf("shop/s%04d", i)) }

func address(a, b, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(a), byte(b), 1}), uint16(port))
}

// newPushMesh is a mesh of so many proxies that each have so many clusters.
func newPushMesh(proxies, clusters int) (*pushMesh, error) {
	w := &mesh.World{Version: 1}
	var outbound []mesh.Outbound
	for i := range clusters {
		state := mesh.ServiceState{Name: pushService(i), Protocol: mesh.TCP, Replicas: 2}
		for k := range 2 {
			name := fmt.Sprintf("s%04d-%d", i, k)
			at := address(10+k, i%250, 20_000+i)
			state.Instances = append(state.Instances, mesh.Instance{
				Ref: mesh.Ref{Service: state.Name, UID: mesh.UID(name), Incarnation: 1}, Name: name, State: mesh.Ready, App: at, Inbound: at,
			})
		}
		w.Services = append(w.Services, state)
		outbound = append(outbound, mesh.Outbound{Service: state.Name, Listen: address(1, 1, 15_000+i), Timeout: time.Second})
	}
	for i := range proxies {
		w.Proxies = append(w.Proxies, mesh.Proxy{Node: fmt.Sprintf(fleetNode, i), Service: "outside/web", Outbound: outbound})
	}
	m := &pushMesh{world: w, base: map[string]types.Resource{}, all: map[xds.TypeURL][]string{}}
	m.overlay = mesh.Overlay{
		Key: mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: pushService(clusters / 2)}, Plan: "bench", Step: "d1", Lease: time.Minute,
		Drain: &mesh.DrainOverlay{Instances: []mesh.UID{mesh.UID(fmt.Sprintf("s%04d-0", clusters/2))}, Share: 100},
	}
	return m, m.build()
}

// build makes the resources, for the reference and to know their names.
func (m *pushMesh) build() error {
	node := m.world.Proxies[0].Node
	before := xds.Base(m.world, node)
	after, faults := xds.Build(m.world, node, []mesh.Overlay{m.overlay})
	if err := errors.Join(faults...); err != nil {
		return err
	}
	for i := range before.Endpoints {
		a, b := &before.Endpoints[i], &after.Endpoints[i]
		m.base[a.Name] = a.Message
		m.names = append(m.names, a.Name)
		if a.Version != b.Version {
			m.changed, m.healthy, m.drain = a.Name, a.Message, b.Message
		}
	}
	if m.changed == "" {
		return errors.New("the drain changes nothing")
	}
	m.order = []subscription{{Type: string(xds.EndpointType), Names: m.names}}
	for _, t := range xds.Types() {
		for _, r := range before.Of(t) {
			m.all[t] = append(m.all[t], r.Name)
		}
	}
	return nil
}

// side is one server under measurement, with its clients connected.
type side interface {
	// push changes one endpoint and returns when the last client has ACKed that.
	push(ctx context.Context) error
	close() error
}

// ours is this project's server: the change is the drain of an instance, or its end, by
// the same call that a plan makes.
type ours struct {
	mesh    *pushMesh
	server  *server.Server
	stop    context.CancelFunc
	stopped chan error
	fleet   *fleet
	pushes  uint64
}

// openOurs serves m to its proxies.
func openOurs(ctx context.Context, m *pushMesh, dir string, sotw bool, want []subscription) (side, error) {
	o := &ours{mesh: m, stopped: make(chan error, 1)}
	socket := filepath.Join(dir, "ours.sock")
	var err error
	if o.server, err = server.New(server.Config{Socket: socket, World: m.world}); err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	o.stop = stop
	go func() { o.stopped <- o.server.Serve(serving) }()
	o.fleet, err = startFleet(ctx, fleetConfig{Socket: socket, Clients: len(m.world.Proxies), Sotw: sotw, Want: want})
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

func (o *ours) push(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pushWithin)
	defer cancel()
	o.pushes++
	if o.pushes%2 == 0 {
		return o.server.Traffic().Withdraw(ctx, o.mesh.overlay.Key, 0)
	}
	overlay := o.mesh.overlay
	overlay.Generation = o.pushes
	acks, err := o.server.Traffic().Apply(ctx, overlay)
	if err == nil && acks.Acked != len(o.mesh.world.Proxies) {
		err = fmt.Errorf("%d of %d proxies ACKed", acks.Acked, len(o.mesh.world.Proxies))
	}
	return err
}

func (o *ours) close() error {
	var err error
	if o.fleet != nil {
		err = o.fleet.stop()
	}
	o.stop()
	return errors.Join(err, <-o.stopped)
}

// plane is a go-control-plane server.
type plane struct {
	mesh   *pushMesh
	set    func(ctx context.Context, changed types.Resource) error
	grpc   *grpc.Server
	fleet  *fleet
	pushes int
	wanted atomic.Int64 // ACKs until the push under way is over
	done   chan struct{}
}

// planeKind is one way to use go-control-plane.
type planeKind struct {
	name     string
	sotw     bool
	snapshot bool
}

// openPlane serves m with go-control-plane: either its linear cache, which is given the
// one resource that changed, or its snapshot cache, which is given a new snapshot of all;
// all proxies are one node to it, so that it is one call.
func openPlane(ctx context.Context, m *pushMesh, dir string, kind planeKind) (side, error) {
	p := &plane{mesh: m, done: make(chan struct{}, 1)}
	var source cache.Cache
	if kind.snapshot {
		snapshots := cache.NewSnapshotCache(true, oneNode{}, log.NewDefaultLogger())
		p.set = func(ctx context.Context, changed types.Resource) error { return p.snapshot(ctx, snapshots, changed) }
		source = snapshots
	} else {
		linear := cache.NewLinearCache(string(xds.EndpointType), cache.WithInitialResources(m.base))
		p.set = func(_ context.Context, changed types.Resource) error {
			return linear.UpdateResource(m.changed, changed)
		}
		source = linear
	}
	if err := p.set(ctx, m.healthy); err != nil {
		return nil, err
	}
	p.grpc = grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(p.grpc, &planeService{
		delta: delta.NewServer(ctx, source, deltaAcks{p}), sotw: sotw.NewServer(ctx, source, sotwAcks{p}),
	})
	socket := filepath.Join(dir, "plane.sock")
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	go func() { _ = p.grpc.Serve(listener) }()
	// A client that is ready has sent its first ACK; the server must have read it, too,
	// else that one could count for the first push.
	clients := len(m.world.Proxies)
	p.wanted.Store(int64(clients * len(m.order)))
	p.fleet, err = startFleet(ctx, fleetConfig{Socket: socket, Clients: clients, Sotw: kind.sotw, Want: m.order})
	if err == nil {
		err = p.await(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// planeService is what go-control-plane's server package registers; that package alone
// needs a module that nothing else here does.
type planeService struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	delta delta.Server
	sotw  sotw.Server
}

// DeltaAggregatedResources serves a client of the incremental protocol.
func (s *planeService) DeltaAggregatedResources(str discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return s.delta.DeltaStreamHandler(str, resource.AnyType)
}

// StreamAggregatedResources serves a client of the state-of-the-world protocol.
func (s *planeService) StreamAggregatedResources(str discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.sotw.StreamHandler(str, resource.AnyType)
}

// acked counts an answer.
func (p *plane) acked(nonce string) {
	if nonce != "" && p.wanted.Add(-1) == 0 {
		p.done <- struct{}{}
	}
}

// deltaAcks are the callbacks of the incremental protocol.
type deltaAcks struct{ plane *plane }

func (deltaAcks) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }
func (deltaAcks) OnDeltaStreamClosed(int64, *corev3.Node)                {}
func (a deltaAcks) OnStreamDeltaRequest(_ int64, req *discoveryv3.DeltaDiscoveryRequest) error {
	a.plane.acked(req.GetResponseNonce())
	return nil
}
func (deltaAcks) OnStreamDeltaResponse(int64, *discoveryv3.DeltaDiscoveryRequest, *discoveryv3.DeltaDiscoveryResponse) {
}

// sotwAcks are those of the state-of-the-world protocol.
type sotwAcks struct{ plane *plane }

func (sotwAcks) OnStreamOpen(context.Context, int64, string) error { return nil }
func (sotwAcks) OnStreamClosed(int64, *corev3.Node)                {}
func (a sotwAcks) OnStreamRequest(_ int64, req *discoveryv3.DiscoveryRequest) error {
	a.plane.acked(req.GetResponseNonce())
	return nil
}
func (sotwAcks) OnStreamResponse(context.Context, int64, *discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {
}

// oneNode makes all proxies one node of a snapshot cache.
type oneNode struct{}

// ID implements cache.NodeHash.
func (oneNode) ID(*corev3.Node) string { return "all" }

func (p *plane) snapshot(ctx context.Context, snapshots cache.SnapshotCache, changed types.Resource) error {
	list := make([]types.Resource, 0, len(p.mesh.names))
	for _, name := range p.mesh.names {
		if name == p.mesh.changed {
			list = append(list, changed)
			continue
		}
		list = append(list, p.mesh.base[name])
	}
	next, err := cache.NewSnapshot(strconv.Itoa(p.pushes), map[resource.Type][]types.Resource{resource.EndpointType: list})
	if err != nil {
		return err
	}
	return snapshots.SetSnapshot(ctx, "all", next)
}

func (p *plane) push(ctx context.Context) error {
	p.pushes++
	changed := p.mesh.drain
	if p.pushes%2 == 0 {
		changed = p.mesh.healthy
	}
	p.wanted.Store(int64(len(p.mesh.world.Proxies)))
	if err := p.set(ctx, changed); err != nil {
		return err
	}
	return p.await(ctx)
}

// await returns when all ACKs that are wanted have come.
func (p *plane) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pushWithin)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d ACKs of the reference are missing: %w", p.wanted.Load(), ctx.Err())
	}
}

func (p *plane) close() error {
	var err error
	if p.fleet != nil {
		err = p.fleet.stop()
	}
	p.grpc.Stop()
	return err
}

// lapse is what pushes took: the last ACK in seconds, and the server's processor time.
type pushTimes struct {
	last []float64 // ms, of each push
	cpu  float64   // us, of one push to one stream
}

func (t *pushTimes) median() float64 { return median(slices.Clone(t.last)) }

// pushes makes so many pushes and takes their times.
func pushes(ctx context.Context, s side, streams, n int) (pushTimes, error) {
	var out pushTimes
	began := cpuTime()
	for range n {
		start := time.Now()
		if err := s.push(ctx); err != nil {
			return out, err
		}
		out.last = append(out.last, float64(time.Since(start))/nsOfMs)
	}
	out.cpu = float64(cpuTime()-began) / float64(n*streams) / nsOfUs
	return out, nil
}
