package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/xds"
)

// rig is a small mesh on real Envoys: an ingress, two instances of shop/cart and one of
// shop/solo behind sidecars, one of the raw TCP service shop/store without a sidecar.
type rig struct {
	t       *testing.T // the running subtest
	root    *testing.T
	dir     string
	server  *Server
	traffic *Traffic
	stop    context.CancelFunc // of the server
	stopped chan error
	world   *mesh.World
	apps    map[mesh.UID]*app
	api     string // of the Envoys' bootstrap
	binary  envoy.Binary
	metrics *prometheus.Registry // of the present control plane
	workers int                  // threads of each Envoy, 0 = 1
}

// The two variants of the protocol, as a bootstrap names them.
const (
	deltaAPI = "DELTA_GRPC"
	stateAPI = "GRPC"
)

const rigTTL = 3 * time.Second

// newRig starts everything and waits until each Envoy serves. The Envoys' ADS is of the
// variant api.
func newRig(t *testing.T, api string) *rig {
	t.Helper()
	return newRigWith(t, api, 1)
}

// newRigWith is newRig with Envoys of so many workers.
func newRigWith(t *testing.T, api string, workers int) *rig {
	t.Helper()
	r := newRigOf(t, api, rigWorld(t))
	r.workers = workers
	for i := range r.world.Proxies {
		r.start(r.binary, &r.world.Proxies[i])
	}
	eventually(t, 20*time.Second, "all proxies have taken everything", r.settled)
	return r
}

// newRigOf starts the applications and the control plane of a world, and no Envoy.
func newRigOf(t *testing.T, api string, world *mesh.World) *rig {
	t.Helper()
	binary, err := envoy.Find(t.Context(), "", io.Discard)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := shortDir(t)
	r := &rig{t: t, root: t, dir: dir, apps: map[mesh.UID]*app{}, api: api, binary: binary, world: world}
	for _, state := range r.world.Services {
		for _, instance := range state.Instances {
			r.apps[instance.UID] = newApp(t, instance.App, instance.Name, state.Protocol)
		}
	}
	r.serve()
	return r
}

