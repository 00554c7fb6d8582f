package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/envoy"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/symptom"
	"github.com/sluicemesh/sluice/xds"
)

// Bounds of a boost of sampling around a symptom.
const (
	boostFor  = 5 * time.Minute // since the onset: long enough to tell who is to blame
	boostHold = time.Minute     // after the symptom ended, so that one that flaps is one boost
	boostMost = 16              // symptoms at once
)

// noTracing is the value of --trace-percent with which proxies send no spans.
const noTracing = -1

// registerTracing adds the flag.
func registerTracing(percent *float64, flags *flag.FlagSet) {
	flags.Float64Var(percent, "trace-percent", noTracing,
		"share of requests without trace context for which proxies begin a trace, boosted to 100 around a symptom (default: proxies send no spans)")
}

// validateTracing returns what is wrong with the flag.
func validateTracing(percent float64) error {
	if percent != noTracing && !(percent >= 0 && percent <= 100) {
		return fmt.Errorf("--trace-percent %v: want 0 to 100", percent)
	}
	return nil
}

// traceProxies makes the proxies send spans over the connection that they have.
func (d *daemon) traceProxies() {
	if d.opts.tracePercent != noTracing {
		d.proxies.Trace(xds.Tracing{Cluster: envoy.Cluster, Percent: d.opts.tracePercent})
	}
}

// booster remembers until when the proxies of a service sample everything.
type booster struct{ until map[mesh.Service]time.Time }

// next returns the services to boost at now: all that reach a present symptom, gateways
// among them, for a trace begins where a request enters, and the symptom itself.
func (b *booster) next(now time.Time, present []symptom.Symptom, snapshot *topology.Snapshot) []mesh.Service {
	for _, s := range present[:min(len(present), boostMost)] {
		if now.Sub(s.Onset) > boostFor {
			continue
		}
		for _, service := range append(snapshot.Blast([]mesh.Service{s.Service}), s.Service) {
			b.until[service] = now.Add(boostHold)
		}
	}
	var services []mesh.Service
	for service, until := range b.until {
		if now.After(until) {
			delete(b.until, service)
			continue
		}
		services = append(services, service)
	}
	slices.Sort(services)
	return services
}

// boost looks for symptoms once a second until ctx ends.
func (d *daemon) boost(ctx context.Context) error {
	b := booster{until: map[mesh.Service]time.Time{}}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-ticker.C:
			d.proxies.Boost(b.next(now, d.feed.Present(), d.feed.Snapshot()))
		}
	}
}
