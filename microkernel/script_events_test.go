package microkernel_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// event makes the event that a directive stands for, and names the plan to print.
func (s *script) event(d *datadriven.TestData) (microkernel.Event, string) {
	at := microkernel.Stamp{At: s.now}
	plan, step := arg(d, 0), isa.StepID(arg(d, 1))
	id := microkernel.PlanID(plan)
	switch d.Cmd {
	case "submit":
		program := s.program(d)
		return microkernel.Submitted{Stamp: at, By: who(d, "agent"), Program: program, View: s.snapshot()}, program.ID
	case "approve":
		return microkernel.Approved{Stamp: at, Plan: id, By: who(d, "op"), View: s.snapshot()}, plan
	case "abort":
		return microkernel.Aborted{Stamp: at, Plan: id, By: who(d, "op"), Reason: option(d, "reason", "")}, plan
	case "viewed":
		look := number(s.t, option(d, "look", "0"))
		return microkernel.Viewed{Stamp: at, Plan: id, View: s.snapshot(), Look: uint64(look)}, plan
	case "applied":
		acks := mesh.Acks{Required: 3, Acked: 3, Last: 20 * time.Millisecond}
		return microkernel.Applied{Stamp: at, Plan: id, Step: step, Generation: s.generation(d, id, step), Acks: acks}, plan
	case "proved":
		return microkernel.Proved{Stamp: at, Plan: id, Step: step, Proof: s.proof(d, id, step)}, plan
	case "restarted":
		old := s.ref(id, step)
		next := old
		next.Incarnation++
		return microkernel.Restarted{Stamp: at, Plan: id, Step: step, Old: old, New: next}, plan
	case "withdrawn":
		drain := isa.StepID(option(d, "of", string(s.consumed(id, step))))
		return microkernel.Withdrawn{Stamp: at, Plan: id, Step: step, Generation: s.generation(d, id, drain)}, plan
	case "scaled":
		n := number(s.t, option(d, "to", "0"))
		return microkernel.Scaled{Stamp: at, Plan: id, Step: step, Replicas: n}, plan
	case "rolled-back":
		return microkernel.RolledBack{Stamp: at, Plan: id, Step: step, Revision: option(d, "to", "")}, plan
	case "failed":
		code := isa.Code(option(d, "code", ""))
		return microkernel.Failed{Stamp: at, Plan: id, Step: step, Code: code, Reason: option(d, "reason", "NACK")}, plan
	}
	return s.kernelEvent(d, at, plan)
}

// kernelEvent makes the events that are not about a step.
func (s *script) kernelEvent(d *datadriven.TestData, at microkernel.Stamp, plan string) (microkernel.Event, string) {
	id := microkernel.PlanID(plan)
	switch d.Cmd {
	case "fired":
		timer := microkernel.TimerID{Plan: id, Name: arg(d, 1)}
		if name := arg(d, 2); name != "" {
			timer.Step, timer.Name = isa.StepID(arg(d, 1)), name
		}
		if plan == "probe" || plan == "stray" {
			timer, plan = microkernel.TimerID{Name: plan}, ""
		}
		if due, set := s.timers[timer]; set && due > s.now {
			s.now, at.At = due, due
		}
		return microkernel.Fired{Stamp: at, Timer: timer}, plan
	case "judged":
		v := microkernel.HarmVerdict{
			Label: microkernel.HarmLabel(arg(d, 1)), Service: mesh.Service(option(d, "at", "")),
			Evidence: option(d, "evidence", ""),
		}
		return microkernel.Judged{Stamp: at, Plan: id, Verdict: v}, plan
	case "led":
		term := number(s.t, option(d, "term", fmt.Sprint(s.state.Term()+1)))
		return microkernel.Led{Stamp: at, Term: uint64(term)}, ""
	case "probed":
		return s.probed(d, at), option(d, "show", "")
	case "pause":
		return microkernel.Paused{Stamp: at, Plan: id, By: who(d, "op"), Reason: option(d, "reason", "")}, plan
	case "resume":
		return microkernel.Resumed{Stamp: at, Plan: id, By: who(d, "op")}, plan
	}
	return nil, ""
}

// probed reports the overlays that the kernel believes in, unless overlays=none.
func (s *script) probed(d *datadriven.TestData, at microkernel.Stamp) microkernel.Event {
	ev := microkernel.Probed{Stamp: at}
	switch option(d, "overlays", "believed") {
	case "believed":
		ev.Overlays = s.state.Overlays()
	case "stray":
		ev.Overlays = []mesh.Overlay{{
			Key: mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: "shop/db"}, Plan: "lost", Step: "d1",
			Generation: uint64(number(s.t, option(d, "generation", "1"))),
		}}
	}
	for i := range s.view.Services {
		ev.Instances = append(ev.Instances, s.view.Services[i].Instances...)
	}
	return ev
}

func (s *script) program(d *datadriven.TestData) isa.Program {
	program, _, faults := isa.ParseText([]byte(d.Input))
	if len(faults) > 0 {
		d.Fatalf(s.t, "%v", faults)
	}
	return program
}

func who(d *datadriven.TestData, otherwise string) microkernel.Principal {
	name := option(d, "by", otherwise)
	roles := map[string]microkernel.Role{
		"agent": microkernel.Proposer, "agent2": microkernel.Proposer, "op": microkernel.Approver,
		"op2": microkernel.Approver, "root": microkernel.Admin, "guest": microkernel.Viewer,
	}
	return microkernel.Principal{Name: name, Role: roles[name]}
}

