package main

import (
	"context"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"google.golang.org/grpc"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/xds"
)

const (
	fleetOfEnvoys   = 30
	pushesToEnvoys  = 20
	pushToEnvoysIn  = 20 * time.Second
	betweenPushes   = 20 * time.Millisecond
	flippedInstance = mesh.UID("app-0")
)

// envoy30 is the time from the change of an instance's health to an Envoy's ACK of its
// endpoints, over 30 Envoys; beside it go-control-plane's linear cache pushes the same
// resources to 30 others.
func envoy30() Bench {
	return Bench{
		Rows: []Row{{Name: "envoy30_ack_p50", Unit: "ms", ReferenceName: linearDelta().name, Rule: Times, Floor: 1.1, Reach: 0.8}},
		Runs: 3,
		Open: func(ctx context.Context, env *Env) (Measure, error) {
			e, err := openEnvoys(ctx, env, fleetOfEnvoys, 2)
			if err != nil {
				return nil, err
			}
			p, err := openLinear(ctx, env, e)
			if err != nil {
				return nil, err
			}
			run := 0
			return func(ctx context.Context) ([]Pair, error) {
				run++
				var times [2][]float64
				for n := range 2 * pushesToEnvoys {
					push := e.flip
					if i := (n + run) % 2; i == 1 {
						push = p.flip
					}
					acks, err := push(ctx)
					if err != nil {
						return nil, err
					}
					times[(n+run)%2] = append(times[(n+run)%2], acks...)
					if err := pause(ctx, betweenPushes); err != nil {
						return nil, err
					}
				}
				return []Pair{{Ours: median(times[0]), Reference: median(times[1])}}, nil
			}, nil
		},
	}
}

// flip changes the health of an instance and returns when each caller has ACKed, in ms.
func (e *envoys) flip(ctx context.Context) ([]float64, error) {
	next := mesh.Unready
	if e.world.Services[0].Instances[0].State == mesh.Unready {
		next = mesh.Ready
	}
	started := time.Now()
	e.state(flippedInstance, next)
	var acks []float64
	err := within(ctx, pushToEnvoysIn, "all Envoys ACK", func() bool {
		acks = acks[:0]
		for _, p := range e.server.Proxies() {
			for _, t := range p.Types {
				if t.Type != xds.EndpointType.Short() || t.Resources == 0 {
					continue
				}
				if t.Acked < t.Sent || t.AckedAt.Before(started) {
					return false
				}
				acks = append(acks, float64(t.AckedAt.Sub(started))/nsOfMs)
			}
		}
		return true
	})
	return acks, err
}

// linear is go-control-plane with a linear cache of each type, and Envoys of its own.
type linear struct {
	endpoints *cache.LinearCache
	states    [2]map[string]types.Resource // ready, unready
	flips     int

	mu      sync.Mutex
	started time.Time
	acks    map[int64]float64 // by stream
}

// openLinear serves what e's callers have, but for their listeners, which differ.
func openLinear(ctx context.Context, env *Env, e *envoys) (*linear, error) {
	p := &linear{acks: map[int64]float64{}}
	var clusters map[string]types.Resource
	caller := "caller-00"
	for i, state := range []mesh.InstanceState{mesh.Ready, mesh.Unready} {
		world := *e.world
		world.Services = slices.Clone(world.Services)
		world.Services[0].Instances = slices.Clone(world.Services[0].Instances)
		world.Services[0].Instances[0].State = state
		built := xds.Base(&world, caller)
		clusters, p.states[i] = byName(built.Clusters), byName(built.Endpoints)
	}
	p.endpoints = cache.NewLinearCache(resource.EndpointType, cache.WithInitialResources(maps.Clone(p.states[0])))
	caches := map[string]cache.Cache{
		resource.ClusterType:  cache.NewLinearCache(resource.ClusterType, cache.WithInitialResources(clusters)),
		resource.EndpointType: p.endpoints,
		resource.ListenerType: cache.NewLinearCache(resource.ListenerType),
		resource.RuntimeType:  cache.NewLinearCache(resource.RuntimeType),
	}
	mux := &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        caches,
	}
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, &planeService{delta: delta.NewServer(ctx, mux, p)})
	dir, err := socketDir(env)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "plane.sock")
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	go func() { _ = server.Serve(listener) }()
	env.Defer(func() error { server.Stop(); return nil })
	return p, p.start(ctx, env, dir, socket)
}

func byName(list []xds.Resource) map[string]types.Resource {
	out := map[string]types.Resource{}
	for _, r := range list {
		out[r.Name] = r.Message
	}
	return out
}

// start starts the Envoys, one after the other.
func (p *linear) start(ctx context.Context, env *Env, dir, socket string) error {
	binary, err := envoy.Find(ctx, "", os.Stderr)
	if err != nil {
		return err
	}
	others, err := liveWorld(fleetOfEnvoys, 0)
	if err != nil {
		return err
	}
	starter := &envoys{dir: dir}
	env.Defer(starter.close)
	for i := range others.Proxies {
		if err := starter.run(binary, &others.Proxies[i], socket); err != nil {
			return err
		}
		if err := pause(ctx, envoyStagger); err != nil {
			return err
		}
	}
	env.Note("%d Envoys of the reference started", len(others.Proxies))
	return within(ctx, envoysReady, "all Envoys of the reference have their endpoints", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.acks) == fleetOfEnvoys
	})
}

// flip changes the same as the other flip.
func (p *linear) flip(ctx context.Context) ([]float64, error) {
	p.flips++
	p.mu.Lock()
	clear(p.acks)
	p.started = time.Now()
	p.mu.Unlock()
	if err := p.endpoints.UpdateResources(p.states[p.flips%2], nil); err != nil {
		return nil, err
	}
	var acks []float64
	err := within(ctx, pushToEnvoysIn, "all Envoys of the reference ACK", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		acks = slices.Collect(maps.Values(p.acks))
		return len(acks) == fleetOfEnvoys
	})
	return acks, err
}

// OnStreamDeltaRequest notes an ACK of endpoints.
func (p *linear) OnStreamDeltaRequest(id int64, req *discoveryv3.DeltaDiscoveryRequest) error {
	if req.GetTypeUrl() == resource.EndpointType && req.GetResponseNonce() != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.acks[id] = float64(time.Since(p.started)) / nsOfMs
	}
	return nil
}

// OnDeltaStreamOpen implements delta.Callbacks.
func (p *linear) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }

// OnDeltaStreamClosed implements delta.Callbacks.
func (p *linear) OnDeltaStreamClosed(int64, *corev3.Node) {}

// OnStreamDeltaResponse implements delta.Callbacks.
func (p *linear) OnStreamDeltaResponse(int64, *discoveryv3.DeltaDiscoveryRequest, *discoveryv3.DeltaDiscoveryResponse) {
}
