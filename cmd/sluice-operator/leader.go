package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace/noop"
	"golang.org/x/sync/errgroup"

	"github.com/sluicemesh/sluice/api/server"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/api/v1alpha1"
	"github.com/sluicemesh/sluice/cmd/internal/ports"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/dashboard"
	"github.com/sluicemesh/sluice/mesh/kube/disk"
	"github.com/sluicemesh/sluice/mesh/kube/plans"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/microkernel/journal"
	"github.com/sluicemesh/sluice/topology/als"
	"github.com/sluicemesh/sluice/topology/feed"
	xdsserver "github.com/sluicemesh/sluice/xds/server"
)

// leader is everything that only the leader has.
type leader struct {
	operator *operator
	log      *slog.Logger
	feed     *feed.Feed
	proxies  *xdsserver.Server
	kernel   *driver.Kernel
	disk     *disk.Disk
	ready    atomic.Bool
}

// run makes the parts, serves until ctx ends, and takes them down in reverse.
func (l *leader) run(ctx context.Context) error {
	o := l.operator
	l.feed = feed.New(time.Now)
	l.feed.SetWorld(o.present())
	remote, done, err := o.opts.remote.open(ctx, o.cluster.Speaks, l.log)
	if err != nil {
		return err
	}
	defer done()
	metrics := prometheus.WrapRegistererWith(prometheus.Labels{}, o.metrics)
	if err := l.makeProxies(remote, metrics); err != nil {
		return err
	}
	o.install(l)
	defer o.install(nil)
	// The kernel reads its journal, and orders what open plans need, before a proxy can
	// connect: held requests stay held across a change of leaders.
	if l.kernel, err = driver.Start(ctx, l.kernelConfig(metrics)); err != nil {
		return err
	}
	defer l.kernel.Close()
	api, err := l.makeAPI()
	if err != nil {
		return err
	}
	return l.serve(ctx, api)
}

// serve runs everything until ctx ends or a part fails.
func (l *leader) serve(ctx context.Context, api http.Handler) error {
	o := l.operator
	plain, err := net.Listen("tcp", o.opts.api)
	if err != nil {
		return fmt.Errorf("--api: %w", err)
	}
	secure, err := o.opts.secure.open()
	if err != nil {
		return errors.Join(err, plain.Close())
	}
	web := server.NewHTTP(api)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.proxies.Serve(ctx) })
	group.Go(func() error {
		l.feed.Run(ctx, func() []mesh.Service { return ports.Expected(l.kernel.Records()) })
		return ctx.Err()
	})
	group.Go(func() error { return web.Serve(plain) })
	if !o.opts.noObjects {
		group.Go(func() error {
			return plans.New(plans.Settings{
				Objects: o.objects, Kernel: l.kernel, Log: l.log, Own: o.opts.namespace, Watch: o.opts.watch, Proved: o.proved,
			}).Run(ctx)
		})
	}
	if secure != nil {
		group.Go(func() error { return web.Serve(secure) })
	}
	group.Go(func() error {
		<-ctx.Done()
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		return errors.Join(web.Shutdown(bound), ctx.Err())
	})
	l.ready.Store(true)
	o.label(ctx, true)
	l.log.Info("serves", "api", plain.Addr().String(), "xds", o.opts.socket, "xds_listen", o.opts.remote.listen)
	return group.Wait()
}

// setWorld hands a new world to all that rest on it.
func (l *leader) setWorld(w *mesh.World) {
	l.feed.SetWorld(w)
	l.proxies.SetWorld(w)
}

// configured reports whether a proxy is connected and has ACKed all that it was sent.
func (l *leader) configured(node string) bool {
	for _, p := range l.proxies.Proxies() {
		if p.Node != node {
			continue
		}
		behind := func(t xdsserver.TypeStatus) bool { return t.Acked < t.Sent }
		return !p.Connected.IsZero() && len(p.Types) > 0 && !slices.ContainsFunc(p.Types, behind)
	}
	return false
}

// makeProxies makes the xDS server with the access log service on it.
func (l *leader) makeProxies(remote *xdsserver.Remote, metrics prometheus.Registerer) error {
	var err error
	l.proxies, err = xdsserver.New(xdsserver.Config{
		Socket: l.operator.opts.socket, World: l.feed.World(), Log: l.log, Registerer: metrics, Remote: remote,
	})
	if err != nil {
		return err
	}
	logs, err := als.New(als.Config{Sink: l.feed.Observe, Identify: l.identify, Log: l.log, Registerer: metrics})
	if err != nil {
		return err
	}
	logs.Register(l.proxies.GRPC())
	l.feed.Sources(l.reporting)
	return nil
}

