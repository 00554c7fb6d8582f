package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/identity"
	"github.com/sluicemesh/sluice/topology/otlp"
	"github.com/sluicemesh/sluice/topology/prom"
	xdsserver "github.com/sluicemesh/sluice/xds/server"
)

// promOptions say where the metrics of a mesh are, "" = nowhere.
type promOptions struct {
	url, dialects, tokenFile, caFile string
	interval                         time.Duration
}

// register adds the flags.
func (o *promOptions) register(flags *flag.FlagSet) {
	flags.StringVar(&o.url, "prometheus", "", "URL of a Prometheus with the mesh's metrics (default: none is asked)")
	flags.StringVar(&o.dialects, "prometheus-metrics", string(prom.Istio),
		fmt.Sprintf("whose metrics to ask for, some of %v between commas", prom.Dialects()))
	flags.StringVar(&o.tokenFile, "prometheus-token-file", "", "file of the bearer token for --prometheus")
	flags.StringVar(&o.caFile, "prometheus-ca-file", "", "certificates that --prometheus is checked by (default: the system's)")
	flags.DurationVar(&o.interval, "prometheus-interval", prom.DefaultInterval, "between queries; not below the scrape interval")
}

// validate returns what is wrong with the flags.
func (o *promOptions) validate() error {
	if o.url == "" {
		return nil
	}
	_, err := prom.ParseDialects(o.dialects)
	if err != nil {
		err = fmt.Errorf("--prometheus-metrics: %w", err)
	}
	if o.interval < time.Second {
		err = errors.Join(err, fmt.Errorf("--prometheus-interval %s: want at least 1s", o.interval))
	}
	return err
}

// makePrometheus makes the source of a mesh's metrics, nil if there is none.
func (d *daemon) makePrometheus() error {
	o := &d.opts.prometheus
	if o.url == "" {
		return nil
	}
	dialects, err := prom.ParseDialects(o.dialects)
	if err != nil {
		return fmt.Errorf("--prometheus-metrics: %w", err)
	}
	d.prometheus, err = prom.New(prom.Config{
		URL: o.url, Dialects: dialects, TokenFile: o.tokenFile, CAFile: o.caFile, Interval: o.interval,
		Sink: d.feed.ObserveAll, Known: d.registered, Log: d.log, Registerer: d.metrics,
	})
	if err != nil {
		return &missingError{fmt.Errorf("--prometheus: %w", err)}
	}
	return nil
}

// exporter says whose spans come over mutual TLS, as the certificate has it; over the Unix
// socket and on loopback nobody knows.
func (d *daemon) exporter(ctx context.Context) (mesh.Service, bool) {
	state, remote := xdsserver.Peer(ctx)
	if !remote {
		return "", false
	}
	id, err := identity.Peer(state)
	if err != nil {
		return "", false
	}
	return otlp.ServiceAt(id.Path())
}

// registered reports whether a service or gateway is in the mesh.
func (d *daemon) registered(service mesh.Service) bool {
	world := d.feed.World()
	return world.Find(service) != nil ||
		slices.ContainsFunc(world.Gateways, func(g mesh.Gateway) bool { return g.Name == service })
}
