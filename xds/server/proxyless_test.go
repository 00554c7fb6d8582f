package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	grpcxds "google.golang.org/grpc/xds"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// grpcApp is an instance that serves gRPC; who answers stands in a header.
type grpcApp struct {
	t        *testing.T
	address  netip.AddrPort
	name     string
	server   *grpc.Server
	stopped  chan error
	inFlight atomic.Int64
	release  chan struct{} // closed: calls that hang are answered
}

func newGRPCApp(t *testing.T, name string) *grpcApp {
	a := &grpcApp{t: t, address: freePort(t), name: name, release: make(chan struct{})}
	a.start()
	t.Cleanup(a.kill)
	return a
}

func (a *grpcApp) start() {
	listener, err := listenTCP(a.t.Context(), a.address)
	if err != nil {
		a.t.Fatal(err)
	}
	a.server = grpc.NewServer(grpc.UnknownServiceHandler(a.handle))
	a.stopped = make(chan error, 1)
	go func() { a.stopped <- a.server.Serve(listener) }()
}

func (a *grpcApp) handle(_ any, stream grpc.ServerStream) error {
	a.inFlight.Add(1)
	defer a.inFlight.Add(-1)
	if err := stream.RecvMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	answer := time.After(handlerTime)
	if method, _ := grpc.MethodFromServerStream(stream); strings.HasSuffix(method, "/Hang") {
		answer = nil
	}
	select {
	case <-stream.Context().Done():
	case <-a.release:
	case <-answer:
	}
	if err := stream.SetHeader(metadata.Pairs("x-app", a.name)); err != nil {
		return err
	}
	return stream.SendMsg(new(emptypb.Empty))
}

// kill ends the server with all its calls.
func (a *grpcApp) kill() {
	a.server.Stop()
	<-a.stopped
}

// bootstrapOf is what a gRPC client is told of its control plane.
func bootstrapOf(socket, node string) string {
	return fmt.Sprintf(`{"xds_servers": [{"server_uri": "unix://%s", "channel_creds": [{"type": "insecure"}],
		"server_features": ["xds_v3"]}], "node": {"id": %q, "cluster": "shop/web"}}`, socket, node)
}

// grpcClient calls shop/cart, which it finds by xDS alone.
type grpcClient struct {
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	calls  sync.WaitGroup
	mu     sync.Mutex
	byApp  map[string]int
	faults []error
}

func newGRPCClient(t *testing.T, socket, node string) *grpcClient {
	t.Helper()
	builder, err := grpcxds.NewXDSResolverWithConfigForTesting([]byte(bootstrapOf(socket, node)))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("xds:///shop/cart", grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := &grpcClient{conn: conn, cancel: cancel, byApp: map[string]int{}}
	t.Cleanup(func() { c.stop(t) })
	c.calls.Go(func() { c.load(ctx) })
	return c
}

// load makes a call each 10 ms.
func (c *grpcClient) load(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.calls.Go(func() { c.invoke("/shop.Cart/Buy") })
		}
	}
}

func (c *grpcClient) invoke(method string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var header metadata.MD
	err := c.conn.Invoke(ctx, method, new(emptypb.Empty), new(emptypb.Empty), grpc.Header(&header))
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.faults = append(c.faults, err)
		return
	}
	c.byApp[strings.Join(header.Get("x-app"), "")]++
}

// answered counts the calls that an instance answered; of all, if name is "".
func (c *grpcClient) answered(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name != "" {
		return c.byApp[name]
	}
	total := 0
	for _, n := range c.byApp {
		total += n
	}
	return total
}

// stop ends the load and demands that no call failed.
func (c *grpcClient) stop(t *testing.T) {
	t.Helper()
	c.cancel()
	c.calls.Wait()
	_ = c.conn.Close()
	if len(c.faults) > 0 {
		t.Errorf("%d calls failed, the first: %v", len(c.faults), c.faults[0])
	}
	c.faults = nil
}

// proxylessWorld is shop/cart, two instances without sidecars, called by three gRPC
// clients. Of the first the registry does not know that it is one.
func proxylessWorld(apps ...*grpcApp) *mesh.World {
	cart := mesh.ServiceState{Name: "shop/cart", Protocol: mesh.HTTP, Replicas: len(apps)}
	for _, a := range apps {
		cart.Instances = append(cart.Instances, mesh.Instance{
			Ref: mesh.Ref{Service: "shop/cart", UID: mesh.UID(a.name), Incarnation: 1}, Name: a.name,
			State: mesh.Ready, App: a.address, Inbound: a.address,
		})
	}
	world := &mesh.World{Version: 1, Services: []mesh.ServiceState{cart, {Name: "shop/web", Protocol: mesh.HTTP}}}
	for i, kind := range []mesh.ProxyKind{mesh.ProxyEnvoy, mesh.Proxyless, mesh.Proxyless} {
		world.Proxies = append(world.Proxies, mesh.Proxy{
			Node: fmt.Sprintf("web-%d", i), Service: "shop/web", Kind: kind,
			Outbound: []mesh.Outbound{{Service: "shop/cart", Timeout: 10 * time.Second}},
		})
	}
	return world
}

