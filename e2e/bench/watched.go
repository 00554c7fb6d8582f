package main

import (
	"context"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/topology/als"
	"github.com/sluicemesh/sluice/topology/feed"
	"github.com/sluicemesh/sluice/xds/server"
)

// Latencies of the watched service in peace: log-normal.
const (
	watchedMedian = 40 * time.Millisecond
	watchedSigma  = 0.6
	watchedP99    = 162 * time.Millisecond // of both: 40 ms x exp(0.6 x 2.326)
)

// mood is how the watched service behaves.
type mood struct {
	slower, failing float64
}

// watched is a small mesh of real proxies that log every request to a feed, as those of
// sluiced do: a caller, and a service of two instances that can be harmed.
type watched struct {
	*envoys
	feed *feed.Feed
	rate int
	mood atomic.Pointer[mood]
}

// openWatched starts the mesh and returns when all proxies have their configuration.
func openWatched(ctx context.Context, env *Env, rate int) (*watched, error) {
	w := &watched{feed: feed.New(time.Now), rate: rate}
	w.mood.Store(&mood{slower: 1})
	binary, err := envoy.Find(ctx, "", os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := socketDir(env)
	if err != nil {
		return nil, err
	}
	w.envoys = &envoys{dir: dir, apps: map[mesh.UID]*application{}, stopped: make(chan error, 1)}
	if w.world, err = liveWorld(1, 2); err != nil {
		return nil, err
	}
	for i, instance := range w.world.Services[0].Instances {
		stop, err := w.serve(instance.App.String(), uint64(i))
		if err != nil {
			return nil, err
		}
		env.Defer(stop)
	}
	env.Defer(w.close)
	socket := filepath.Join(dir, "xds.sock")
	if err := w.listen(ctx, env, socket); err != nil {
		return nil, err
	}
	for i := range w.world.Proxies {
		if err := w.run(binary, &w.world.Proxies[i], socket); err != nil {
			return nil, err
		}
		if err := pause(ctx, envoyStagger); err != nil {
			return nil, err
		}
	}
	return w, within(ctx, envoysReady, "all Envoys have their configuration", w.ready)
}

// listen starts the control plane of the proxies and the feed of what they log.
func (w *watched) listen(ctx context.Context, env *Env, socket string) error {
	var err error
	if w.server, err = server.New(server.Config{Socket: socket, World: w.world}); err != nil {
		return err
	}
	logs, err := als.New(als.Config{Sink: w.feed.Observe})
	if err != nil {
		return err
	}
	logs.Register(w.server.GRPC())
	known := *w.world
	for i := range known.Proxies {
		if p := &known.Proxies[i]; p.Instance == "" { // the feed knows callers by name only
			known.Gateways = append(known.Gateways, mesh.Gateway{Name: p.Service})
		}
	}
	w.feed.SetWorld(&known)
	serving, stop := context.WithCancel(ctx)
	w.stop = stop
	var ticking sync.WaitGroup
	ticking.Go(func() { w.feed.Run(serving, func() []mesh.Service { return nil }) })
	env.Defer(func() error { stop(); ticking.Wait(); return nil })
	go func() { w.stopped <- w.server.Serve(serving) }()
	return nil
}

// serve runs one instance at an address; the function returned ends it.
func (w *watched) serve(address string, seed uint64) (func() error, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 40))
	handler := http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		now := w.mood.Load()
		mu.Lock()
		takes, fails := math.Exp(watchedSigma*rng.NormFloat64()), rng.Float64() < now.failing
		mu.Unlock()
		time.Sleep(time.Duration(takes * now.slower * float64(watchedMedian)))
		if fails {
			answer.WriteHeader(http.StatusInternalServerError)
		}
	})
	s := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(listener) })
	return func() error { err := s.Close(); serving.Wait(); return err }, nil
}
