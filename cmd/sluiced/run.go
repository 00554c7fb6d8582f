package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/sluicemesh/sluice/api/server"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/cmd/internal/ports"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/dashboard"
	"github.com/sluicemesh/sluice/mesh/local"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/microkernel/journal"
	"github.com/sluicemesh/sluice/topology/als"
	"github.com/sluicemesh/sluice/topology/feed"
	"github.com/sluicemesh/sluice/topology/otlp"
	"github.com/sluicemesh/sluice/topology/prom"
	xdsserver "github.com/sluicemesh/sluice/xds/server"
)

// Bounds of start and end.
const (
	worldPatience = 30 * time.Second // for the supervisor's first answer
	farewell      = 3 * time.Second  // for open requests at the end
)

// daemon is everything that runs, in the order in which it is made.
type daemon struct {
	opts       options
	log        *slog.Logger
	started    time.Time
	metrics    *prometheus.Registry
	feed       *feed.Feed
	proxies    *xdsserver.Server
	kernel     *driver.Kernel
	ready      atomic.Bool
	registry   *local.Client
	addresses  atomic.Pointer[addresses] // of the world that was last asked about
	spansWeb   *http.Server              // OTLP over HTTP
	prometheus *prom.Source              // nil = none
	own        *credentials              // nil = none
}

// run makes the parts, serves until ctx ends, and takes them down in reverse.
func run(ctx context.Context, opts options, log *slog.Logger) error {
	d := &daemon{opts: opts, log: log, started: time.Now(), metrics: prometheus.NewRegistry()}
	d.metrics.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	tracer, flush, err := tracing(ctx)
	if err != nil {
		return err
	}
	defer flush()
	d.feed = feed.New(time.Now)
	d.registry = local.Dial(opts.supervisor)
	if err := d.firstWorld(ctx); err != nil {
		return err
	}
	if d.own, err = opts.remote.open(ctx, log); err != nil {
		return err
	}
	if d.own != nil {
		defer d.own.done()
	}
	if err := d.makeProxies(opts.remote.remote(d.own)); err != nil {
		return err
	}
	if opts.replicas.follow != "" {
		return d.follow(ctx)
	}
	receiver, spans, err := d.makeSpans()
	if err != nil {
		return err
	}
	if err := d.makePrometheus(); err != nil {
		return err
	}
	// The kernel reads its journal, and orders what open plans need, before a proxy can
	// connect: held requests stay held across a restart of this process.
	d.kernel, err = driver.Start(ctx, d.kernelConfig(tracer.Tracer("github.com/sluicemesh/sluice")))
	if err != nil {
		return err
	}
	defer d.kernel.Close()
	api, err := d.makeAPI()
	if err != nil {
		return err
	}
	paths := http.NewServeMux()
	paths.Handle(otlp.Path, receiver)
	d.spansWeb = server.NewHTTP(paths)
	return d.serve(ctx, spans, api)
}

// serve runs everything until ctx ends or a part fails.
func (d *daemon) serve(ctx context.Context, spans *grpc.Server, api http.Handler) error {
	apiListener, err := listen(d.opts.api, "--api")
	if err != nil {
		return err
	}
	otlpListener, err := listen(d.opts.otlp, "--otlp")
	if err != nil {
		return err
	}
	var spansListener net.Listener
	if d.opts.otlpHTTP != "" {
		if spansListener, err = listen(d.opts.otlpHTTP, "--otlp-http"); err != nil {
			return err
		}
	}
	web := server.NewHTTP(api)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.registry.Watch(ctx, d.setWorld) })
	group.Go(func() error { return d.proxies.Serve(ctx) })
	if len(d.opts.replicas.peers) > 0 {
		group.Go(func() error { return d.lead(ctx) })
	}
	group.Go(func() error {
		d.feed.Run(ctx, func() []mesh.Service { return ports.Expected(d.kernel.Records()) })
		return ctx.Err()
	})
	group.Go(func() error { return spans.Serve(otlpListener) })
	group.Go(func() error { return web.Serve(apiListener) })
	if spansListener != nil {
		group.Go(func() error { return d.spansWeb.Serve(spansListener) })
	}
	if d.prometheus != nil {
		group.Go(func() error { return d.prometheus.Run(ctx) })
	}
	if d.opts.tracePercent != noTracing {
		group.Go(func() error { return d.boost(ctx) })
	}
	group.Go(func() error {
		<-ctx.Done()
		spans.Stop()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		return errors.Join(web.Shutdown(bound), d.spansWeb.Shutdown(bound), ctx.Err())
	})
	d.ready.Store(true)
	d.log.Info("sluiced serves", "api", apiListener.Addr().String(), "otlp", otlpListener.Addr().String(),
		"xds", d.opts.xds, "mode", d.opts.mode, "version", version)
	return group.Wait()
}