// reporting reports whether a proxy that could send an access log is connected.
func (l *leader) reporting() bool {
	return slices.ContainsFunc(l.proxies.Proxies(), func(p xdsserver.ProxyStatus) bool { return !p.Connected.IsZero() })
}

// identify says which service the proxy with this node id stands beside.
func (l *leader) identify(node string) (mesh.Service, bool) {
	world := l.feed.World()
	for i := range world.Proxies {
		if world.Proxies[i].Node == node {
			return world.Proxies[i].Service, true
		}
	}
	return "", false
}

// makeAPI makes the handler of API, page and metrics.
func (l *leader) makeAPI() (http.Handler, error) {
	o := l.operator
	return server.New(server.Config{
		Kernel: l.kernel,
		Topology: &server.Evidence{
			Snapshots: l.feed, Registry: l.feed, Symptoms: ports.Symptoms{Feed: l.feed}, Overlays: l.kernel.Overlays,
		},
		Symptoms: ports.Symptoms{Feed: l.feed}, Proxies: ports.Proxies{Server: l.proxies}, Registry: l.feed,
		Tokens: &bearers{client: o.client, namespace: o.opts.namespace, log: l.log, now: time.Now},
		Audit:  l.audit, Hosts: o.opts.secure.names(),
		Version: version, Commit: commit, Started: o.started,
		Dashboard: dashboard.Handler(),
		Metrics:   promhttp.HandlerFor(o.metrics, promhttp.HandlerOpts{}),
		Ready: func() error {
			if !l.ready.Load() {
				return errors.New("starting")
			}
			return nil
		},
		Log: l.log,
	})
}

// evidenceAge is for how long a service that declares nothing must have been observed in a
// cluster.
const evidenceAge = 7 * 24 * time.Hour

// policy is what plans are judged by.
func (l *leader) policy() microkernel.Policy {
	o := l.operator
	policy := microkernel.DefaultPolicy()
	policy.Mode = microkernel.Mode(o.opts.mode)
	policy.EvidenceAge = evidenceAge
	if !slices.Contains(policy.ProtectedNamespaces, o.opts.namespace) {
		policy.ProtectedNamespaces = append(slices.Clone(policy.ProtectedNamespaces), o.opts.namespace)
	}
	return policy
}

// kernelConfig names the adapters that the kernel works through.
func (l *leader) kernelConfig(metrics prometheus.Registerer) driver.Config {
	o, policy := l.operator, l.policy()
	watcher := driver.NewWatcher(driver.WatcherSettings{
		Stats: driver.GraphStats{Topology: l.feed, Reporting: l.feed.Reporting}, Topology: l.feed, World: l.feed.World,
		Symptoms: ports.Onsets{Feed: l.feed}, Now: time.Now, Window: policy.HarmWindow,
		Overlays: l.proxies.Traffic().Installed,
	})
	config := driver.Config{
		Policy:       policy,
		Open:         l.openJournal,
		Traffic:      traffic{Traffic: ports.Traffic{Traffic: l.proxies.Traffic()}, cluster: o.cluster},
		Capabilities: capability(l.proxies.Capability),
		Processes:    processes{cluster: o.cluster, feed: l.feed},
		Topology:     l.feed,
		Now:          time.Now,
		Log:          l.log,
		Tracer:       noop.NewTracerProvider().Tracer("sluice"),
		Metrics:      metrics,
		Monitor:      watcher,
		Loads:        watcher,
		Symptoms:     ports.Onsets{Feed: l.feed},
		CompactAfter: disk.CompactAfter,
	}
	if !o.turned.scale {
		config.Scaler = scaler{o.cluster}
	}
	if !o.turned.configs {
		config.Configs = configs{o.cluster}
	}
	return config
}

// openJournal opens the journal in the API server.
func (l *leader) openJournal() (driver.Journal, error) {
	o := l.operator
	var err error
	l.disk, err = disk.Open(disk.Settings{
		Objects: o.objects.Resource(v1alpha1.Resources(v1alpha1.KindJournal)).Namespace(o.opts.namespace),
		Name:    o.opts.lease, Holder: o.opts.identity,
	})
	if err != nil {
		return nil, err
	}
	return journal.Open(l.disk, journal.Settings{Segment: disk.Segment, Reserve: disk.Reserve})
}

// audit reads the journal beside the kernel that writes it.
func (l *leader) audit(visit func(*sluicev1.AuditRecord) error) error {
	_, err := journal.ExportDisk(l.disk, func(r journal.Sealed) error {
		return visit(&sluicev1.AuditRecord{
			Sequence: uint64(r.Seq), Term: r.Term, Before: r.Before[:], Hash: r.Hash[:], Event: r.Payload,
		})
	})
	return err
}
