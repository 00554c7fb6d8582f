package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/harm"
	"github.com/sluicemesh/sluice/topology"
)

// Shape of a window, in seconds: the monitor of a plan that does nothing.
const (
	baselineSeconds = 60
	watchSeconds    = 300
	mostControls    = 16 // as sluiced takes them
)

// mostAlarms is the share of windows that may have a false alarm.
const mostAlarms = 0.01

type replaySettings struct {
	dir, out    string
	windows     int
	block, near int
	seed        uint64
}

// count is how often the monitor was wrong.
type count struct {
	Windows int        `json:"windows"`
	Alarms  int        `json:"alarms"`  // of the trigger, which aborts a plan
	Labels  int        `json:"labels"`  // harm by the label of record alone
	Silent  int        `json:"silent"`  // the verdict fell for want of reports
	CI95    [2]float64 `json:"ci95"`    // of alarms a window
	Example string     `json:"example"` // the first alarm, "" if none
}

// judged is a recording as it was replayed, with services as they promised and as if none
// had promised anything.
type judged struct {
	Objectives string `json:"objectives"` // declared or none
	Resampled  count  `json:"resampled"`
	Live       count  `json:"live"` // windows as they were, without a second in two of them
}

// alarms is the report.
type alarms struct {
	Schema   string     `json:"schema"`
	Version  string     `json:"version"`
	Commit   string     `json:"commit"`
	Started  string     `json:"started"`
	Seconds  float64    `json:"seconds"`
	Recorded int        `json:"recorded_s"`
	Parts    int        `json:"parts"`
	Load     [3]float64 `json:"load"` // of the machine meanwhile: least, median, most
	Cores    int        `json:"cores"`
	Block    int        `json:"block_s"`
	Near     int        `json:"near_s"`
	Seed     uint64     `json:"seed"`
	Judged   []judged   `json:"judged"`
}

// replay judges windows of nothing, and fails if too many of them alarm.
func (s replaySettings) replay(ctx context.Context) error {
	started := time.Now()
	parts, err := readAll(s.dir)
	if err != nil {
		return &rig.Error{Code: rig.ExitMissing, Err: err}
	}
	parts = slices.DeleteFunc(parts, func(p *part) bool { return len(p.ticks) < baselineSeconds+max(s.block, watchSeconds) })
	if len(parts) == 0 {
		return &rig.Error{Code: rig.ExitMissing, Err: fmt.Errorf("no part in %s is as long as a window: record longer ones", s.dir)}
	}
	report := &alarms{Schema: "sluice.alarms/1", Version: version, Commit: commit, Started: started.UTC().Format(time.RFC3339),
		Parts: len(parts), Block: s.block, Near: s.near, Seed: s.seed, Cores: parts[0].header.Cores}
	var load []float64
	for _, p := range parts {
		report.Recorded += len(p.ticks)
		load = append(load, p.load...)
	}
	slices.Sort(load)
	report.Load = [3]float64{load[0], load[len(load)/2], load[len(load)-1]}
	for _, objectives := range []bool{true, false} {
		j, err := s.judge(ctx, parts, objectives)
		if err != nil {
			return err
		}
		report.Judged = append(report.Judged, j)
	}
	report.Seconds = time.Since(started).Seconds()
	return report.tell(s.out)
}

// judge replays resampled windows, and those that were.
func (s *replaySettings) judge(ctx context.Context, parts []*part, objectives bool) (judged, error) {
	j := judged{Objectives: "none"}
	if objectives {
		j.Objectives = "declared"
	}
	rng := rand.New(rand.NewPCG(s.seed, 300))
	seconds := 0
	for _, p := range parts {
		seconds += len(p.ticks)
	}
	for range s.windows {
		if ctx.Err() != nil {
			return j, ctx.Err()
		}
		p := pick(parts, rng.IntN(seconds))
		w := p.window(rng, objectives)
		w.add(&j.Resampled, p.resample(rng, s.block, s.near))
	}
	for _, p := range parts {
		for at := 0; at+baselineSeconds+watchSeconds <= len(p.ticks); at += baselineSeconds + watchSeconds {
			w := p.window(rng, objectives)
			w.add(&j.Live, span(at, at+baselineSeconds+watchSeconds))
		}
	}
	j.Resampled.interval()
	j.Live.interval()
	return j, nil
}

// pick returns the part in which the n-th of all seconds lies.
func pick(parts []*part, n int) *part {
	for _, p := range parts {
		if n < len(p.ticks) {
			return p
		}
		n -= len(p.ticks)
	}
	return parts[len(parts)-1]
}

// span is the seconds [from, to).
func span(from, to int) []int {
	out := make([]int, 0, to-from)
	for at := from; at < to; at++ {
		out = append(out, at)
	}
	return out
}

// resample returns which seconds make up a window: a baseline and what follows it as they
// were, then blocks that begin near to them. All services come of the same second, so that
// what they have in common stays; within a block so does what the seconds have.
func (p *part) resample(rng *rand.Rand, block, near int) []int {
	start := rng.IntN(len(p.ticks) - baselineSeconds - block + 1)
	out := span(start, start+baselineSeconds+block)
	low, high := max(0, start-near), min(len(p.ticks)-block, start+near)
	for len(out) < baselineSeconds+watchSeconds {
		at := low + rng.IntN(high-low+1)
		out = append(out, span(at, at+block)...)
	}
	return out[:baselineSeconds+watchSeconds]
}

