package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/app/shape"
	"github.com/sluicemesh/sluice/e2e/fault"
	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/e2e/topologies/meshfile"
)

// Arms.
const (
	armSluice = "sluice"
	armNaive  = "naive"
	armAuto   = "auto-restart"
	armNone   = "none"
)

// Times of an arm, the same for all, so that all get the same requests; an arm that
// has not ended by then gets more time.
const (
	ramp         = 5 * time.Second  // of the load
	warmUp       = 20 * time.Second // load before the fault: the baseline
	warmBound    = 60 * time.Second // at most, if the objective is not kept for ten seconds before
	horizon      = 40 * time.Second // load after the fault
	sluiceBound  = 110 * time.Second
	controlBound = 50 * time.Second
	keepsFor     = 10 * time.Second // of kept objective: recovered
	naiveDelay   = 10 * time.Second // if Sluice has not acted, or did not run
	sessions     = 2                // streams, and as many websockets, held open meanwhile
)

// arm is what was measured in one arm. Moments count from the start of the load.
type arm struct {
	name      string
	rig       *rig.Rig
	kept      bool
	envoys    int
	envoy     string
	objective load.Objective
	log       load.Log
	timeline  load.Timeline
	streams   map[string]load.Sessions
	recovered *time.Duration // since the fault; nil = not
	notice    *time.Duration // since the fault
	explain   func()         // sluice: sets plan and group once it is known when all was well
	plan      *sluicev1.Plan // that healed the application, nil = none
	group     *sluicev1.GetGroupResponse
	restarts  []restart // naive: what was done
}

// restart is one step of the naive arm.
type restart struct {
	service    string
	began, end time.Duration
}

// armNames checks a list of arms.
func armNames(list string) ([]string, error) {
	names := strings.Split(list, ",")
	for _, name := range names {
		if !slices.Contains([]string{armSluice, armNaive, armAuto, armNone}, name) {
			return nil, &rig.Error{Code: rig.ExitUsage, Err: fmt.Errorf("-arms: %q is no arm", name)}
		}
	}
	return names, nil
}

// counts classifies all requests of the arm.
func (a *arm) counts() load.Counts { return load.Classify(a.log.Records, a.timeline) }

// play runs one arm from an empty machine to an empty machine.
func (d *demo) play(ctx context.Context, name string) (*arm, error) {
	a := &arm{name: name, objective: load.Objective{P99: d.shape.Objective.P99, Errors: d.shape.Objective.Errors}}
	dir := filepath.Join(d.dir, name)
	faults := fault.Dir(filepath.Join(dir, "faults"))
	if err := os.MkdirAll(string(faults), 0o700); err != nil {
		return nil, fmt.Errorf("fault directory: %w", err)
	}
	mesh := filepath.Join(dir, "mesh.yaml")
	_, err := meshfile.Write(meshfile.Settings{Topology: d.path, App: filepath.Join(d.bin, "e2e-app"),
		Faults: string(faults), Out: mesh})
	if err != nil {
		return nil, err
	}
	d.say("arm %s: bring up %s", name, d.shape.Name)
	a.rig, err = rig.Up(ctx, rig.Settings{Bin: d.bin, MeshFile: mesh, State: filepath.Join(dir, "state"),
		Flags: flagsOf(name), Progress: io.Discard})
	if err != nil {
		return nil, err
	}
	err = d.measure(ctx, a, faults)
	a.kept = err == nil && ctx.Err() == nil && d.keep && name == armSluice
	if !a.kept {
		err = errors.Join(err, a.rig.Down())
	}
	return a, err
}

// flagsOf are the flags of `sluice local up` for an arm: the same Envoys with the same
// base configuration, and nobody who acts but the arm.
func flagsOf(name string) []string {
	switch name {
	case armSluice:
		return nil
	case armAuto:
		return []string{"--mode", "Observe", "--auto-restart"}
	}
	return []string{"--mode", "Observe"}
}