// listen opens a TCP listener on a loopback address.
func listen(address, name string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", name, address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%s %q: only loopback addresses are served, such as 127.0.0.1:8090", name, address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; choose another port", name, err)
	}
	return listener, nil
}

// firstWorld waits for the supervisor's first answer.
func (d *daemon) firstWorld(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, worldPatience)
	defer cancel()
	got := false
	err := d.registry.Watch(ctx, func(w *mesh.World) {
		d.feed.SetWorld(w)
		got = true
		cancel()
	})
	if got {
		return nil
	}
	return &missingError{fmt.Errorf("supervisor at %s: %w; start it with sluice local up", d.opts.supervisor, err)}
}

// setWorld hands a new world to all that rest on it.
func (d *daemon) setWorld(w *mesh.World) {
	d.feed.SetWorld(w)
	d.proxies.SetWorld(w)
}

// makeProxies makes the xDS server with the access log service on it.
func (d *daemon) makeProxies(remote *xdsserver.Remote) error {
	var err error
	d.proxies, err = xdsserver.New(xdsserver.Config{
		Socket: d.opts.xds, World: d.feed.World(), Log: d.log, Registerer: d.metrics,
		Remote: remote,
	})
	if err != nil {
		return err
	}
	logs, err := als.New(als.Config{
		Sink: d.feed.Observe, Identify: d.identify, Log: d.log, Registerer: d.metrics,
	})
	if err != nil {
		return err
	}
	logs.Register(d.proxies.GRPC())
	d.feed.Sources(d.reporting)
	d.traceProxies()
	return nil
}

// reporting reports whether a proxy that could send an access log is connected. An Envoy
// without a request sends none, so that its connection is all there is to go by. A mesh
// without proxies has its evidence from elsewhere, as long as that goes on.
func (d *daemon) reporting() bool {
	list := d.proxies.Proxies()
	if len(list) == 0 {
		return d.prometheus == nil || !d.prometheus.Stale()
	}
	return slices.ContainsFunc(list, func(p xdsserver.ProxyStatus) bool { return !p.Connected.IsZero() })
}

// identify says which service the proxy with this node id stands beside.
func (d *daemon) identify(node string) (mesh.Service, bool) {
	world := d.feed.World()
	for i := range world.Proxies {
		if world.Proxies[i].Node == node {
			return world.Proxies[i].Service, true
		}
	}
	return "", false
}

// makeSpans makes the OTLP receiver.
func (d *daemon) makeSpans() (*otlp.Server, *grpc.Server, error) {
	receiver, err := otlp.New(otlp.Config{
		SinkAll:    d.feed.ObserveAll,
		Known:      d.registered,
		Resolve:    d.resolve,
		Identify:   d.exporter,
		Log:        d.log,
		Registerer: d.metrics,
	})
	if err != nil {
		return nil, nil, err
	}
	spans := grpc.NewServer(otlp.Options()...)
	receiver.Register(spans)
	receiver.RegisterPlain(d.proxies.GRPC())
	return receiver, spans, nil
}

