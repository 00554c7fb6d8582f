package driver

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// request is an event on its way to the loop.
type request struct {
	event func(microkernel.Stamp) microkernel.Event
	stale func() bool    // asked in the loop; true drops it. nil = never
	reply chan<- outcome // buffered; nil = nobody waits
	human bool           // from a surface: refused while the driver is frozen
}

// outcome is what came of a request.
type outcome struct {
	state   microkernel.State
	effects []microkernel.Effect
	err     error
}

// answer returns the verdict on plan among the effects.
func (o *outcome) answer(plan microkernel.PlanID) (microkernel.Verdict, bool) {
	for _, e := range o.effects {
		if a, ok := e.(microkernel.Answer); ok && a.Plan == plan {
			return a.Verdict, true
		}
	}
	return microkernel.Verdict{}, false
}

// loop owns the state: it takes one event after the other until the kernel is closed.
func (k *Kernel) loop() {
	defer k.stopTimers()
	for {
		select {
		case <-k.ctx.Done():
			return
		case r := <-k.inbox:
			if r.stale != nil && r.stale() {
				continue
			}
			out := k.take(r)
			if r.reply != nil {
				r.reply <- out
			}
		}
	}
}

// send hands r to the loop; false if the kernel or ctx ended first.
func (k *Kernel) send(ctx context.Context, r request) bool {
	select {
	case k.inbox <- r:
		return true
	case <-ctx.Done():
	case <-k.ctx.Done():
	}
	return false
}

// ask hands an event to the loop and waits for what comes of it.
func (k *Kernel) ask(ctx context.Context, event func(microkernel.Stamp) microkernel.Event) (outcome, error) {
	reply := make(chan outcome, 1)
	if !k.send(ctx, request{event: event, reply: reply, human: true}) {
		return outcome{}, k.ended(ctx)
	}
	select {
	case out := <-reply:
		return out, out.err
	case <-ctx.Done():
	case <-k.ctx.Done():
	}
	return outcome{}, k.ended(ctx)
}

func (k *Kernel) ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &Refused{Reason: "the kernel has stopped"}
}

// take journals one event, steps, and performs the effects.
func (k *Kernel) take(r request) outcome {
	if r.human && k.halted.Load() != nil {
		return outcome{err: k.frozen()}
	}
	ev := r.event(microkernel.Stamp{At: k.clock.instant()})
	before := k.snapshot()
	state, effects := microkernel.Step(before, ev)
	out := outcome{state: state, effects: effects}
	if flood(ev, &out) {
		k.observe.throttled()
		return outcome{state: before, effects: effects}
	}
	if err := k.commit(ev, r.human); err != nil {
		return outcome{err: err}
	}
	if broken := k.cfg.check(state); broken != "" && state.Frozen() == "" {
		return k.violated(ev, out, broken)
	}
	k.settle(ev, out, anything)
	k.compact()
	return out
}

// violated takes a step after which an invariant is broken: of its effects only those that
// restore are performed, and the kernel freezes, by an event of its own so that it is in the
// journal and an admin can clear it. What comes back is the answer to the step.
func (k *Kernel) violated(ev microkernel.Event, out outcome, broken string) outcome {
	name, _, _ := strings.Cut(broken, ":")
	k.observe.metrics.violations.WithLabelValues(name).Inc()
	k.cfg.Log.Error("invariant broken", "invariant", broken, "event", nameOf(ev))
	k.settle(ev, out, restores)
	freeze := microkernel.Violated{Stamp: microkernel.Stamp{At: k.clock.instant()}, Invariant: text(broken)}
	if err := k.commit(freeze, false); err != nil {
		return out // the disk is full: nothing new is begun either
	}
	state, effects := microkernel.Step(out.state, freeze)
	k.settle(freeze, outcome{state: state, effects: effects}, anything)
	return out
}

// flood reports whether ev was refused for its proposer's rate alone: such refusals are
// counted, not journalled, so that a flood cannot grow the journal.
func flood(ev microkernel.Event, out *outcome) bool {
	plan := microkernel.PlanID("")
	switch ev := ev.(type) {
	case microkernel.Submitted:
		plan = microkernel.PlanID(ev.Program.ID)
	case microkernel.Unread:
	default:
		return false
	}
	verdict, answered := out.answer(plan)
	return answered && verdict.Outcome == microkernel.Throttle && verdict.Code == isa.CodeRate
}

// settle makes the new state the present one and performs the effects that may be.
func (k *Kernel) settle(ev microkernel.Event, out outcome, may func(microkernel.Effect) bool) {
	k.adopt(out.state)
	k.history.note(ev, out.effects)
	k.observe.event(ev, out)
	for _, e := range out.effects {
		if may(e) && (k.halted.Load() == nil || restores(e)) {
			k.perform(e)
		}
	}
	k.watches.publish(out.state)
}

