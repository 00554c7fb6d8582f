package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluicemesh/sluice/api/server"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/kube"
)

// Bounds of start and end, and of the clients.
const (
	farewell = 3 * time.Second // for open requests at the end
	clientQP = 50              // requests a second to the API server
	clientBu = 100             // of them at once
)

// operator is one replica, leading or not.
type operator struct {
	opts    options
	log     *slog.Logger
	started time.Time
	client  kubernetes.Interface
	objects dynamic.Interface
	cluster *kube.Cluster
	metrics *prometheus.Registry
	turned  *turnedOff

	mu    sync.Mutex
	synch bool        // the cluster has been read
	world *mesh.World // the last
	lead  *leader     // nil = this replica does not lead
}

// run makes the parts, serves until ctx ends or leadership is lost, and takes them down.
func run(ctx context.Context, opts options, log *slog.Logger) error {
	config, err := opts.rest()
	if err != nil {
		return &missingError{fmt.Errorf("cluster: %w; give --kubeconfig, or run in a pod", err)}
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	o := &operator{
		opts: opts, log: log, started: time.Now(), client: client, objects: objects, metrics: prometheus.NewRegistry(),
	}
	o.metrics.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.turned, err = settled(ctx, client, opts.watch); err != nil {
		return &missingError{err}
	}
	for _, reason := range o.turned.reasons {
		log.Warn("turned off", "reason", reason)
	}
	o.cluster = kube.New(kube.Settings{
		Client: client, Namespace: opts.watch, Log: log, Without: o.turned.without, Serving: o.serving,
	})
	return o.serve(ctx)
}

// rest returns the address of the API server and the credentials.
func (o *options) rest() (*rest.Config, error) {
	var config *rest.Config
	var err error
	if o.kubeconfig == "" && o.context == "" {
		config, err = rest.InClusterConfig()
	} else {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = o.kubeconfig
		config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules,
			&clientcmd.ConfigOverrides{CurrentContext: o.context}).ClientConfig()
	}
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = clientQP, clientBu
	config.UserAgent = "sluice-operator/" + version
	return config, nil
}

// serve runs everything until ctx ends or a part fails.
func (o *operator) serve(ctx context.Context) error {
	listener, err := net.Listen("tcp", o.opts.health)
	if err != nil {
		return fmt.Errorf("--health: %w", err)
	}
	web := server.NewHTTP(o.plain())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return web.Serve(listener) })
	group.Go(func() error {
		<-ctx.Done()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		return errors.Join(web.Shutdown(bound), ctx.Err())
	})
	synced := make(chan struct{})
	group.Go(func() error {
		var once sync.Once
		return o.cluster.Run(ctx, func(w *mesh.World) {
			o.setWorld(w)
			once.Do(func() { close(synced) })
		})
	})
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-synced:
		}
		return o.elect(ctx)
	})
	o.log.Info("sluice-operator runs", "health", listener.Addr().String(), "identity", o.opts.identity,
		"mode", o.opts.mode, "version", version)
	return group.Wait()
}

// setWorld hands a new world to all that rest on it.
func (o *operator) setWorld(w *mesh.World) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.world, o.synch = w, true
	if o.lead != nil {
		o.lead.setWorld(w)
	}
}

// install makes l the one that is told of worlds and answers for sidecars, nil = none.
func (o *operator) install(l *leader) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lead = l
	if l != nil {
		l.setWorld(o.world)
	}
}

// present returns the last world.
func (o *operator) present() *mesh.World {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.world
}

// serving reports whether the sidecar with the node id has all of its configuration.
func (o *operator) serving(node string) bool {
	o.mu.Lock()
	l := o.lead
	o.mu.Unlock()
	return l != nil && l.configured(node)
}

// plain serves what needs no token: whether the process lives, whether it is ready, and
// figures.
func (o *operator) plain() http.Handler {
	paths := http.NewServeMux()
	paths.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	paths.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := o.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	paths.Handle("GET /metrics", promhttp.HandlerFor(o.metrics, promhttp.HandlerOpts{}))
	return paths
}

// ready says why this replica cannot lead, or does not yet though it should.
func (o *operator) ready() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !o.synch:
		return errors.New("the cluster has not been read yet")
	case o.lead != nil && !o.lead.ready.Load():
		return errors.New("about to lead")
	}
	return nil
}
