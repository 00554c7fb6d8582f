package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/xds/server"
)

const (
	envoyStagger = 150 * time.Millisecond // between two starts: each wants a processor for a while
	envoysReady  = 2 * time.Minute
	liveService  = mesh.Service("shop/app")
)

// envoys is a small mesh of real proxies: callers, and a service of some instances, each
// behind its own.
type envoys struct {
	dir     string
	world   *mesh.World
	server  *server.Server
	stop    context.CancelFunc
	stopped chan error
	running []*exec.Cmd
	apps    map[mesh.UID]*application
	workers int // threads of each Envoy, 0 = 1
	// generation is the last one that an overlay had.
	generation uint64
}

// openEnvoys starts callers and instances and returns when all have their configuration.
func openEnvoys(ctx context.Context, env *Env, callers, instances int) (*envoys, error) {
	binary, err := envoy.Find(ctx, "", os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := socketDir(env)
	if err != nil {
		return nil, err
	}
	e := &envoys{dir: dir, apps: map[mesh.UID]*application{}, stopped: make(chan error, 1)}
	env.Defer(e.close)
	if e.world, err = liveWorld(callers, instances); err != nil {
		return nil, err
	}
	for _, instance := range e.world.Services[0].Instances {
		e.apps[instance.UID] = &application{address: instance.App}
		if err := e.apps[instance.UID].start(); err != nil {
			return nil, err
		}
	}
	socket := filepath.Join(dir, "xds.sock")
	if e.server, err = server.New(server.Config{Socket: socket, World: e.world}); err != nil {
		return nil, err
	}
	serving, stop := context.WithCancel(ctx)
	e.stop = stop
	go func() { e.stopped <- e.server.Serve(serving) }()
	for i := range e.world.Proxies {
		if err := e.run(binary, &e.world.Proxies[i], socket); err != nil {
			return nil, err
		}
		env.Note("Envoy %d of %d started", i+1, len(e.world.Proxies))
		if err := pause(ctx, envoyStagger); err != nil {
			return nil, err
		}
	}
	return e, within(ctx, envoysReady, "all Envoys have their configuration", e.ready)
}

// run starts one Envoy.
func (e *envoys) run(binary envoy.Binary, p *mesh.Proxy, socket string) error {
	path := filepath.Join(e.dir, p.Node+".json")
	bootstrap := envoy.Bootstrap(envoy.Options{Node: p.Node, Cluster: string(p.Service), Admin: p.Admin, XDSSocket: socket})
	if err := os.WriteFile(path, bootstrap, 0o600); err != nil {
		return err
	}
	command := exec.Command(binary.Path, envoy.Args(path, e.workers)...)
	command.Stdout, command.Stderr = io.Discard, io.Discard
	if err := command.Start(); err != nil {
		return fmt.Errorf("start Envoy: %w", err)
	}
	e.running = append(e.running, command)
	return nil
}

// ready reports whether every proxy has ACKed all that it was sent, and is reachable.
func (e *envoys) ready() bool {
	for _, p := range e.server.Proxies() {
		if p.Connected.IsZero() {
			return false
		}
		for _, t := range p.Types {
			if t.Resources > 0 && t.Acked < max(t.Sent, 1) {
				return false
			}
		}
	}
	for i := range e.world.Proxies {
		for _, out := range e.world.Proxies[i].Outbound {
			conn, err := net.DialTimeout("tcp", out.Listen.String(), time.Second)
			if err != nil {
				return false
			}
			_ = conn.Close()
		}
	}
	return true
}

// close ends what was started, by process.
func (e *envoys) close() error {
	for _, command := range e.running {
		_ = command.Process.Kill()
	}
	for _, command := range e.running {
		_ = command.Wait()
	}
	for _, a := range e.apps {
		a.kill()
	}
	if e.stop == nil {
		return nil
	}
	e.stop()
	return <-e.stopped
}

// liveWorld is a mesh on ports that are free now.
func liveWorld(callers, instances int) (*mesh.World, error) {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	var failed error
	port := func() netip.AddrPort {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			failed = err
			return netip.AddrPort{}
		}
		listeners = append(listeners, l) // held until all are taken, so that none is given twice
		return l.Addr().(*net.TCPAddr).AddrPort()
	}
	state := mesh.ServiceState{Name: liveService, Protocol: mesh.HTTP, Replicas: instances}
	w := &mesh.World{Version: 1}
	for i := range instances {
		name := fmt.Sprintf("app-%d", i)
		in := mesh.Instance{Ref: mesh.Ref{Service: liveService, UID: mesh.UID(name), Incarnation: 1}, Name: name, State: mesh.Ready,
			App: port(), Inbound: port(), Proxy: name}
		state.Instances = append(state.Instances, in)
		w.Proxies = append(w.Proxies, mesh.Proxy{Node: name, Service: liveService, Instance: in.UID,
			Admin: port(), Inbound: in.Inbound, App: in.App, Park: port()})
	}
	for i := range callers {
		w.Proxies = append(w.Proxies, mesh.Proxy{Node: fmt.Sprintf("caller-%02d", i), Service: mesh.Service(fmt.Sprintf("outside/caller-%d", i)),
			Admin: port(), Park: port(), Outbound: []mesh.Outbound{{Service: liveService, Listen: port(), Timeout: 15 * time.Second}}})
	}
	w.Services = []mesh.ServiceState{state}
	slices.SortFunc(w.Proxies, func(a, b mesh.Proxy) int { return strings.Compare(a.Node, b.Node) })
	return w, failed
}