func dropped(uids ...mesh.UID) mesh.Overlay {
	o := drainOf("shop/cart", 1, uids...)
	o.Drain.OnEmpty, o.Drain.Hold = mesh.OnEmptyNone, 0
	return o
}

// TestProxyless drains, restarts and restores an instance that real gRPC clients call,
// without any proxy: no call fails.
func TestProxyless(t *testing.T) {
	a, b := newGRPCApp(t, "cart-0"), newGRPCApp(t, "cart-1")
	r := &rig{t: t, root: t, world: proxylessWorld(a, b)}
	r.dir = shortDir(t)
	r.serve()
	socket := filepath.Join(r.dir, "x.sock")
	clients := []*grpcClient{newGRPCClient(t, socket, "web-0"), newGRPCClient(t, socket, "web-1")}
	for _, c := range clients {
		eventually(t, 10*time.Second, "both instances answer", func() bool {
			return c.answered("cart-0") > 5 && c.answered("cart-1") > 5
		})
	}
	o := dropped("cart-0")
	r.apply(o)
	late := newGRPCClient(t, socket, "web-2") // it has the drain from its first moment
	p := r.prove(o, func(p mesh.Proof) bool {
		return p.Required == 3 && p.Acked == 3 && p.Reported == 3 && p.InFlight == 0 && p.Quiet >= clientInterval
	})
	if p.Inbound != -1 || a.inFlight.Load() > 0 {
		t.Errorf("inbound %d, in flight %d; want -1, since there is no sidecar, and 0", p.Inbound, a.inFlight.Load())
	}
	before := clients[0].answered("cart-0") + clients[1].answered("cart-0")
	a.kill()
	for _, c := range append(clients, late) {
		from := c.answered("")
		eventually(t, 5*time.Second, "the other instance answers", func() bool { return c.answered("") > from+30 })
	}
	if n := clients[0].answered("cart-0") + clients[1].answered("cart-0") - before; n != 0 || late.answered("cart-0") > 0 {
		t.Errorf("the drained instance answered %d and %d", n, late.answered("cart-0"))
	}
	a.start()
	r.withdraw(o, 200*time.Millisecond)
	for _, c := range append(clients, late) {
		from := c.answered("cart-0")
		eventually(t, 5*time.Second, "it serves again", func() bool { return c.answered("cart-0") > from+10 })
	}
	proxylessReconnect(t, r, a, append(clients, late))
	for _, c := range append(clients, late) {
		c.stop(t)
	}
}

