package driver

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// verb tells apart the operations on one subject.
type verb string

const (
	verbView     verb = "view"
	verbApply    verb = "apply"
	verbProve    verb = "prove"
	verbExtend   verb = "extend"
	verbWithdraw verb = "withdraw"
	verbReboot   verb = "reboot"
	verbScale    verb = "scale"
	verbRollback verb = "rollback"
	verbWatch    verb = "watch"
	verbProbe    verb = "probe"
)

// slot is what one operation at a time may be about: an overlay, or a plan's step.
type slot struct {
	verb verb
	plan microkernel.PlanID
	step isa.StepID
	key  mesh.OverlayKey
}

// operation is an effect under way, in a goroutine of its own.
type operation struct {
	effect microkernel.Effect
	cancel context.CancelFunc
	done   chan struct{} // closed when its goroutine has ended
}

// running reports whether the operation has not ended.
func (o *operation) running() bool {
	if o == nil {
		return false
	}
	select {
	case <-o.done:
		return false
	default:
		return true
	}
}

// event makes an event of the instant at which the loop takes it.
type event = func(microkernel.Stamp) microkernel.Event

// perform carries out one effect. It never blocks: what takes time runs in an operation.
func (k *Kernel) perform(e microkernel.Effect) {
	switch e := e.(type) {
	case microkernel.Recheck:
		k.start(slot{verb: verbView, plan: e.Plan}, e, nil, k.recheck(e))
	case microkernel.Apply:
		k.start(overlaySlot(verbApply, e.Overlay.Key), e, changes(e.Overlay.Key), k.apply(e))
	case microkernel.Prove:
		k.start(overlaySlot(verbProve, e.Key), e, overlaySlots(e.Key, verbProve), k.prove(e))
	case microkernel.Extend:
		k.start(overlaySlot(verbExtend, e.Key), e, overlaySlots(e.Key, verbExtend), k.extend(e))
	case microkernel.Withdraw:
		k.start(overlaySlot(verbWithdraw, e.Key), e, changes(e.Key), k.withdraw(e))
	case microkernel.Reboot:
		k.start(slot{verb: verbReboot, plan: e.Plan, step: e.Step}, e, nil, k.reboot(e))
	case microkernel.SetReplicas:
		k.start(slot{verb: verbScale, plan: e.Plan, step: e.Step}, e, nil, k.scale(e))
	case microkernel.SetRevision:
		k.start(slot{verb: verbRollback, plan: e.Plan, step: e.Step}, e, nil, k.rollBack(e))
	case microkernel.Watch:
		own := slot{verb: verbWatch, plan: e.Plan}
		k.start(own, e, []slot{own}, k.watch(e))
	case microkernel.Unwatch:
		k.end(slot{verb: verbWatch, plan: e.Plan})
	case microkernel.SetTimer:
		k.setTimer(e.Timer, e.After)
	case microkernel.StopTimer:
		k.stopTimer(e.Timer)
	case microkernel.Probe:
		k.start(slot{verb: verbProbe}, e, nil, k.probe)
	case microkernel.Page:
		k.page(e.Plan, e.Reason)
	case microkernel.Finish:
		k.finish(e.Plan)
	case microkernel.Answer: // returned to whoever asked, see ask
	}
}

func overlaySlot(v verb, key mesh.OverlayKey) slot { return slot{verb: v, key: key} }

func overlaySlots(key mesh.OverlayKey, verbs ...verb) []slot {
	slots := make([]slot, len(verbs))
	for i, v := range verbs {
		slots[i] = overlaySlot(v, key)
	}
	return slots
}

// changes are the operations that a change of the overlay puts an end to.
func changes(key mesh.OverlayKey) []slot {
	return overlaySlots(key, verbApply, verbProve, verbExtend, verbWithdraw)
}