// fronts lists the addresses at which the callers' proxies serve the service.
func (e *envoys) fronts() []string {
	var out []string
	for i := range e.world.Proxies {
		for _, o := range e.world.Proxies[i].Outbound {
			out = append(out, o.Listen.String())
		}
	}
	return out
}

// drain is the overlay that takes an instance out of service.
func (e *envoys) drain(uid mesh.UID, generation uint64) mesh.Overlay {
	return mesh.Overlay{
		Key: mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: liveService}, Plan: "bench", Step: "d1", Generation: generation, Lease: 30 * time.Second,
		Drain: &mesh.DrainOverlay{Instances: []mesh.UID{uid}, Share: 100, OnEmpty: mesh.OnEmptyHold, Hold: 10 * time.Second},
	}
}

// state tells the control plane how an instance is.
func (e *envoys) state(uid mesh.UID, s mesh.InstanceState) {
	world := *e.world
	world.Services = slices.Clone(world.Services)
	world.Services[0].Instances = slices.Clone(world.Services[0].Instances)
	for i := range world.Services[0].Instances {
		if in := &world.Services[0].Instances[i]; in.UID == uid {
			in.State = s
		}
	}
	world.Version++
	e.world = &world
	e.server.SetWorld(e.world)
}

// application is one instance: it answers after a while.
type application struct {
	address netip.AddrPort
	server  *http.Server
	serving sync.WaitGroup
	inside  atomic.Int64
	ended   atomic.Int64 // when the last request ended, ns of the clock
	release chan struct{}
	takes   time.Duration
}

func (a *application) start() error {
	listener, err := net.Listen("tcp", a.address.String())
	if err != nil {
		return err
	}
	a.server = &http.Server{Handler: a, ReadHeaderTimeout: time.Minute}
	a.serving.Go(func() { _ = a.server.Serve(listener) })
	return nil
}

// kill ends it as kill -9 would: what is in flight is lost.
func (a *application) kill() {
	if a.server != nil {
		_ = a.server.Close()
	}
	a.serving.Wait()
}

// ServeHTTP implements http.Handler.
func (a *application) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a.inside.Add(1)
	defer a.inside.Add(-1)
	select {
	case <-req.Context().Done():
	case <-a.release:
	case <-time.After(a.takes):
	}
	a.ended.Store(time.Now().UnixNano())
}

// within polls a condition until a deadline.
func within(ctx context.Context, limit time.Duration, what string, condition func() bool) error {
	for until := time.Now().Add(limit); !condition(); {
		if time.Now().After(until) {
			return errors.New("not in time: " + what)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
