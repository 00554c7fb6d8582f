package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicemesh/sluice/api/client"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// follower shows a plan while it runs, and outlives restarts of the control plane.
type follower struct {
	app    *app
	api    client.Client
	server string
	tree   bool                      // redraw the whole plan; else a line for each change
	done   func(*sluicev1.Plan) bool // when to stop besides the end, nil = never

	lines int               // of the tree on the terminal
	seen  map[string]string // what was last shown, by step, without figures
}

const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// follow shows the plan until it is final, held or done, or ctx ends.
func (f *follower) follow(ctx context.Context, id string) (*sluicev1.Plan, error) {
	f.seen = map[string]string{}
	wait, told := firstRetry, false
	for {
		plan, err := f.stream(ctx, id)
		if plan != nil {
			return plan, nil
		}
		if ctx.Err() != nil {
			return nil, f.gaveUp(ctx, id)
		}
		if err != nil && !passing(err) {
			return nil, apiError(f.server, err)
		}
		if err == nil {
			wait = firstRetry
		} else if !told && connect.CodeOf(err) != connect.CodeDeadlineExceeded { // that is our own time limit
			fmt.Fprintln(f.app.err, "connection to the control plane lost; the plan goes on without it, trying again")
			f.lines, told = 0, true
		}
		select {
		case <-ctx.Done():
			return nil, f.gaveUp(ctx, id)
		case <-time.After(wait):
			wait = min(2*wait, lastRetry)
		}
	}
}

// stream watches until the plan has ended (then it is returned) or the stream does.
func (f *follower) stream(ctx context.Context, id string) (*sluicev1.Plan, error) {
	stream, err := f.api.WatchPlan(ctx, connect.NewRequest(&sluicev1.WatchPlanRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	for stream.Receive() {
		plan := stream.Msg().GetPlan()
		f.show(plan)
		if ended(plan) || f.done != nil && f.done(plan) {
			return plan, nil
		}
	}
	return nil, stream.Err()
}

func (f *follower) gaveUp(ctx context.Context, id string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		fmt.Fprintf(f.app.err, "plan %s goes on; stop it with `sluice plan abort %s`\n", id, id)
		return ctx.Err()
	}
	return notAchieved("plan %s has not ended in time: it goes on; see `sluice plan watch %s`, "+
		"stop it with `sluice plan abort %s`", id, id, id)
}

// passing reports whether trying again may help.
func passing(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeInternal, connect.CodeAborted,
		connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeResourceExhausted:
		return true
	}
	return false
}

// ended reports whether waiting longer is of no use: final, or held for approval.
func ended(plan *sluicev1.Plan) bool {
	switch plan.GetPhase() {
	case "committed", "compensated", "frozen", "refused", "held":
		return true
	}
	return false
}

func (f *follower) show(plan *sluicev1.Plan) {
	if f.tree && f.app.live {
		text := planTree(f.app, plan)
		if f.lines > 0 {
			fmt.Fprintf(f.app.err, "\x1b[%dA\x1b[J", f.lines)
		}
		fmt.Fprint(f.app.err, text)
		f.lines = strings.Count(text, "\n")
		return
	}
	f.changed("", f.phase(plan))
	for _, step := range plan.GetSteps() {
		if step.GetState() == "waiting" {
			continue
		}
		f.changed(step.GetId(), fmt.Sprintf("%8s  %-14s %s  %s",
			since(plan, lastTime(step)), step.GetAction(), step.GetTarget(), f.state(step)))
	}
}

func (f *follower) phase(plan *sluicev1.Plan) string {
	return "plan " + plan.GetId() + " " + f.app.paint(f.app.live, phaseColour(plan.GetPhase()), plan.GetPhase())
}

func (f *follower) state(step *sluicev1.PlanStep) string {
	text := f.app.paint(f.app.live, phaseColour(step.GetState()), step.GetState())
	switch {
	case step.GetState() == "confirmed":
		if evidence := gate(step); evidence != "" {
			text += "  " + evidence
		}
	case step.GetWaiting() != "":
		text += "  " + oneLine(step.GetWaiting())
	}
	return text
}

// changed writes line if it is news about key. Figures alone are none: a quiet time that
// grows would fill the screen.
func (f *follower) changed(key, line string) {
	shape := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '.' {
			return -1
		}
		return r
	}, line)
	if f.seen[key] != shape {
		f.seen[key] = shape
		fmt.Fprintln(f.app.err, line)
	}
}

// planTree draws the plan with its steps and gates.
func planTree(a *app, plan *sluicev1.Plan) string {
	var b strings.Builder
	phase := a.paint(a.live, phaseColour(plan.GetPhase()), plan.GetPhase())
	fmt.Fprintf(&b, "%s  %s", a.paint(a.live, strong, plan.GetId()), phase)
	if plan.GetWaiting() != "" {
		fmt.Fprintf(&b, "  %s", oneLine(plan.GetWaiting()))
	}
	b.WriteByte('\n')
	for i, step := range plan.GetSteps() {
		branch := "├─"
		if i == len(plan.GetSteps())-1 {
			branch = "└─"
		}
		fmt.Fprintf(&b, "%s %s %-14s %-28s %8s  %s", branch, mark(a, step), step.GetAction(), step.GetTarget(),
			since(plan, lastTime(step)), step.GetState())
		if evidence := gate(step); evidence != "" {
			b.WriteString("  " + evidence)
		}
		if step.GetState() == "running" && step.GetWaiting() != "" {
			b.WriteString("  " + a.paint(a.live, caution, oneLine(step.GetWaiting())))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func mark(a *app, step *sluicev1.PlanStep) string {
	sign := map[string]string{"confirmed": "✓", "running": "●", "failed": "✗", "undone": "↺"}[step.GetState()]
	if sign == "" {
		sign = "·"
	}
	return a.paint(a.live, phaseColour(step.GetState()), sign)
}

// gate is the evidence at a step's gate, "" if it has none.
func gate(step *sluicev1.PlanStep) string {
	var parts []string
	if step.GetRequired() > 0 {
		parts = append(parts, fmt.Sprintf("acks %d/%d", step.GetAcks(), step.GetRequired()))
	}
	if step.GetProofGrade() != "" {
		parts = append(parts, fmt.Sprintf("%d in flight, grade %s", step.GetInFlightAtGate(), step.GetProofGrade()))
	}
	if step.GetCut() > 0 {
		parts = append(parts, fmt.Sprintf("%d streams cut", step.GetCut()))
	}
	return strings.Join(parts, ", ")
}

// lastTime is the latest thing that happened to a step.
func lastTime(step *sluicev1.PlanStep) *timestamppb.Timestamp {
	switch {
	case step.GetEnded() != nil:
		return step.GetEnded()
	case step.GetAcked() != nil:
		return step.GetAcked()
	}
	return step.GetStarted()
}

func since(plan *sluicev1.Plan, at *timestamppb.Timestamp) string {
	if at == nil || plan.GetProposed() == nil {
		return "-"
	}
	return fmt.Sprintf("%.2fs", at.AsTime().Sub(plan.GetProposed().AsTime()).Seconds())
}