func (s *script) record(id microkernel.PlanID, step isa.StepID) microkernel.StepRecord {
	r, _ := s.state.Record(id)
	for i := range r.Steps {
		if r.Steps[i].Step.ID == step {
			return r.Steps[i]
		}
	}
	return microkernel.StepRecord{}
}

func (s *script) generation(d *datadriven.TestData, id microkernel.PlanID, step isa.StepID) microkernel.Generation {
	if text := option(d, "generation", ""); text != "" {
		return microkernel.Generation(number(s.t, text))
	}
	return s.record(id, step).Generation
}

// consumed returns the drain that a restore or await is about, else step itself.
func (s *script) consumed(id microkernel.PlanID, step isa.StepID) isa.StepID {
	switch a := s.record(id, step).Step.Action.(type) {
	case isa.RestoreTraffic:
		return a.Drain
	case isa.Await:
		return a.Drain
	}
	return step
}

func (s *script) ref(id microkernel.PlanID, step isa.StepID) mesh.Ref { return s.record(id, step).Old }

// proof is a perfect proof but for what the directive says.
func (s *script) proof(d *datadriven.TestData, id microkernel.PlanID, step isa.StepID) mesh.Proof {
	r := s.record(id, step)
	get := func(key, otherwise string) int { return number(s.t, option(d, key, otherwise)) }
	drain, _ := r.Step.Action.(isa.Drain)
	return mesh.Proof{
		Key:        mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: drain.Target.Service},
		Generation: uint64(s.generation(d, id, step)),
		Required:   3, Acked: get("acked", "3"), Reported: get("reported", "3"),
		InFlight: get("in-flight", "0"), Inbound: get("inbound", "0"),
		Quiet:  duration(s.t, option(d, "quiet", "60ms")),
		Lapsed: option(d, "lapsed", "no") == "yes",
	}
}

// spell prints an effect on one line; what is forgotten is not worth one.
func spell(e microkernel.Effect) string {
	switch e := e.(type) {
	case microkernel.Answer:
		return spellAnswer(e)
	case microkernel.Recheck:
		return "recheck " + string(e.Plan)
	case microkernel.Apply:
		return fmt.Sprintf("apply %s/%s generation %d lease %v: %s", e.Plan, e.Step, e.Overlay.Generation, e.Overlay.Lease,
			spellOverlay(&e.Overlay))
	case microkernel.Prove:
		return fmt.Sprintf("prove %s/%s generation %d", e.Plan, e.Step, e.Generation)
	case microkernel.Extend:
		return fmt.Sprintf("extend %s %s by %v", e.Key.Kind, e.Key.Callee, e.Lease)
	case microkernel.Withdraw:
		return fmt.Sprintf("withdraw %s/%s %s %s generation %d ramp %v", e.Plan, e.Step, e.Key.Kind, e.Key.Callee, e.Generation, e.Ramp)
	case microkernel.Reboot:
		return fmt.Sprintf("reboot %s/%s %s incarnation %d within %v", e.Plan, e.Step, e.Ref.UID, e.Ref.Incarnation, e.Deadline)
	case microkernel.SetReplicas:
		return fmt.Sprintf("scale %s/%s %s to %d", e.Plan, e.Step, e.Service, e.Replicas)
	case microkernel.SetRevision:
		return fmt.Sprintf("roll back %s/%s %s to %s", e.Plan, e.Step, e.Object, e.Revision)
	case microkernel.Watch:
		line := fmt.Sprintf("watch %s %v disturbed %v for %v", e.Plan, e.Services, e.Disturbed, e.For)
		if len(e.Shed) > 0 {
			line += fmt.Sprintf(" shed %v", e.Shed)
		}
		return line
	case microkernel.Unwatch:
		return "unwatch " + string(e.Plan)
	case microkernel.SetTimer:
		return fmt.Sprintf("timer %s in %v", spellTimer(e.Timer), e.After)
	case microkernel.Probe:
		return "probe"
	case microkernel.Page:
		return "page: " + e.Reason
	case microkernel.Finish:
		return fmt.Sprintf("finish %s %s", e.Plan, e.Phase)
	}
	return ""
}

func spellAnswer(e microkernel.Answer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "answer %s: %s", e.Plan, e.Verdict.Outcome)
	if e.Verdict.Code != "" {
		fmt.Fprintf(&b, " %s", e.Verdict.Code)
	}
	if e.Verdict.RetryAfter > 0 {
		fmt.Fprintf(&b, " after %v", e.Verdict.RetryAfter)
	}
	for _, f := range e.Verdict.Faults {
		fmt.Fprintf(&b, "\n  %s %s: %s (%s)", f.Code, f.Path, f.Reason, f.Remedy)
	}
	return b.String()
}

func spellTimer(t microkernel.TimerID) string {
	var parts []string
	for _, part := range []string{string(t.Plan), string(t.Step), t.Name} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "/")
}

func spellOverlay(o *mesh.Overlay) string {
	switch {
	case o.Drain != nil:
		return fmt.Sprintf("%d%% off %v of %s to=%q on-empty=%q", o.Drain.Share, o.Drain.Instances, o.Key.Callee, o.Drain.To, o.Drain.OnEmpty)
	case o.Limit != nil:
		return fmt.Sprintf("limit %s to %v/s", o.Key.Callee, o.Limit.PerSecond)
	case o.Break != nil:
		return fmt.Sprintf("break %s at %d requests", o.Key.Callee, o.Break.MaxRequests)
	}
	return "nothing"
}
