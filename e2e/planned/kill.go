package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"syscall"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
)

// The phases of a plan in which the control plane is killed, by turns.
const (
	phasePush    = "drain pushed"
	phaseGate    = "gate waiting"
	phaseRestart = "restarting"
	phaseRestore = "restoring"
	phaseRamp    = "ramp"
	phaseVerify  = "verifying"
)

func killPhases() []string {
	return []string{phasePush, phaseGate, phaseRestart, phaseRestore, phaseRamp, phaseVerify}
}

// aim is the phase of the n-th kill.
func aim(n int) string { return killPhases()[n%len(killPhases())] }

const (
	look      = time.Millisecond // between two looks at the plan that is to be struck
	aimWithin = 30 * time.Second // a plan that never gets there is struck then
	rampAfter = 150 * time.Millisecond
	leaseTTL  = 5 * time.Second // of an overlay at the proxies
	wholeIn   = leaseTTL + time.Second
	disturbed = time.Second     // a request that took longer was held
	calm      = 2 * time.Second // without any that was held: traffic is whole
)

// death is one kill of the control plane.
type death struct {
	aim, phase string        // wanted, and as last seen before
	at         time.Duration // of the load
	struck     bool
}

// strike kills the control plane when the plan that was proposed since began is in the
// phase aimed at, or past it.
func (d *death) strike(ctx context.Context, r *rig.Rig, began time.Time, g *load.Generator) error {
	pid, err := controlPlane(ctx, r)
	if err != nil {
		return err
	}
	until := time.Now().Add(aimWithin)
	order := killPhases()
	reached := func() bool {
		plans, err := r.Recent(ctx, 2)
		plan := latest(plans, began)
		if err != nil || plan == nil {
			return false
		}
		d.phase = phaseOf(plan, time.Now())
		return rig.Final(plan) || slices.Index(order, d.phase) >= slices.Index(order, d.aim)
	}
	for d.phase = "proposed"; time.Now().Before(until) && !reached(); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
	}
	d.at, d.struck = g.Now(), true
	return syscall.Kill(pid, syscall.SIGKILL)
}

// phaseOf is what a plan is doing.
func phaseOf(plan *sluicev1.Plan, now time.Time) string {
	phase := plan.GetPhase()
	for _, step := range plan.GetSteps() {
		if step.GetStarted() == nil || step.GetEnded() != nil {
			continue
		}
		switch action := strings.ToLower(step.GetAction()); {
		case action == "drain" && step.GetAcked() == nil:
			phase = phasePush
		case action == "drain":
			phase = phaseGate
		case action == "restart":
			phase = phaseRestart
		case now.Sub(step.GetStarted().AsTime()) > rampAfter:
			phase = phaseRamp
		default:
			phase = phaseRestore
		}
	}
	return phase
}

// deathRow is a kill in the report.
type deathRow struct {
	Aim    string  `json:"aim"`
	Phase  string  `json:"phase"`
	Whole  float64 `json:"whole_s"`  // from the kill until no request that was sent was held or failed any more
	Free   float64 `json:"free_s"`   // from the kill until the last of those that were held was answered
	InTime bool    `json:"in_time"`  // that was within TTL + 1 s
	Judged int     `json:"requests"` // in flight at the kill, or sent from then to the next restart
	Held   int     `json:"held"`     // of these, answered after more than a second
	Failed int     `json:"failed"`
}

// killSum sums the kills up.
type killSum struct {
	Kills   int            `json:"kills"`
	Phases  map[string]int `json:"phases"` // as seen
	Failed  int            `json:"failed"`
	Longest float64        `json:"longest_whole_s"`
	Bound   float64        `json:"bound_s"` // TTL + 1 s
	Late    int            `json:"late"`    // kills after which traffic was not whole within the bound
}

// death adds a kill to the sum; nil if there was none.
func (r *report) death(done *restart, records []load.Record, until time.Duration) *deathRow {
	if !done.died.struck {
		return nil
	}
	row := &deathRow{Aim: done.died.aim, Phase: done.died.phase}
	for _, record := range records {
		if record.Intended >= until || record.Ended != 0 && record.Ended < done.died.at {
			continue
		}
		row.Judged++
		row.add(record, done.died.at)
	}
	row.InTime = row.Whole <= wholeIn.Seconds()
	if r.Kills == nil {
		r.Kills = &killSum{Phases: map[string]int{}, Bound: wholeIn.Seconds()}
	}
	k := r.Kills
	k.Kills++
	k.Phases[row.Phase]++
	k.Failed += row.Failed
	k.Longest = max(k.Longest, row.Whole)
	if !row.InTime {
		k.Late++
	}
	return row
}

// add judges one request; they come in the order of sending. What is held long after traffic
// was whole again is the work of the next leader, which goes on with the plan: it counts as
// held, or failed, but says nothing of the kill.
func (row *deathRow) add(record load.Record, killed time.Duration) {
	switch {
	case !record.OK():
		row.Failed++
	case record.Latency() > disturbed:
		row.Held++
	default:
		return
	}
	sent := (record.Intended - killed).Seconds()
	if sent > max(row.Whole, wholeIn.Seconds())+calm.Seconds() {
		return
	}
	row.Whole = max(row.Whole, sent)
	ended := record.Ended
	if ended == 0 {
		ended = record.Intended + load.DefaultTimeout
	}
	row.Free = max(row.Free, (ended - killed).Seconds())
}

// verdict is nil if traffic was whole in time after each kill.
func (k *killSum) verdict() error {
	if k == nil || k.Late == 0 {
		return nil
	}
	return fmt.Errorf("after %d of %d kills traffic was not whole within %g s, the longest took %.1f s", k.Late, k.Kills, k.Bound, k.Longest)
}

func (k *killSum) print(out io.Writer) {
	if k == nil {
		return
	}
	fmt.Fprintf(out, "\n%d kills, %d requests failed, traffic whole after %.2f s at the longest (bound %g s)\n", k.Kills, k.Failed, k.Longest, k.Bound)
	for _, phase := range slices.Sorted(maps.Keys(k.Phases)) {
		fmt.Fprintf(out, "killed while %s: %d\n", phase, k.Phases[phase])
	}
}

// printDeaths prints a line for each kill.
func (r *report) printDeaths(w io.Writer) {
	fmt.Fprintln(w, "run\tkill\tservice\taimed at\tkilled while\tthe plan ended\twhole after s\tin time\tlast held answered s\trequests\theld\tfailed")
	for i, s := range r.Services {
		if d := s.Death; d != nil {
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%.2f\t%t\t%.2f\t%d\t%d\t%d\n", s.Run, i+1, s.Service, d.Aim, d.Phase, s.Phase,
				d.Whole, d.InTime, d.Free, d.Judged, d.Held, d.Failed)
		}
	}
}
