package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
)

// Arms.
const (
	armSluice = "sluice"
	armNaive  = "naive"
)

const (
	warmUp    = 10 * time.Second
	warmBound = 30 * time.Second       // at most, if the mesh does not answer well before
	carries   = time.Second            // p99 of a mesh that carries its load
	coolDown  = 3 * time.Second        // load after the last restart
	again     = 160 * time.Second      // least time between two restarts of a service: 4 in 10 minutes are allowed
	rest      = 500 * time.Millisecond // after a kill was judged
	maxErrors = 3                      // restarts that come to nothing until a run is given up
)

// arm is one arm of one run. Moments count from the start of the load.
type arm struct {
	run      int
	name     string
	envoys   int
	envoy    string
	log      load.Log
	restarts []restart
}

// restart is one planned restart.
type restart struct {
	service    string
	order      []string // services restarted with it, itself included
	began, end time.Duration
	phase      string // of the plan
	instances  int    // restarted
	took       float64
	killed     bool // the control plane was killed meanwhile
	died       death
}

// play runs one arm: up, load, restarts, down. The naive arm repeats restarts.
func (p *planned) play(ctx context.Context, run int, name string, repeat []restart) (*arm, error) {
	a := &arm{run: run, name: name}
	settings := rig.Settings{Bin: p.bin, MeshFile: p.file, Progress: io.Discard,
		State: filepath.Join(p.dir, fmt.Sprintf("%s-%d", name, run))}
	settings.Flags = []string{"--proxy-workers", strconv.Itoa(p.workers)}
	for _, limit := range p.limits() {
		settings.Flags = append(settings.Flags, "--limit", limit)
	}
	if name == armNaive {
		settings.Flags = append(settings.Flags, "--mode", "Observe")
	}
	p.say("run %d, arm %s: bring up", run, name)
	r, err := rig.Up(ctx, settings)
	if err != nil {
		return nil, err
	}
	err = p.measure(ctx, a, r, repeat)
	return a, errors.Join(err, r.Down())
}

// measure puts load on the mesh and restarts its services.
func (p *planned) measure(ctx context.Context, a *arm, r *rig.Rig, repeat []restart) error {
	var err error
	a.envoys = r.Envoys()
	if a.envoy, err = r.Envoy(ctx); err != nil {
		return err
	}
	config := p.load
	config.Address, config.Entry = r.Ingress(), string(r.Listing.Ingress.Service)
	generator, err := load.Start(ctx, config)
	if err != nil {
		return err
	}
	err = p.warm(ctx, a, generator)
	if err == nil && a.name == armSluice {
		err = p.bySluice(ctx, a, r, generator)
	} else if err == nil {
		err = p.naively(ctx, a, r, generator, repeat)
	}
	if err == nil {
		err = wait(ctx, generator, generator.Now()+coolDown)
	}
	a.log = generator.Wait()
	p.say("run %d, arm %s: %+v", a.run, a.name, a.counts(a.log.Records))
	for i, failure := range load.Failures(a.log.Records, load.Timeline{Injected: load.Never}) {
		if i < 6 {
			p.say("run %d, arm %s: failed %s", a.run, a.name, failure)
		}
	}
	return err
}

// warm waits until the mesh answers as before a restart it should. Where it cannot carry
// the load, a restart says nothing: the first arm ends there with the remedy.
func (p *planned) warm(ctx context.Context, a *arm, g *load.Generator) error {
	if err := wait(ctx, g, warmUp); err != nil {
		return err
	}
	good := load.Objective{P99: carries, Errors: 0.01}
	for {
		now, log := g.Now()-time.Second, g.Snapshot()
		if good.Met(load.Between(log.Records, now-warmUp/2, now)) {
			return nil
		}
		if g.Now() >= warmBound {
			break
		}
		if err := wait(ctx, g, g.Now()+time.Second); err != nil {
			return err
		}
	}
	p.say("run %d, arm %s: the mesh answers slower than %s, or fails, before any restart", a.run, a.name, carries)
	if a.name == armSluice {
		return fmt.Errorf("this mesh cannot carry %g requests a second here: stop other work, or try RPS=%.0f", p.rps, p.rps/2)
	}
	return nil
}