// start runs an operation in its slot, after those in ends have been ended. The same
// effect again, while it is under way, is no new operation, unless it is to withdraw:
// that is a new attempt. What run returns is the event to report, nil = none; an
// operation that was ended reports nothing.
func (k *Kernel) start(at slot, e microkernel.Effect, ends []slot, run func(context.Context) event) {
	have := k.ops[at]
	if at.verb != verbWithdraw && have.running() && reflect.DeepEqual(have.effect, e) {
		return
	}
	var before []*operation
	for _, s := range ends {
		if o := k.end(s); o != nil {
			before = append(before, o)
		}
	}
	ctx, cancel := context.WithCancel(k.ctx)
	o := &operation{effect: e, cancel: cancel, done: make(chan struct{})}
	k.ops[at] = o
	k.spawn(func() {
		defer cancel()
		defer close(o.done)
		for _, former := range before {
			<-former.done
		}
		if ctx.Err() != nil {
			return
		}
		if ev := run(ctx); ev != nil {
			k.send(ctx, request{event: ev, stale: func() bool { return k.ops[at] != o }})
		}
	})
}

// end ends the operation in a slot, without waiting for it, and returns it; nil if there
// was none under way.
func (k *Kernel) end(at slot) *operation {
	o := k.ops[at]
	delete(k.ops, at)
	if !o.running() {
		return nil
	}
	o.cancel()
	return o
}

// finish ends what is left of a plan.
func (k *Kernel) finish(plan microkernel.PlanID) {
	for at, o := range k.ops {
		if planOf(o.effect) == plan || !o.running() {
			k.end(at)
		}
	}
}

// failed makes the event of an effect that cannot be achieved.
func failed(plan microkernel.PlanID, step isa.StepID, err error) event {
	refused := (*Refused)(nil)
	code := isa.Code("")
	if errors.As(err, &refused) {
		code = refused.Code
	}
	reason := text(err.Error())
	return func(at microkernel.Stamp) microkernel.Event {
		return microkernel.Failed{Stamp: at, Plan: plan, Step: step, Code: code, Reason: reason}
	}
}

func (k *Kernel) recheck(e microkernel.Recheck) func(context.Context) event {
	record, found := k.snapshot().Record(e.Plan)
	return func(context.Context) event {
		if !found {
			return nil
		}
		gather := k.views.facts
		if record.Phase == microkernel.Running {
			gather = k.views.atGate
		}
		view := gather(record.Written)
		return func(at microkernel.Stamp) microkernel.Event {
			return microkernel.Viewed{Stamp: at, Plan: e.Plan, View: view, Look: e.Look}
		}
	}
}

func (k *Kernel) apply(e microkernel.Apply) func(context.Context) event {
	return func(ctx context.Context) event {
		acks, err := k.cfg.Traffic.Apply(ctx, e.Overlay)
		if err != nil {
			return failed(e.Plan, e.Step, fmt.Errorf("apply overlay: %w", err))
		}
		return func(at microkernel.Stamp) microkernel.Event {
			return microkernel.Applied{
				Stamp: at, Plan: e.Plan, Step: e.Step,
				Generation: microkernel.Generation(e.Overlay.Generation), Acks: acks,
			}
		}
	}
}

func (k *Kernel) prove(e microkernel.Prove) func(context.Context) event {
	own := overlaySlot(verbProve, e.Key)
	return func(ctx context.Context) event {
		pictures := pictures{now: k.cfg.Now}
		err := k.cfg.Traffic.Prove(ctx, e.Key, uint64(e.Generation), func(proof mesh.Proof) {
			if !pictures.news(proof, k.confirmed(e.Plan, e.Step)) {
				return
			}
			k.send(ctx, request{
				event: func(at microkernel.Stamp) microkernel.Event {
					return microkernel.Proved{Stamp: at, Plan: e.Plan, Step: e.Step, Proof: proof}
				},
				stale: func() bool { return ctx.Err() != nil || k.ops[own] == nil },
			})
		})
		if err != nil && ctx.Err() == nil {
			return failed(e.Plan, e.Step, fmt.Errorf("prove drain: %w", err))
		}
		return nil
	}
}