// window is a plan that does nothing: the services that it watches, and those that it is
// compared with.
type window struct {
	part       *part
	objectives bool
	watched    []int
	others     []int
}

// window watches what a restart of a service would: it and all that reach it.
func (p *part) window(rng *rand.Rand, objectives bool) *window {
	w := &window{part: p, objectives: objectives}
	callers := map[string][]string{}
	for _, edge := range p.header.Edges {
		callers[edge[1]] = append(callers[edge[1]], edge[0])
	}
	target := p.header.Services[rng.IntN(len(p.header.Services))].Name
	reach := map[string]bool{target: true}
	for queue := []string{target}; len(queue) > 0; queue = queue[1:] {
		for _, caller := range callers[queue[0]] {
			if !reach[caller] {
				reach[caller] = true
				queue = append(queue, caller)
			}
		}
	}
	for i, s := range p.header.Services {
		if reach[s.Name] {
			w.watched = append(w.watched, i)
		} else {
			w.others = append(w.others, i)
		}
	}
	return w
}

// add judges the seconds and counts what came of it.
func (w *window) add(c *count, seconds []int) {
	c.Windows++
	verdict := w.judge(seconds)
	switch {
	case verdict.Label != microkernel.Harm:
	case strings.HasPrefix(verdict.Evidence, "for "):
		c.Labels++
	case strings.HasPrefix(verdict.Evidence, "no report"):
		c.Silent++
	default:
		c.Alarms++
		if c.Example == "" {
			c.Example = fmt.Sprintf("%s: %s", verdict.Service, verdict.Evidence)
		}
	}
}

// judge runs the harm monitor as the driver does.
func (w *window) judge(seconds []int) microkernel.HarmVerdict {
	var settings harm.Settings
	settings.Window = int(microkernel.DefaultPolicy().HarmWindow / time.Second)
	var controls []int
	for _, i := range w.others {
		if level := harm.Measure(w.ticks(i, seconds[:baselineSeconds])); level.Known() && len(controls) < mostControls {
			controls, settings.Controls = append(controls, i), append(settings.Controls, level)
		}
	}
	subjects := make([]harm.Subject, 0, len(w.watched))
	for _, i := range w.watched {
		s := w.part.header.Services[i]
		subject := harm.Subject{Service: mesh.Service(s.Name), Calm: harm.Grace}
		if w.objectives {
			subject.Objective = mesh.Objective{P99: time.Duration(s.P99 * float64(time.Second)), Errors: s.Errors}
		}
		past := harm.History{Ticks: w.ticks(i, seconds[:baselineSeconds]), Onset: baselineSeconds}
		subjects = append(subjects, harm.Baseline(subject, past, settings.Window))
	}
	trial := harm.NewTrial(subjects, settings)
	reports, compared := make([]harm.Report, len(subjects)), make([]harm.Tick, len(controls))
	for _, at := range seconds[baselineSeconds:] {
		for k, i := range w.watched {
			reports[k] = harm.Report{Tick: w.part.ticks[at][i]}
		}
		for k, i := range controls {
			compared[k] = w.part.ticks[at][i]
		}
		trial.Compare(compared)
		if verdict, fallen := trial.Next(reports); fallen {
			return verdict
		}
	}
	return microkernel.HarmVerdict{}
}

func (w *window) ticks(service int, seconds []int) []harm.Tick {
	out := make([]harm.Tick, len(seconds))
	for k, at := range seconds {
		out[k] = w.part.ticks[at][service]
	}
	return out
}

// interval computes the two-sided interval of Clopper and Pearson.
func (c *count) interval() {
	n, k := uint64(c.Windows), uint64(c.Alarms)
	c.CI95 = [2]float64{0, topology.UpperBound(k, n, 0.975)}
	if k > 0 { // the share of windows without an alarm mirrors it
		c.CI95[0] = 1 - topology.UpperBound(n-k, n, 0.975)
	}
}

// tell prints and writes the report, and is an error if there were too many alarms.
func (a *alarms) tell(path string) error {
	fmt.Printf("%d s recorded in %d parts on %d cores, load of the machine %.1f to %.1f (median %.1f)\n",
		a.Recorded, a.Parts, a.Cores, a.Load[0], a.Load[2], a.Load[1])
	over := false
	for _, j := range a.Judged {
		fmt.Printf("objectives %s:\n", j.Objectives)
		j.Resampled.print("resampled")
		j.Live.print("as they were")
		over = over || float64(j.Resampled.Alarms) > mostAlarms*float64(j.Resampled.Windows)
	}
	text, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if over {
		return fmt.Errorf("more than %g of the windows alarmed", mostAlarms)
	}
	return nil
}

func (c *count) print(name string) {
	fmt.Printf("  %-12s %d of %d windows alarmed, %.3f %% (95 %%: %.3f to %.3f %%); label of record in %d, silence in %d\n",
		name, c.Alarms, c.Windows, 100*float64(c.Alarms)/float64(max(c.Windows, 1)), 100*c.CI95[0], 100*c.CI95[1], c.Labels, c.Silent)
	if c.Example != "" {
		fmt.Printf("  %-12s the first: %s\n", "", c.Example)
	}
}