// serve starts a control plane that knows nothing of any before it.
func (r *rig) serve() {
	r.metrics = prometheus.NewRegistry()
	log := slog.New(slog.NewTextHandler(testWriter{r.root}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	server, err := New(Config{Socket: filepath.Join(r.dir, "x.sock"), World: r.world, Log: log, TTL: rigTTL, Registerer: r.metrics})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.server, r.traffic, r.stop, r.stopped = server, server.Traffic(), cancel, make(chan error, 1)
	stopped := r.stopped
	go func() { stopped <- server.Serve(ctx) }()
	r.root.Cleanup(cancel)
}

// kill stops the control plane.
func (r *rig) kill() {
	r.stop()
	if err := <-r.stopped; err != nil {
		r.t.Fatal(err)
	}
}

// start runs one Envoy until the test ends.
func (r *rig) start(binary envoy.Binary, p *mesh.Proxy) {
	path := filepath.Join(r.dir, p.Node+".json")
	bootstrap := envoy.Bootstrap(envoy.Options{
		Node: p.Node, Cluster: string(p.Service), Admin: p.Admin, XDSSocket: filepath.Join(r.dir, "x.sock"),
	})
	bootstrap = bytes.Replace(bootstrap, []byte(deltaAPI), []byte(r.api), 1)
	if err := os.WriteFile(path, bootstrap, 0o600); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(binary.Path, envoy.Args(path, r.workers)...)
	cmd.Stderr = testWriter{r.t}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// settled reports whether every proxy has taken the newest version of everything.
func (r *rig) settled() bool {
	s := r.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.nodes {
		for _, t := range xds.Types() {
			if !s.took(n, t) {
				return false
			}
		}
	}
	return len(s.loads) == len(s.nodes)
}

// setState tells the control plane how an instance is now.
func (r *rig) setState(uid mesh.UID, state mesh.InstanceState) {
	world := *r.world
	world.Services = slices.Clone(world.Services)
	for i := range world.Services {
		world.Services[i].Instances = slices.Clone(world.Services[i].Instances)
		for j := range world.Services[i].Instances {
			if instance := &world.Services[i].Instances[j]; instance.UID == uid {
				instance.State = state
			}
		}
	}
	world.Version++
	r.world = &world
	r.server.SetWorld(r.world)
}

// rigWorld is the mesh as the registry would describe it.
func rigWorld(t *testing.T) *mesh.World {
	cart0, cart1, solo, store := freePort(t), freePort(t), freePort(t), freePort(t)
	instance := func(service mesh.Service, name string, app netip.AddrPort, sidecar bool) mesh.Instance {
		i := mesh.Instance{
			Ref: mesh.Ref{Service: service, UID: mesh.UID(name), Incarnation: 1}, Name: name,
			State: mesh.Ready, App: app, Inbound: app,
		}
		if sidecar {
			i.Inbound, i.Proxy = freePort(t), name
		}
		return i
	}
	w := &mesh.World{Version: 1, Services: []mesh.ServiceState{
		{Name: "shop/cart", Protocol: mesh.HTTP, Replicas: 2, Instances: []mesh.Instance{
			instance("shop/cart", "cart-0", cart0, true), instance("shop/cart", "cart-1", cart1, true),
		}},
		{Name: "shop/solo", Protocol: mesh.HTTP, Replicas: 1, Instances: []mesh.Instance{
			instance("shop/solo", "solo-0", solo, true),
		}},
		{Name: "shop/store", Protocol: mesh.TCP, Replicas: 1, Instances: []mesh.Instance{
			instance("shop/store", "store-0", store, false),
		}},
	}}
	for _, s := range w.Services {
		for _, i := range s.Instances {
			if i.Proxy != "" {
				w.Proxies = append(w.Proxies, mesh.Proxy{
					Node: i.Proxy, Service: i.Service, Instance: i.UID,
					Admin: freePort(t), Inbound: i.Inbound, App: i.App, Park: freePort(t),
				})
			}
		}
	}
	gateway := mesh.Proxy{Node: "ingress", Service: "outside/web", Admin: freePort(t), Park: freePort(t)}
	for _, s := range w.Services {
		gateway.Outbound = append(gateway.Outbound, mesh.Outbound{
			Service: s.Name, Listen: freePort(t), Timeout: 15 * time.Second,
		})
		if s.Name == "shop/cart" { // it is never held for long
			gateway.Outbound[len(gateway.Outbound)-1].Timeout = 4 * time.Second
		}
	}
	w.Proxies = append(w.Proxies, gateway)
	slices.SortFunc(w.Proxies, func(a, b mesh.Proxy) int { return strings.Compare(a.Node, b.Node) })
	w.Gateways = []mesh.Gateway{{Name: "outside/web", Service: "shop/cart", Proxy: "ingress"}}
	return w
}

// front is the address at which the ingress serves a service.
func (r *rig) front(service mesh.Service) string {
	for _, p := range r.world.Proxies {
		for _, out := range p.Outbound {
			if out.Service == service {
				return out.Listen.String()
			}
		}
	}
	r.t.Fatalf("no listener for %s", service)
	return ""
}

// drainOf is the overlay that takes an instance out of service and holds what is left.
func drainOf(service mesh.Service, generation uint64, uids ...mesh.UID) mesh.Overlay {
	return mesh.Overlay{
		Key:  mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: service},
		Plan: "test", Step: "d1", Generation: generation, Lease: 30 * time.Second,
		Drain: &mesh.DrainOverlay{Instances: uids, Share: 100, OnEmpty: mesh.OnEmptyHold, Hold: 10 * time.Second},
	}
}

// apply applies o or fails the test.
func (r *rig) apply(o mesh.Overlay) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	acks, err := r.traffic.Apply(ctx, o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("applied to %s: %+v", o.Key.Callee, acks)
}

// prove waits for a proof that the predicate likes.
func (r *rig) prove(o mesh.Overlay, likes func(mesh.Proof) bool) mesh.Proof {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	var last mesh.Proof
	start := time.Now()
	err := r.traffic.Prove(ctx, o.Key, o.Generation, func(p mesh.Proof) {
		if last = p; likes(p) {
			cancel()
		}
	})
	if err != nil || !likes(last) {
		r.t.Fatalf("no proof after %s: %v, last %+v", time.Since(start), err, last)
	}
	r.t.Logf("proved after %s: %+v", time.Since(start), last)
	return last
}

// empty is what the kernel asks of a proof of grade A.
func empty(p mesh.Proof) bool {
	return p.Required == p.Acked && p.Acked == p.Reported && p.InFlight == 0 && p.Inbound <= 0 &&
		p.Quiet >= 50*time.Millisecond && !p.Lapsed
}

func (r *rig) withdraw(o mesh.Overlay, ramp time.Duration) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	if err := r.traffic.Withdraw(ctx, o.Key, ramp); err != nil {
		r.t.Fatal(err)
	}
}

// restart kills an instance, leaves it down for a while, and starts it again.
func (r *rig) restart(uid mesh.UID, down time.Duration) {
	a := r.apps[uid]
	if n := a.inFlight.Load(); n > 0 {
		r.t.Errorf("%d requests are in flight on %s when it is killed", n, uid)
	}
	r.setState(uid, mesh.Stopped)
	a.kill()
	pause(r.t, down)
	a.start()
	r.setState(uid, mesh.Ready)
}

// pause lets real time pass while Envoys and load run.
func pause(t *testing.T, d time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}

// eventually polls a condition until a deadline.
func eventually(t *testing.T, within time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
		pause(t, 5*time.Millisecond)
	}
}

// shortDir is a directory whose name is short enough for a socket in it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func listenTCP(ctx context.Context, address netip.AddrPort) (net.Listener, error) {
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address.String())
}

// ports counts those that freePort gave away: each is given once.
var ports atomic.Uint32 //nolint:gochecknoglobals // one count for all tests of the process

// freePort returns a port of the loopback that is free now, above those that the system
// hands to outgoing connections: nobody takes it before an Envoy listens there.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	const first, count = 61000, 4500
	for range count {
		port := uint16(first + (ports.Add(1)+uint32(os.Getpid())*97)%count)
		address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		if listener, err := listenTCP(t.Context(), address); err == nil {
			listener.Close()
			return address
		}
	}
	t.Fatal("no free port from 61000 on")
	return netip.AddrPort{}
}

// testWriter writes to a test's log, as long as it runs.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if errors.Is(w.t.Context().Err(), context.Canceled) {
		return len(p), nil
	}
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}