// measure puts load on the mesh, breaks it, lets the arm act, and collects.
func (d *demo) measure(ctx context.Context, a *arm, faults fault.Dir) error {
	var err error
	a.envoys = a.rig.Envoys()
	if a.envoy, err = a.rig.Envoy(ctx); err != nil {
		return err
	}
	d.say("arm %s: %d Envoys %s, ingress %s, page %s", a.name, a.envoys, a.envoy, a.rig.Ingress(), a.rig.Listing.Dashboard)
	generator, err := load.Start(ctx, d.load(a.rig.Ingress()))
	if err != nil {
		return err
	}
	held := holdSessions(ctx, a.rig.Ingress())
	err = d.breakAndMend(ctx, a, generator, faults)
	a.log = generator.Wait()
	a.streams = held()
	if err != nil {
		return err
	}
	last := generator.Now()
	if n := len(a.log.Records); n > 0 {
		last = a.log.Records[n-1].Intended
	}
	if at, ok := load.Recovered(a.log.Records, a.objective, a.timeline.Injected, last+1, keepsFor); ok {
		a.recovered = &at
	}
	if a.explain != nil {
		a.explain()
	}
	d.say("arm %s: %+v, recovered: %s", a.name, a.counts(), orNo(a.recovered))
	for i, failure := range load.Failures(a.log.Records, a.timeline) {
		if i < 6 {
			d.say("arm %s: failed %s", a.name, failure)
		}
	}
	return nil
}

// load is the same load for every arm.
func (d *demo) load(address string) load.Config {
	bound := warmBound + sluiceBound + time.Minute
	config := load.Config{Address: address, Entry: d.shape.Entry, Rate: d.rps, Seed: d.seed, Ramp: ramp,
		For: bound, Requests: int(2 * d.rps * bound.Seconds())}
	for _, part := range d.shape.Mix {
		config.Mix = append(config.Mix, load.Part{Operation: part.Operation, Share: part.Share})
	}
	return config
}

// holdSessions keeps streams and websockets open; the function returned ends them.
func holdSessions(ctx context.Context, address string) func() map[string]load.Sessions {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		kind  string
		count load.Sessions
	}
	results := make(chan result, 2)
	kinds := []string{load.StreamSession, load.SocketSession}
	for _, kind := range kinds {
		go func() {
			count, _ := load.Hold(ctx, kind, address, sessions) // the kind is known
			results <- result{kind, count}
		}()
	}
	return func() map[string]load.Sessions {
		cancel()
		held := map[string]load.Sessions{}
		for range kinds {
			r := <-results
			held[r.kind] = r.count
		}
		return held
	}
}

// breakAndMend is the arm proper.
func (d *demo) breakAndMend(ctx context.Context, a *arm, g *load.Generator, faults fault.Dir) error {
	if err := d.warm(ctx, a, g); err != nil {
		return err
	}
	// The moment before the blow: nothing that the fault does can come earlier.
	a.timeline = load.Timeline{Injected: g.Now(), Acted: load.Never}
	if d.fault.Silent {
		a.timeline.Silent = d.fault.Service
	}
	if err := faults.Inject(ctx, d.fault); err != nil {
		return err
	}
	d.say("arm %s: fault %s at %s", a.name, d.fault.ID, d.fault.Service)
	switch a.name {
	case armSluice:
		return d.mendBySluice(ctx, a, g)
	case armNaive:
		return d.mendNaively(ctx, a, g)
	case armAuto:
		return d.mendByAutoRestart(ctx, a, g)
	}
	return wait(ctx, g, a.timeline.Injected+horizon)
}