// TestProxylessBehindSidecars has gRPC clients call instances that have an Envoy each: then
// the callee's side is counted, too, and the proof is of grade A.
func TestProxylessBehindSidecars(t *testing.T) {
	r := newRigOf(t, deltaAPI, &mesh.World{})
	a, b := newGRPCApp(t, "cart-0"), newGRPCApp(t, "cart-1")
	world := proxylessWorld(a, b)
	for i := range world.Services[0].Instances {
		instance := &world.Services[0].Instances[i]
		instance.Inbound, instance.Proxy = freePort(t), instance.Name
		world.Proxies = append(world.Proxies, mesh.Proxy{
			Node: instance.Name, Service: instance.Service, Instance: instance.UID,
			Admin: freePort(t), Inbound: instance.Inbound, App: instance.App, Park: freePort(t),
		})
	}
	slices.SortFunc(world.Proxies, func(x, y mesh.Proxy) int { return strings.Compare(x.Node, y.Node) })
	r.world = world
	r.server.SetWorld(world)
	for _, node := range []string{"cart-0", "cart-1"} {
		p := xds.FindProxy(world, node)
		r.start(r.binary, p)
		eventually(t, 10*time.Second, "the sidecar listens", func() bool {
			conn, err := net.Dial("tcp", p.Inbound.String())
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
	}
	var clients []*grpcClient
	for i := range 3 {
		clients = append(clients, newGRPCClient(t, filepath.Join(r.dir, "x.sock"), fmt.Sprintf("web-%d", i)))
	}
	for i, app := range []*grpcApp{a, b} {
		for _, c := range clients {
			from := c.answered(app.name)
			eventually(t, 15*time.Second, "the instance answers", func() bool { return c.answered(app.name) > from+5 })
		}
		o := dropped(mesh.UID(app.name))
		o.Generation = uint64(i + 1)
		r.apply(o)
		if p := r.prove(o, empty); p.Required != 3 || p.Inbound != 0 || app.inFlight.Load() > 0 {
			t.Errorf("%+v, %d in flight; want three callers and zero at the callee", p, app.inFlight.Load())
		}
		app.kill()
		pause(t, 300*time.Millisecond)
		app.start()
		r.withdraw(o, 0)
	}
	for _, c := range clients {
		c.stop(t)
	}
}

// proxylessReconnect restarts the control plane under load, and drains again.
func proxylessReconnect(t *testing.T, r *rig, a *grpcApp, clients []*grpcClient) {
	t.Helper()
	r.kill()
	r.serve()
	eventually(t, 10*time.Second, "all clients are back", func() bool {
		connected := 0
		for _, p := range r.server.Proxies() {
			if !p.Connected.IsZero() && p.Client && p.Variant == "state" {
				connected++
			}
		}
		return connected == len(clients)
	})
	o := dropped("cart-0")
	o.Generation = 2
	r.apply(o)
	r.prove(o, func(p mesh.Proof) bool {
		return p.Required == 3 && p.Reported == 3 && p.InFlight == 0 && p.Quiet >= clientInterval
	})
	if n := a.inFlight.Load(); n > 0 {
		t.Errorf("%d calls are in flight on the drained instance", n)
	}
	r.withdraw(o, 0)
}

// What a gRPC client cannot do is refused, also where only the client itself says what it
// is, and shown before.
func TestProxylessIsLimited(t *testing.T) {
	a, b := newGRPCApp(t, "cart-0"), newGRPCApp(t, "cart-1")
	world := proxylessWorld(a, b)
	world.Proxies = world.Proxies[:1]
	r := &rig{t: t, root: t, world: world, dir: shortDir(t)}
	r.serve()
	c := newGRPCClient(t, filepath.Join(r.dir, "x.sock"), "web-0")
	eventually(t, 10*time.Second, "an instance answers", func() bool { return c.answered("") > 0 })
	hold, refuse, share := dropped("cart-0", "cart-1"), dropped("cart-0"), dropped("cart-0")
	hold.Drain.OnEmpty, hold.Drain.Hold = mesh.OnEmptyHold, time.Second
	refuse.Drain.Streams, share.Drain.Share = mesh.StreamsRefuse, 50
	for name, o := range map[string]mesh.Overlay{
		"hold": hold, "refusal": refuse, "share": share, "limit": limitOf("shop/cart", "shop/web", 1, 5, 5),
		"breaker": breakOf("shop/cart", 1, mesh.BreakOverlay{MaxRequests: 5}),
	} {
		if _, err := r.traffic.Apply(t.Context(), o); !errors.Is(err, xds.ErrUnsupported) {
			t.Errorf("%s: got error %v, want ErrUnsupported", name, err)
		}
	}
	want := mesh.Capability{Drain: true, Reroute: true, InPlace: true, Grade: mesh.GradeC, Proxyless: true}
	if got := r.server.Capability(&world.Services[0]); got != want {
		t.Errorf("the capability is %+v, want %+v", got, want)
	}
}

// TestProxylessBootstrapFile has a process of its own find the control plane by the file
// that its environment names, as an application does.
func TestProxylessBootstrapFile(t *testing.T) {
	if os.Getenv("GRPC_XDS_BOOTSTRAP") != "" {
		conn, err := grpc.NewClient("xds:///shop/cart", grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var header metadata.MD
		err = conn.Invoke(ctx, "/shop.Cart/Buy", new(emptypb.Empty), new(emptypb.Empty), grpc.Header(&header))
		t.Logf("answered by %v, %v", header.Get("x-app"), err)
		return
	}
	a := newGRPCApp(t, "cart-0")
	r := &rig{t: t, root: t, world: proxylessWorld(a), dir: shortDir(t)}
	r.serve()
	file := filepath.Join(r.dir, "bootstrap.json")
	if err := os.WriteFile(file, []byte(bootstrapOf(filepath.Join(r.dir, "x.sock"), "web-1")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxylessBootstrapFile$", "-test.v")
	cmd.Env = append(os.Environ(), "GRPC_XDS_BOOTSTRAP="+file)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "answered by [cart-0], <nil>") {
		t.Errorf("got %v:\n%s", err, out)
	}
}

// TestProxylessInFlight leaves calls open on a dropped endpoint: they end by themselves,
// and until then the callers' reports show them.
func TestProxylessInFlight(t *testing.T) {
	a, b := newGRPCApp(t, "cart-0"), newGRPCApp(t, "cart-1")
	world := proxylessWorld(a, b)
	world.Proxies = world.Proxies[:1]
	r := &rig{t: t, root: t, world: world, dir: shortDir(t)}
	r.serve()
	c := newGRPCClient(t, filepath.Join(r.dir, "x.sock"), "web-0")
	eventually(t, 10*time.Second, "both instances answer", func() bool {
		return c.answered("cart-0") > 0 && c.answered("cart-1") > 0
	})
	c.cancel()
	c.calls.Wait()
	for range 16 {
		c.calls.Go(func() { c.invoke("/shop.Cart/Hang") })
	}
	eventually(t, 5*time.Second, "the calls have arrived", func() bool { return a.inFlight.Load()+b.inFlight.Load() == 16 })
	open := int(a.inFlight.Load())
	o := dropped("cart-0")
	r.apply(o)
	if p := r.prove(o, func(p mesh.Proof) bool { return p.Reported == 1 }); p.InFlight != open || p.Quiet > 0 || open == 0 {
		t.Errorf("%+v, want %d in flight", p, open)
	}
	close(a.release)
	close(b.release)
	r.prove(o, func(p mesh.Proof) bool { return p.InFlight == 0 && p.Quiet >= clientInterval })
	r.withdraw(o, 0)
}