// confirmed reports whether a step of a plan is confirmed.
func (k *Kernel) confirmed(plan microkernel.PlanID, step isa.StepID) bool {
	record, _ := k.snapshot().Record(plan)
	return slices.ContainsFunc(record.Steps, func(s microkernel.StepRecord) bool {
		return s.Step.ID == step && s.State == microkernel.StepConfirmed
	})
}

// pictures thins out proofs: equal ones; those that say no more than that an open gate
// has been quiet for longer; and, more often than needed, those that cannot open a gate
// because something is still in flight, after another of that kind.
type pictures struct {
	now  func() time.Time
	last mesh.Proof
	at   time.Time
	some bool
}

// busyInterval is how often a target that is not empty is reported.
const busyInterval = 200 * time.Millisecond

func (p *pictures) news(proof mesh.Proof, open bool) bool {
	now := p.now()
	if p.some && proof == p.last {
		return false
	}
	quieter := p.last
	quieter.Quiet = proof.Quiet
	if p.some && open && proof == quieter && proof.Quiet >= p.last.Quiet {
		return false
	}
	if p.some && busy(&proof) && busy(&p.last) && proof.Lapsed == p.last.Lapsed && now.Sub(p.at) < busyInterval {
		return false
	}
	p.last, p.at, p.some = proof, now, true
	return true
}

func busy(p *mesh.Proof) bool { return p.InFlight > 0 || p.Inbound > 0 }

func (k *Kernel) extend(e microkernel.Extend) func(context.Context) event {
	step := k.stepOf(e.Key)
	return func(ctx context.Context) event {
		if err := k.cfg.Traffic.Extend(ctx, e.Key, uint64(e.Generation), e.Lease); err != nil {
			return failed(e.Plan, step, fmt.Errorf("extend lease: %w", err))
		}
		return nil
	}
}

// stepOf returns the step that owns the overlay of key, "" if none does.
func (k *Kernel) stepOf(key mesh.OverlayKey) isa.StepID {
	for _, overlay := range k.snapshot().Overlays() {
		if overlay.Key == key {
			return isa.StepID(overlay.Step)
		}
	}
	return ""
}

func (k *Kernel) withdraw(e microkernel.Withdraw) func(context.Context) event {
	return func(ctx context.Context) event {
		if err := k.cfg.Traffic.Withdraw(ctx, e.Key, e.Ramp); err != nil {
			return failed(e.Plan, e.Step, fmt.Errorf("withdraw overlay: %w", err))
		}
		return func(at microkernel.Stamp) microkernel.Event {
			return microkernel.Withdrawn{Stamp: at, Plan: e.Plan, Step: e.Step, Generation: e.Generation}
		}
	}
}

func (k *Kernel) reboot(e microkernel.Reboot) func(context.Context) event {
	return func(ctx context.Context) event {
		limited := ctx
		if e.Deadline > 0 {
			var cancel context.CancelFunc
			limited, cancel = context.WithTimeout(ctx, e.Deadline)
			defer cancel()
		}
		instance, err := k.cfg.Processes.Restart(limited, e.Ref, e.Mode)
		switch {
		case err == nil && instance.Incarnation <= e.Ref.Incarnation && instance.UID == e.Ref.UID:
			return failed(e.Plan, e.Step, fmt.Errorf("restart %s: still incarnation %d", e.Ref.UID, instance.Incarnation))
		case err != nil && ctx.Err() == nil && limited.Err() != nil:
			return failed(e.Plan, e.Step, fmt.Errorf("restart %s: not ready within %s", e.Ref.UID, e.Deadline))
		case err != nil:
			return failed(e.Plan, e.Step, fmt.Errorf("restart %s: %w", e.Ref.UID, err))
		}
		return func(at microkernel.Stamp) microkernel.Event {
			return microkernel.Restarted{Stamp: at, Plan: e.Plan, Step: e.Step, Old: e.Ref, New: instance.Ref}
		}
	}
}