// makeAPI makes the handler of API, page and metrics.
func (d *daemon) makeAPI() (http.Handler, error) {
	secrets, err := tokens(d.opts.state)
	if err != nil {
		return nil, err
	}
	return server.New(server.Config{
		Kernel: d.kernel,
		Topology: &server.Evidence{
			Snapshots: d.feed, Registry: d.feed, Symptoms: ports.Symptoms{Feed: d.feed}, Overlays: d.kernel.Overlays,
			MostMissed: d.opts.mostMissed,
		},
		Symptoms: ports.Symptoms{Feed: d.feed}, Proxies: ports.Proxies{Server: d.proxies}, Registry: d.feed, Tokens: secrets,
		Audit:   d.audit,
		Version: version, Commit: commit, Started: d.started,
		Dashboard: dashboard.Handler(),
		Metrics:   promhttp.HandlerFor(d.metrics, promhttp.HandlerOpts{}),
		Ready: func() error {
			if !d.ready.Load() {
				return errors.New("starting")
			}
			return nil
		},
		Log: d.log,
	})
}

// tracing returns the provider of Sluice's own spans; it exports where
// OTEL_EXPORTER_OTLP_ENDPOINT points, else nowhere.
func tracing(ctx context.Context) (*sdktrace.TracerProvider, func(), error) {
	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(resource.NewSchemaless(semconv.ServiceName("sluiced"))),
	}
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" {
		exporter, err := otlptracegrpc.New(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("exporter of own spans: %w", err)
		}
		options = append(options, sdktrace.WithBatcher(exporter))
	}
	provider := sdktrace.NewTracerProvider(options...)
	return provider, func() {
		bound, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		_ = provider.Shutdown(bound)
	}, nil
}

// kernelConfig names the adapters that the kernel works through.
func (d *daemon) kernelConfig(tracer trace.Tracer) driver.Config {
	policy := microkernel.DefaultPolicy()
	policy.Mode = microkernel.Mode(d.opts.mode)
	d.opts.limits.set(&policy)
	if len(d.opts.limits) > 0 {
		d.log.Info("limits of the policy are not the defaults", "limits", d.opts.limits.String())
	}
	watcher := driver.NewWatcher(driver.WatcherSettings{
		Stats: driver.GraphStats{Topology: d.feed, Reporting: d.feed.Reporting}, Topology: d.feed, World: d.feed.World,
		Symptoms: ports.Onsets{Feed: d.feed}, Now: time.Now, Window: policy.HarmWindow,
		Overlays: d.proxies.Traffic().Installed,
	})
	return driver.Config{
		Policy:       policy,
		Open:         d.openJournal,
		Traffic:      ports.Traffic{Traffic: d.proxies.Traffic()},
		Capabilities: d.proxies.Capability,
		Processes:    processes{client: d.registry, feed: d.feed},
		Topology:     d.feed,
		Now:          time.Now,
		Log:          d.log,
		Tracer:       tracer,
		Metrics:      d.metrics,
		Monitor:      watcher,
		Loads:        watcher,
		Symptoms:     ports.Onsets{Feed: d.feed},
	}
}

// journalPath is the directory of the journal.
func (d *daemon) journalPath() string { return filepath.Join(d.opts.state, "journal") }

// audit reads the journal beside the kernel that writes it.
func (d *daemon) audit(visit func(*sluicev1.AuditRecord) error) error {
	_, err := journal.Export(d.journalPath(), func(r journal.Sealed) error {
		return visit(&sluicev1.AuditRecord{
			Sequence: uint64(r.Seq), Term: r.Term, Before: r.Before[:], Hash: r.Hash[:], Event: r.Payload,
		})
	})
	return err
}

// openJournal opens the journal in the state directory.
func (d *daemon) openJournal() (driver.Journal, error) {
	disk, err := journal.Directory(d.journalPath())
	if err != nil {
		return nil, err
	}
	return journal.Open(disk, journal.Settings{})
}
