package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/e2e/rig"
	"github.com/sluicemesh/sluice/mesh/local"
)

const (
	orderWithin = 3 * time.Minute         // of one `sluice restart`
	killWithin  = 1200 * time.Millisecond // after its begin: every phase may be hit
	endsWithin  = 90 * time.Second        // of a plan whose control plane was killed
)

// planObject is what `sluice restart -o json` prints.
type planObject struct {
	ID      string  `json:"id"`
	Phase   string  `json:"phase"`
	Code    *string `json:"code"`
	Reason  *string `json:"reason"`
	Seconds float64 `json:"seconds"`
	Steps   []struct {
		Action string `json:"action"`
		Target string `json:"target"`
	} `json:"steps"`
}

// order asks Sluice for one restart and waits for its end. With -kill the control plane
// dies once on the way: then a plan that was undone is an end, too.
func (p *planned) order(ctx context.Context, a *arm, r *rig.Rig, done *restart, rng *rand.Rand, g *load.Generator) error {
	bounded, cancel := context.WithTimeout(ctx, orderWithin)
	defer cancel()
	killed := make(chan error, 1)
	began := time.Now()
	switch {
	case p.kills > 0:
		done.killed = true
		go func() { killed <- done.died.strike(bounded, r, began, g) }()
	case p.kill == killControlPlane:
		done.killed = true
		after := time.Duration(rng.Int64N(int64(killWithin)))
		go func() { killed <- kill(bounded, r, after) }()
	default:
		killed <- nil
	}
	out, err := r.Sluice(bounded, "restart", done.service, "--wait", "-o", "json")
	if dead := <-killed; dead != nil {
		return fmt.Errorf("kill the control plane: %w", dead)
	}
	var object planObject
	if json.Unmarshal(out, &object) == nil && object.ID != "" {
		done.phase, done.took = object.Phase, object.Seconds
		for _, step := range object.Steps {
			done.order = append(done.order, rig.RestartOf(step.Action, step.Target)...)
		}
		done.instances = len(done.order)
	}
	done.order = unique(done.order)
	if !done.killed {
		return err
	}
	return p.afterKill(bounded, r, done, began)
}

// afterKill waits until the control plane is back and every plan has ended: finished
// or undone. A restart that never became a plan is no failure here, the kill came first.
func (p *planned) afterKill(ctx context.Context, r *rig.Rig, done *restart, began time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, endsWithin)
	defer cancel()
	for {
		plans, err := r.Plans(ctx)
		if err == nil {
			if last := latest(plans, began); last == nil {
				done.phase = "not begun"
				return nil
			} else if rig.Final(last) {
				return conclude(done, last)
			}
		}
		select {
		case <-ctx.Done():
			return errors.Join(errors.New("the plan has not ended 90 s after the control plane was killed"), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// latest returns the newest plan proposed since began.
func latest(plans []*sluicev1.Plan, began time.Time) *sluicev1.Plan {
	for i := len(plans) - 1; i >= 0; i-- {
		if at := rig.At(plans[i].GetProposed()); at != nil && at.After(began.Add(-time.Second)) {
			return plans[i]
		}
	}
	return nil
}

// conclude notes how a plan ended; frozen is no end.
func conclude(done *restart, plan *sluicev1.Plan) error {
	done.phase = plan.GetPhase()
	if order := rig.Restarts(plan); len(order) > 0 {
		done.order = order
	}
	if proposed, ended := rig.At(plan.GetProposed()), rig.At(plan.GetEnded()); proposed != nil && ended != nil {
		done.took = ended.Sub(*proposed).Seconds()
	}
	if done.phase != "committed" && done.phase != "compensated" {
		return fmt.Errorf("plan %s is %s: %s", plan.GetId(), plan.GetPhase(), plan.GetReason())
	}
	return nil
}

// kill sends SIGKILL to the control plane after a time.
func kill(ctx context.Context, r *rig.Rig, after time.Duration) error {
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return ctx.Err()
	}
	pid, err := controlPlane(ctx, r)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// controlPlane is the process that is to be killed.
func controlPlane(ctx context.Context, r *rig.Rig) (int, error) {
	listing, err := r.Ps(ctx)
	if err != nil {
		return 0, err
	}
	for _, process := range listing.Processes {
		if process.Role == local.RoleControl && process.PID != nil {
			return *process.PID, nil
		}
	}
	return 0, errors.New("it does not run")
}

// unique drops repetitions.
func unique(list []string) []string {
	var kept []string
	seen := map[string]bool{}
	for _, item := range list {
		if !seen[item] {
			seen[item] = true
			kept = append(kept, item)
		}
	}
	return kept
}