func (k *Kernel) scale(e microkernel.SetReplicas) func(context.Context) event {
	return func(ctx context.Context) event {
		if k.cfg.Scaler == nil {
			return failed(e.Plan, e.Step, &Refused{Code: isa.CodeUnsupported, Reason: "this platform does not scale"})
		}
		former, err := k.cfg.Scaler.Scale(ctx, e.Service, e.Replicas)
		if err != nil {
			return failed(e.Plan, e.Step, fmt.Errorf("scale: %w", err))
		}
		return func(at microkernel.Stamp) microkernel.Event {
			return microkernel.Scaled{Stamp: at, Plan: e.Plan, Step: e.Step, Former: former, Replicas: e.Replicas}
		}
	}
}

func (k *Kernel) rollBack(e microkernel.SetRevision) func(context.Context) event {
	return func(ctx context.Context) event {
		if k.cfg.Configs == nil {
			return failed(e.Plan, e.Step, &Refused{Code: isa.CodeUnsupported, Reason: "this platform does not roll back"})
		}
		former, err := k.cfg.Configs.SetRevision(ctx, e.Object, e.Revision)
		if err != nil {
			return failed(e.Plan, e.Step, fmt.Errorf("roll back: %w", err))
		}
		return func(at microkernel.Stamp) microkernel.Event {
			return microkernel.RolledBack{Stamp: at, Plan: e.Plan, Step: e.Step, Former: text(former), Revision: e.Revision}
		}
	}
}

func (k *Kernel) watch(e microkernel.Watch) func(context.Context) event {
	return func(ctx context.Context) event {
		verdict := microkernel.HarmVerdict{Label: microkernel.Inconclusive, Evidence: "no monitor"}
		if k.cfg.Monitor == nil && e.For == 0 {
			return nil // it would speak only on harm
		}
		if measurer, able := k.cfg.Monitor.(Measurer); able && len(e.Baselines) == 0 {
			baselines := measurer.Baselines(e)
			k.send(ctx, request{event: func(at microkernel.Stamp) microkernel.Event {
				return microkernel.Measured{Stamp: at, Plan: e.Plan, Baselines: baselines}
			}})
		}
		if k.cfg.Monitor != nil {
			var err error
			if verdict, err = k.cfg.Monitor.Watch(ctx, e); err != nil {
				return nil // ended; the core has a timer for a monitor that never judges
			}
		}
		verdict.Evidence = text(verdict.Evidence)
		return func(at microkernel.Stamp) microkernel.Event {
			return microkernel.Judged{Stamp: at, Plan: e.Plan, Verdict: verdict}
		}
	}
}

// probe looks at the world.
func (k *Kernel) probe(context.Context) event {
	overlays := k.cfg.Traffic.Installed()
	var instances []mesh.Instance
	world := k.cfg.Processes.World()
	for i := range world.Services {
		instances = append(instances, world.Services[i].Instances...)
	}
	slices.SortFunc(instances, func(a, b mesh.Instance) int { return strings.Compare(string(a.UID), string(b.UID)) })
	return func(at microkernel.Stamp) microkernel.Event {
		return microkernel.Probed{Stamp: at, Overlays: overlays, Instances: instances}
	}
}

// page calls a human, in the background.
func (k *Kernel) page(plan microkernel.PlanID, reason string) {
	k.cfg.Log.Error("page", "plan", plan, "reason", reason)
	if k.cfg.Pager == nil {
		return
	}
	k.spawn(func() {
		ctx, cancel := context.WithTimeout(k.ctx, pageTimeout)
		defer cancel()
		if err := k.cfg.Pager.Page(ctx, plan, reason); err != nil {
			k.cfg.Log.Error("page not delivered", "plan", plan, "error", err)
		}
	})
}
