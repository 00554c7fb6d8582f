package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/sluicemesh/sluice/api/client"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/e2e/topologies/meshfile"
)

const (
	pairsRPS    = 5 // requests a second of each pair
	pairsWarm   = 5 * time.Second
	pairsWithin = 10 * time.Minute // for all plans of a run
	pairsLook   = 100 * time.Millisecond
)

// pairs is a mesh as `sluice local up` makes it, of pairs that share nothing: a caller
// under load, and a service that waits for a while before it is ready.
type pairs struct {
	n          int
	dir        string
	rig        *rig.Rig
	api        client.Client // as admin: no limits of an agent
	generators []*load.Generator
}

// openPairs brings the mesh up and puts load on every pair; close ends both.
func openPairs(ctx context.Context, env *Env, n int, startup time.Duration) (*pairs, error) {
	bin, err := rig.Bin("sluice", "sluiced", "sluice-agents", "e2e-app")
	if err != nil {
		return nil, err
	}
	p := &pairs{n: n}
	if p.dir, err = os.MkdirTemp("/tmp", "pairs"); err != nil { // sockets are in it: the path must be short
		return nil, err
	}
	env.Note("bring up %d pairs", n)
	if err := p.up(ctx, bin, startup); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *pairs) up(ctx context.Context, bin string, startup time.Duration) error {
	shape, file, state := filepath.Join(p.dir, "pairs.yaml"), filepath.Join(p.dir, "mesh.yaml"), filepath.Join(p.dir, "state")
	if err := os.WriteFile(shape, pairsTopology(p.n, startup), 0o600); err != nil {
		return err
	}
	_, err := meshfile.Write(meshfile.Settings{Topology: shape, App: filepath.Join(bin, "e2e-app"), Out: file})
	if err != nil {
		return err
	}
	if p.rig, err = rig.Up(ctx, rig.Settings{Bin: bin, MeshFile: file, State: state, Progress: io.Discard}); err != nil {
		return err
	}
	token, err := os.ReadFile(filepath.Join(state, "tokens", "admin"))
	if err != nil {
		return err
	}
	if p.api, err = client.New(p.rig.Listing.API, strings.TrimSpace(string(token))); err != nil {
		return err
	}
	if err := p.load(ctx); err != nil {
		return err
	}
	return pause(ctx, pairsWarm)
}

// close ends load and mesh.
func (p *pairs) close() error {
	for _, g := range p.generators {
		g.Stop()
	}
	for _, g := range p.generators {
		g.Wait()
	}
	var err error
	if p.rig != nil {
		err = p.rig.Down()
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// pairsTopology is the topology file.
func pairsTopology(n int, startup time.Duration) []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "name: pairs\nentry: pairs/web-0\nmix: [{operation: get, share: 1}]\nobjective: {p99: 10s, errors: 0.05}\nservices:\n")
	for i := range n {
		fmt.Fprintf(&out, "- {name: pairs/web-%[1]d, startup: 100ms, operations: {get: [{to: pairs/app-%[1]d, op: get, timeout: 14s}]}}\n", i)
		fmt.Fprintf(&out, "- {name: pairs/app-%d, startup: %s, work: 1ms, operations: {get: []}}\n", i, startup)
	}
	return []byte(out.String())
}

// load has every caller asked directly: there is one ingress, and the pairs share nothing.
func (p *pairs) load(ctx context.Context) error {
	listing, err := p.rig.Ps(ctx)
	if err != nil {
		return err
	}
	for _, in := range listing.Instances {
		if !strings.Contains(string(in.Service), "/web-") {
			continue
		}
		g, err := load.Start(ctx, load.Config{Address: in.Address, Mix: []load.Part{{Operation: "get", Share: 1}}, Rate: pairsRPS,
			Seed: uint64(len(p.generators)), Requests: 100_000, For: time.Hour})
		if err != nil {
			return err
		}
		p.generators = append(p.generators, g)
	}
	return nil
}

// restart proposes to restart the service of pair i, its requests held meanwhile.
func (p *pairs) restart(ctx context.Context, id string, i int) error {
	source := fmt.Sprintf(`plan %s
d = drain pairs/app-%[2]d hold deadline 30s lease 60s
r = restart pairs/app-%[2]d in-place with d after d
t = restore d after r
verify pairs/app-%[2]d for 5s
`, id, i)
	answer, err := p.api.ProposePlan(ctx, connect.NewRequest(&sluicev1.ProposePlanRequest{
		Program: &sluicev1.Program{Format: sluicev1.Program_FORMAT_TEXT, Source: []byte(source)}}))
	if err != nil {
		return fmt.Errorf("propose %s: %w", id, err)
	}
	if got := answer.Msg.GetVerdict(); got != "admit" {
		return fmt.Errorf("plan %s: %s %s %v", id, got, answer.Msg.GetCode(), answer.Msg.GetFaults())
	}
	return nil
}

// committed waits until a plan is committed.
func (p *pairs) committed(ctx context.Context, id string) (*sluicev1.Plan, error) {
	for {
		answer, err := p.api.GetPlan(ctx, connect.NewRequest(&sluicev1.GetPlanRequest{Id: id}))
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", id, err)
		}
		plan := answer.Msg.GetPlan()
		if rig.Final(plan) {
			if plan.GetPhase() != "committed" {
				return nil, fmt.Errorf("plan %s is %s: %s", id, plan.GetPhase(), plan.GetReason())
			}
			return plan, nil
		}
		if err := pause(ctx, pairsLook); err != nil {
			return nil, err
		}
	}
}
