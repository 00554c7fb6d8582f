package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/mesh"
)

// rollingCommand is the first argument with which this program restarts the instances of
// one service again and again, hard, under load, in three ways: proved empty by the gate,
// drained but only ACKed, and without any drain. No limits of a policy apply: the port to
// the proxies is used as the kernel would, with the kernel's own predicate.
const rollingCommand = "rolling"

// Ways to restart.
const (
	byGate = "gated"
	byAck  = "ack-only"
	byKill = "ungated"
)

const (
	rollingWarm = 2 * time.Second
	rollingDown = 500 * time.Millisecond // from the kill to the next start
	rollingRest = 300 * time.Millisecond // between two restarts
)

// rolling is one call.
type rolling struct {
	restarts, runs, callers, instances int
	rps                                float64
	takes                              time.Duration
	seed                               uint64
	out                                string
}

// rollingReport is what is written.
type rollingReport struct {
	Schema  string       `json:"schema"`
	Version string       `json:"version"`
	Commit  string       `json:"commit"`
	Started string       `json:"started"`
	Seconds float64      `json:"seconds"`
	Seed    uint64       `json:"seed"`
	Envoys  int          `json:"envoys"`
	Callers int          `json:"callers"`
	RPS     float64      `json:"rps"` // all callers
	Limits  string       `json:"limits"`
	Arms    []rollingArm `json:"arms"`
}

// rollingArm is one way in one run.
type rollingArm struct {
	Run      int      `json:"run"`
	Arm      string   `json:"arm"`
	Restarts int      `json:"restarts"`
	Sent     int      `json:"sent"`
	Failed   int      `json:"failed"`
	Killed   int      `json:"in_flight_when_killed"` // in the applications, summed over the restarts
	GateP50  *float64 `json:"gate_p50_s"`            // after the last request ended; null without a gate
	GateMax  *float64 `json:"gate_max_s"`
}

func runRolling(ctx context.Context, args []string) int {
	var r rolling
	flags := flag.NewFlagSet("bench rolling", flag.ContinueOnError)
	flags.IntVar(&r.restarts, "restarts", 10, "hard restarts of each arm")
	flags.IntVar(&r.runs, "runs", 3, "how often")
	flags.IntVar(&r.callers, "callers", 6, "calling proxies")
	flags.IntVar(&r.instances, "instances", 2, "instances of the service")
	flags.Float64Var(&r.rps, "rps", 20, "requests a second of each caller")
	flags.DurationVar(&r.takes, "takes", 100*time.Millisecond, "what a request takes in the application")
	flags.Uint64Var(&r.seed, "seed", 1, "seed of the load; the same for all arms of a run")
	flags.StringVar(&r.out, "out", "rolling.json", "report `FILE`")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || r.restarts < 1 || r.runs < 1 || r.callers < 1 || r.instances < 1 {
		return exitUsage
	}
	report, err := r.play(ctx)
	if report != nil {
		report.print(os.Stdout)
		err = errors.Join(err, report.verdict())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rolling:", err)
		if ctx.Err() != nil {
			return exitInterrupted
		}
		return exitFailed
	}
	return 0
}

