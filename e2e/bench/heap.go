package main

import (
	"context"
	"errors"
	"runtime"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

const (
	heapProxies   = 1000
	heapUpstreams = 25 // each is two clusters, a base and its twin
	bytesOfKB     = 1000
)

// heapPerProxy is the memory of the server that one more connected proxy takes: what it
// keeps for it, the stream, its goroutines' stacks and the connection's buffers. The
// proxies ask for everything that an Envoy does, of 50 clusters.
func heapPerProxy() Bench {
	return Bench{
		Rows: []Row{{Name: "heap_per_proxy", Unit: "KB", Floor: 120, Reach: 60}},
		Runs: 3,
		Open: func(_ context.Context, env *Env) (Measure, error) {
			return func(ctx context.Context) ([]Pair, error) {
				kb, err := heapOf(ctx, env)
				return []Pair{{Ours: kb}}, err
			}, nil
		},
	}
}

func heapOf(ctx context.Context, env *Env) (float64, error) {
	dir, err := socketDir(env)
	if err != nil {
		return 0, err
	}
	m, err := newPushMesh(heapProxies, heapUpstreams)
	if err != nil {
		return 0, err
	}
	speakHTTP(m.world)
	base := xds.Base(m.world, m.world.Proxies[0].Node)
	var want []subscription
	for _, t := range xds.Types() {
		s := subscription{Type: string(t)}
		for _, r := range base.Of(t) {
			if t != xds.ClusterType && t != xds.ListenerType { // of these all are asked for
				s.Names = append(s.Names, r.Name)
			}
		}
		want = append(want, s)
	}
	before := held()
	s, err := openOurs(ctx, m, dir, false, want)
	if err != nil {
		return 0, err
	}
	after := held()
	runtime.KeepAlive(m)
	return float64(after-before) / heapProxies / bytesOfKB, errors.Join(s.close(), ctx.Err())
}

// speakHTTP makes all services HTTP, so that each upstream has a twin and routes.
func speakHTTP(w *mesh.World) {
	for i := range w.Services {
		w.Services[i].Protocol = mesh.HTTP
	}
	for i := range w.Proxies {
		w.Proxies[i].Park = address(1, 2, 15_000)
	}
}

// held is the memory in use, in bytes, after what is garbage has gone.
func held() int64 {
	var memory runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&memory)
	return int64(memory.HeapAlloc + memory.StackInuse)
}