// warm waits until the healthy application has kept its objective for ten seconds. On a
// machine that cannot carry the load, what Sluice does says nothing: its arm, the first
// one, ends there with the remedy.
func (d *demo) warm(ctx context.Context, a *arm, g *load.Generator) error {
	if err := wait(ctx, g, warmUp); err != nil {
		return err
	}
	for g.Now() < warmBound {
		now, log := g.Now()-time.Second, g.Snapshot()
		if a.objective.Met(load.Between(log.Records, now-keepsFor, now)) {
			return nil
		}
		if err := wait(ctx, g, g.Now()+time.Second); err != nil {
			return err
		}
	}
	d.say("arm %s: the healthy application misses its objective (%s, %g errors): is the machine busy?",
		a.name, a.objective.P99, a.objective.Errors)
	if a.name == armSluice {
		return fmt.Errorf("this machine cannot carry %g requests a second now: stop other work, or try RPS=%.0f", d.rps, d.rps/2)
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

// healthy reports whether the load has kept its objective for long enough by now.
func (a *arm) healthy(g *load.Generator) bool {
	log, now := g.Snapshot(), g.Now()-2*time.Second // what is younger may yet be answered
	from := now - keepsFor
	if from < a.timeline.Injected {
		return false
	}
	return a.objective.Met(load.Between(log.Records, from, now))
}

// settle waits for the horizon, and then until the load is healthy or bound has passed
// since the fault.
func (a *arm) settle(ctx context.Context, g *load.Generator, bound time.Duration) error {
	for {
		since := g.Now() - a.timeline.Injected
		if since >= bound || since >= horizon && a.healthy(g) {
			return nil
		}
		if err := wait(ctx, g, g.Now()+500*time.Millisecond); err != nil {
			return err
		}
	}
}

// mendNaively restarts what Sluice would restart, as soon as Sluice did, in its order.
func (d *demo) mendNaively(ctx context.Context, a *arm, g *load.Generator) error {
	delay, order := d.naivePlan()
	if err := wait(ctx, g, a.timeline.Injected+delay); err != nil {
		return err
	}
	a.timeline.Acted = g.Now()
	a.notice = &delay
	for _, service := range order {
		step := restart{service: service, began: g.Now()}
		d.say("arm naive: restart %s", service)
		if err := a.rig.Restart(ctx, service); err != nil {
			d.say("arm naive: %v", err)
		}
		step.end = g.Now()
		a.restarts = append(a.restarts, step)
	}
	return a.settle(ctx, g, max(horizon, delay+controlBound))
}

// naivePlan is when and what the naive arm restarts.
func (d *demo) naivePlan() (time.Duration, []string) {
	order := []string{d.fault.Service}
	if target := d.shape.Faults[d.kind]; target.Store != "" {
		order = []string{target.Store, target.Service}
	}
	for _, a := range d.arms {
		if a.name != armSluice || a.plan == nil || a.timeline.Acted == load.Never {
			continue
		}
		if restarts := rig.Restarts(a.plan); len(restarts) > 0 {
			order = restarts
		}
		return a.timeline.Acted - a.timeline.Injected, order
	}
	return naiveDelay, order
}

// mendByAutoRestart watches the supervisor, which does as a kubelet would.
func (d *demo) mendByAutoRestart(ctx context.Context, a *arm, g *load.Generator) error {
	before, err := a.rig.Incarnations(ctx)
	if err != nil {
		return err
	}
	for g.Now()-a.timeline.Injected < horizon {
		unchanged := g.Now()
		now, err := a.rig.Incarnations(ctx)
		if err != nil {
			return err
		}
		for service, count := range now {
			if count != before[service] && a.timeline.Acted == load.Never {
				a.timeline.Acted = unchanged - 100*time.Millisecond // seen at the second look at the latest
				delay := a.timeline.Acted - a.timeline.Injected
				a.notice = &delay
				d.say("arm auto-restart: the supervisor restarts %s", service)
			}
		}
		if err := wait(ctx, g, g.Now()+100*time.Millisecond); err != nil {
			return err
		}
	}
	return a.settle(ctx, g, controlBound)
}

// operations lists the operations of the load.
func operations(topology *shape.Topology) []string {
	var names []string
	for _, part := range topology.Mix {
		names = append(names, part.Operation)
	}
	return names
}

func orNo(d *time.Duration) string {
	if d == nil {
		return "no"
	}
	return d.Round(10 * time.Millisecond).String()
}