// play brings the proxies up once, and plays all arms on them.
func (r *rolling) play(ctx context.Context) (*rollingReport, error) {
	started := time.Now()
	env := &Env{Note: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	e, err := openEnvoys(ctx, env, r.callers, r.instances)
	if err != nil {
		return nil, errors.Join(err, env.close())
	}
	report := &rollingReport{Schema: "sluice.rolling/1", Version: version, Commit: commit, Started: started.UTC().Format(time.RFC3339),
		Seed: r.seed, Envoys: len(e.world.Proxies), Callers: r.callers, RPS: r.rps * float64(r.callers),
		Limits: "none: 4 restarts of a service in 10 minutes and 5 drains of a target are a policy's, which this is not under"}
	env.Note("limits: %s", report.Limits)
	for run := 1; run <= r.runs && err == nil; run++ {
		for i := range 3 {
			way := []string{byGate, byAck, byKill}[(i+run-1)%3]
			var a rollingArm
			if a, err = r.arm(ctx, e, run, way); err != nil {
				err = fmt.Errorf("run %d, arm %s: %w", run, way, err)
				break
			}
			env.Note("run %d, %s: %d of %d requests failed", run, way, a.Failed, a.Sent)
			report.Arms = append(report.Arms, a)
		}
	}
	report.Seconds = time.Since(started).Seconds()
	text, encoding := json.MarshalIndent(report, "", " ")
	if encoding == nil {
		encoding = os.WriteFile(r.out, append(text, '\n'), 0o644)
	}
	return report, errors.Join(err, encoding, env.close())
}

// arm restarts the instances in turn, one way, under load from every caller.
func (r *rolling) arm(ctx context.Context, e *envoys, run int, way string) (rollingArm, error) {
	out := rollingArm{Run: run, Arm: way, Restarts: r.restarts}
	for _, a := range e.apps {
		a.takes, a.release = r.takes, nil
	}
	var generators []*load.Generator
	for i, front := range e.fronts() {
		g, err := load.Start(ctx, load.Config{Address: front, Mix: []load.Part{{Operation: "work", Share: 1}}, Rate: r.rps,
			Seed: r.seed + uint64(100*run+i), Requests: 100_000, For: 10 * time.Minute})
		if err != nil {
			return out, err
		}
		generators = append(generators, g)
	}
	err := pause(ctx, rollingWarm)
	var gates []float64
	for n := 0; n < r.restarts && err == nil; n++ {
		var gate time.Duration
		gate, err = r.restart(ctx, e, mesh.UID(fmt.Sprintf("app-%d", n%r.instances)), way, &out)
		if way == byGate {
			gates = append(gates, gate.Seconds())
		}
	}
	err = errors.Join(err, pause(ctx, rollingWarm))
	for _, g := range generators {
		records := g.Wait().Records
		out.Sent += len(records)
		for i := range records {
			if !records[i].OK() {
				out.Failed++
			}
		}
	}
	if len(gates) > 0 {
		slices.Sort(gates)
		out.GateP50, out.GateMax = &gates[len(gates)/2], &gates[len(gates)-1]
	}
	return out, err
}

// restart restarts one instance hard; it returns how long after its last request the gate
// opened.
func (r *rolling) restart(ctx context.Context, e *envoys, uid mesh.UID, way string, out *rollingArm) (time.Duration, error) {
	a, gate := e.apps[uid], time.Duration(0)
	e.generation++
	o := e.drain(uid, e.generation)
	if way != byKill {
		if _, err := e.server.Traffic().Apply(ctx, o); err != nil {
			return 0, err
		}
	}
	if way == byGate {
		opened, err := e.proved(ctx, o)
		if err != nil {
			return 0, err
		}
		gate = opened.Sub(time.Unix(0, a.ended.Load()))
	}
	out.Killed += int(a.inside.Load())
	a.kill()
	e.state(uid, mesh.Stopped)
	if err := pause(ctx, rollingDown); err != nil {
		return 0, err
	}
	if err := a.start(); err != nil {
		return 0, err
	}
	e.state(uid, mesh.Ready)
	if way != byKill {
		if err := e.server.Traffic().Withdraw(ctx, o.Key, 0); err != nil {
			return 0, err
		}
	}
	return gate, pause(ctx, rollingRest)
}

// verdict is nil if no request failed where the gate was waited for, and it opened in time.
func (r *rollingReport) verdict() error {
	const floor = 0.3 // s, as of row gate_after_inflight
	var faults []error
	for _, a := range r.Arms {
		if a.Arm == byGate && a.Failed > 0 {
			faults = append(faults, fmt.Errorf("run %d: %d of %d requests failed", a.Run, a.Failed, a.Sent))
		}
		if a.GateMax != nil && *a.GateMax > floor {
			faults = append(faults, fmt.Errorf("run %d: a gate opened %.3f s after the last request, the floor is %g s", a.Run, *a.GateMax, floor))
		}
	}
	return errors.Join(faults...)
}

func (r *rollingReport) print(w io.Writer) {
	fmt.Fprintf(w, "hard restarts in turn under %g requests a second by %d callers, %d Envoys\nlimits: %s\n\n", r.RPS, r.Callers, r.Envoys, r.Limits)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "run\tarm\trestarts\tsent\tfailed\tin flight when killed\tgate p50 s\tgate max s")
	seconds := func(s *float64) string {
		if s == nil {
			return "-"
		}
		return fmt.Sprintf("%.3f", *s)
	}
	for _, a := range r.Arms {
		fmt.Fprintf(out, "%d\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", a.Run, a.Arm, a.Restarts, a.Sent, a.Failed, a.Killed, seconds(a.GateP50), seconds(a.GateMax))
	}
	_ = out.Flush()
}