// counts classifies records: no fault was injected, so that every failure is the
// recovery's.
func (a *arm) counts(records []load.Record) load.Counts {
	return load.Classify(records, load.Timeline{Injected: load.Never})
}

// bySluice restarts one service after the other with `sluice restart`, until each was
// restarted and enough requests were sent.
func (p *planned) bySluice(ctx context.Context, a *arm, r *rig.Rig, g *load.Generator) error {
	services, err := p.services(r)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(p.load.Seed, 0x6B17))
	failures := 0
	for n := 0; p.more(a, len(services), g); n++ {
		if err := wait(ctx, g, p.next(a, len(services))); err != nil {
			return err
		}
		if !p.more(a, len(services), g) {
			return nil
		}
		done := restart{service: services[n%len(services)], began: g.Now()}
		done.died.aim = aim(n)
		err := p.order(ctx, a, r, &done, rng, g)
		done.end = g.Now()
		if done.order == nil {
			done.order = []string{done.service}
		}
		a.restarts = append(a.restarts, done)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			p.say("run %d: restart %s: %v", a.run, done.service, err)
			if failures++; failures >= maxErrors {
				return fmt.Errorf("%d restarts came to nothing, the last of %s: %w", failures, done.service, err)
			}
			continue
		}
		p.say("run %d: restart %s: %s in %.2f s, %d sent", a.run, done.service, done.phase, done.took, g.Sent())
	}
	return nil
}

// more reports whether another restart is to be made.
func (p *planned) more(a *arm, services int, g *load.Generator) bool {
	switch n := len(a.restarts); {
	case p.kills > 0:
		return n < p.kills
	case p.rolling > 0:
		return a.instances() < p.rolling
	default:
		return n < services || g.Sent() < p.requests
	}
}

// instances counts the instances that were restarted.
func (a *arm) instances() int {
	n := 0
	for i := range a.restarts {
		n += max(1, a.restarts[i].instances)
	}
	return n
}

// next is when the next restart may begin: of a service only so often as the policy
// allows, and after a kill when it is known whether traffic is whole.
func (p *planned) next(a *arm, services int) time.Duration {
	if len(p.limits()) == 0 {
		return earliest(a.restarts, len(a.restarts)-services)
	}
	if n := len(a.restarts); n > 0 && a.restarts[n-1].died.struck {
		return a.restarts[n-1].died.at + wholeIn + rest
	}
	return 0
}

// earliest is when the service of restart before may be restarted again.
func earliest(restarts []restart, before int) time.Duration {
	if before < 0 || before >= len(restarts) {
		return 0
	}
	return restarts[before].began + again
}

// naively restarts the same services at the same moments, without moving traffic.
func (p *planned) naively(ctx context.Context, a *arm, r *rig.Rig, g *load.Generator, repeat []restart) error {
	for _, original := range repeat {
		if err := wait(ctx, g, original.began); err != nil {
			return err
		}
		done := restart{service: original.service, order: original.order, began: g.Now(), phase: "done"}
		for _, service := range original.order {
			if err := r.Restart(ctx, service); err != nil {
				return err
			}
		}
		done.end = g.Now()
		done.took = (done.end - done.began).Seconds()
		a.restarts = append(a.restarts, done)
	}
	return nil
}

// wait waits until moment at of the load.
func wait(ctx context.Context, g *load.Generator, at time.Duration) error {
	timer := time.NewTimer(at - g.Now())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// services lists what is restarted, in turn.
func (p *planned) services(r *rig.Rig) ([]string, error) {
	all := servicesOf(r)
	if p.service == "" {
		return all, nil
	}
	if !slices.Contains(all, p.service) {
		return nil, &rig.Error{Code: rig.ExitUsage, Err: fmt.Errorf("-service %s: the mesh has none of that name", p.service)}
	}
	return []string{p.service}, nil
}

// servicesOf lists the services of the mesh, each once, in the order of the listing.
func servicesOf(r *rig.Rig) []string {
	var names []string
	seen := map[string]bool{}
	for _, instance := range r.Listing.Instances {
		if name := string(instance.Service); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}