func anything(microkernel.Effect) bool { return true }

// restores reports whether an effect may be performed by a frozen driver.
func restores(e microkernel.Effect) bool {
	switch e.(type) {
	case microkernel.Withdraw, microkernel.SetTimer, microkernel.StopTimer, microkernel.Unwatch,
		microkernel.Page, microkernel.Finish, microkernel.Answer:
		return true
	}
	return false
}

// commit makes ev durable. The error says that ev must be refused: what a human or agent
// asks for is; a fact of the world never is, since it has happened, and is taken into
// account even when the journal is gone.
func (k *Kernel) commit(ev microkernel.Event, human bool) error {
	if k.halted.Load() != nil {
		return nil
	}
	started := k.cfg.Now()
	_, err := k.journal.Append(ev)
	full := (*journal.FullError)(nil)
	if errors.As(err, &full) {
		return k.commitFull(ev, human, full)
	}
	k.observe.committed(ev, k.cfg.Now().Sub(started))
	if err == nil {
		k.full.Store(false)
		return nil
	}
	encoding := (*journal.EncodeError)(nil)
	if errors.As(err, &encoding) && human {
		return &Refused{Code: isa.CodeDecode, Reason: text(encoding.Error())}
	}
	k.freeze(err)
	if human {
		return k.frozen()
	}
	return nil
}

// commitFull is commit on a full disk: nothing new, but what runs is undone and that is
// journalled in the reserve.
func (k *Kernel) commitFull(ev microkernel.Event, human bool, full *journal.FullError) error {
	first := !k.full.Swap(true)
	if first {
		k.cfg.Log.Error("journal full", "error", full)
		k.page("", full.Error())
		defer k.abortAll(full.Error())
	}
	switch ev.(type) {
	case microkernel.Submitted, microkernel.Unread, microkernel.Approved, microkernel.Resumed:
		return &Refused{Code: isa.CodeFrozen, Reason: full.Error()}
	}
	if _, err := k.journal.AppendReserved(ev); err != nil {
		k.freeze(err)
		if human {
			return k.frozen()
		}
	}
	return nil
}

// freeze stops everything but restoring, because the journal is gone: open plans are
// aborted in memory alone, and undone. What comes of that is journalled by the next
// kernel, which finds it by probing the world.
func (k *Kernel) freeze(err error) {
	k.halt(err)
	k.abortAll(err.Error())
}

// halt makes the driver refuse everything but restoring.
func (k *Kernel) halt(err error) {
	reason := err.Error()
	k.halted.Store(&reason)
	k.cfg.Log.Error("kernel frozen", "error", err)
	k.page("", "frozen: "+reason)
}

// frozen is the error of a request to a driver that froze itself.
func (k *Kernel) frozen() error {
	return &Refused{Code: isa.CodeFrozen, Reason: *k.halted.Load()}
}

// abortAll aborts every plan that has begun or will by itself, after the event under way:
// first those with something to undo, so that the reserve is left for them. Held plans
// stay: nobody can approve them now.
func (k *Kernel) abortAll(reason string) {
	var open, waiting []microkernel.PlanID
	for _, r := range k.snapshot().Records() {
		switch {
		case r.Phase.Final() || r.Phase == microkernel.Held:
		case r.Phase == microkernel.Queued:
			waiting = append(waiting, r.ID)
		default:
			open = append(open, r.ID)
		}
	}
	open = append(open, waiting...)
	k.spawn(func() {
		for _, id := range open {
			k.send(k.ctx, request{event: func(at microkernel.Stamp) microkernel.Event {
				return microkernel.Aborted{Stamp: at, Plan: id, By: self(), Reason: text(reason)}
			}})
		}
	})
}

// self is the driver itself as a principal.
func self() microkernel.Principal {
	return microkernel.Principal{Name: "sluiced", Role: microkernel.Admin}
}

// sweep takes every overlay away, again and again, until none is left: of a frozen
// kernel without a journal, which cannot know whose they are.
func (k *Kernel) sweep() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		left := k.cfg.Traffic.Installed()
		for _, overlay := range left {
			if err := k.cfg.Traffic.Withdraw(k.ctx, overlay.Key, 0); err != nil && k.ctx.Err() == nil {
				k.cfg.Log.Error("overlay not removed", "callee", overlay.Key.Callee, "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-k.ctx.Done():
			return
		}
	}
}

// Bounds of the driver.
const (
	sweepInterval = time.Second
	pageTimeout   = 30 * time.Second
	maxText       = 500 // bytes of a reason that comes from outside
)

// text makes a reason from outside fit for the journal: short, and UTF-8.
func text(reason string) string {
	if len(reason) > maxText {
		reason = reason[:maxText]
	}
	return strings.ToValidUTF8(reason, "?")
}
