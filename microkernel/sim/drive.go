package sim

import (
	"reflect"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/microkernel"
)

// boundary is where in the handling of one event a crash falls.
type boundary int

const (
	nowhere    boundary = iota
	beforeSync          // the event is lost
	afterSync           // the event is durable, none of its effects is performed
	midEffects          // some are
	afterAll            // all are, but no answer comes
)

// deliver hands an event to the kernel as the driver does: journal, sync, step, effects.
func (r *run) deliver(ev microkernel.Event) {
	if _, leads := ev.(microkernel.Led); !leads && !r.up() {
		return // there is no process that would take it
	}
	r.events++
	r.calm++
	where := r.boundary()
	if r.options.Trace != nil {
		r.trace("%s", spellEvent(ev))
	}
	if where == beforeSync {
		r.crash("crash-before-sync")
		return
	}
	r.disk.append(ev)
	r.handled = ev
	next, effects := microkernel.Step(r.state, ev)
	r.state = next
	r.counts.event(&r.state, ev, effects)
	if proof, ok := ev.(microkernel.Proved); ok {
		r.proofs[given{proof.Proof.Key.Callee, proof.Proof.Generation}] = r.process
	}
	r.noteBaselines(ev)
	r.countCrowds(ev)
	r.checkState(ev, effects)
	r.read()
	if len(r.violations) > 0 {
		return
	}
	switch where {
	case afterSync:
		r.crash("crash-after-sync")
		return
	case midEffects:
		n := 0
		if len(effects) > 0 {
			n = r.rng.IntN(len(effects))
		}
		r.performAll(effects[:n])
		r.crash("crash-mid-effects")
		r.splitBrain(effects[n:])
		return
	}
	r.performAll(effects)
	r.checkOwned()
	if where == afterAll {
		r.crash("crash-after-effects")
	}
}

func (r *run) performAll(effects []microkernel.Effect) {
	for _, e := range effects {
		if r.options.Trace != nil {
			r.trace("    %s", spellEffect(e))
		}
		r.checkEffect(e)
		r.perform(e)
	}
}

// boundary draws whether and where the control plane crashes. A second crash is more
// likely while it recovers from the first.
func (r *run) boundary() boundary {
	if r.world.fair || r.crashes >= 4 {
		return nowhere
	}
	odds := 150
	if r.crashes > 0 && r.calm < 8 {
		odds = 12
	}
	if r.crashes == 0 && r.events > r.options.Events*3/4 {
		odds = 3 // at least one crash a seed
	}
	if r.rng.IntN(odds) != 0 || !r.take() {
		return nowhere
	}
	return beforeSync + boundary(r.rng.IntN(4))
}

// crash ends the process of the control plane; the world goes on. What is replayed from
// the disk must be what was lost.
func (r *run) crash(kind string) {
	r.counts.Faults[kind]++
	r.counts.Crashes++
	if r.crashes > 0 && r.calm < 8 {
		r.counts.DoubleCrashes++
	}
	r.counts.crashPhases(&r.state)
	r.crashes++
	r.calm = 0
	r.trace("CRASH %s", kind)
	live := r.state
	r.process++
	r.timers = map[microkernel.TimerID]int{}
	r.world.crash()
	r.staleAnswers()
	r.state = r.disk.recover()
	why := ""
	if !reflect.DeepEqual(r.state, live) {
		why = "I6: replay does not yield the live state"
	}
	r.holds("I6", why)
	down := r.millis(300, 3000)
	if r.chance(5) {
		down = time.Duration(30+r.rng.IntN(100)) * time.Second
		r.counts.Faults["long-outage"]++
	}
	r.answer(down+r.damage(), r.lead)
}

// lead starts a process of the control plane. Its wall clock may be wrong; its instants
// never are before the last journalled one, and grow with real time from there.
func (r *run) lead() {
	if r.chance(6) {
		jump := r.millis(1000, 1_200_000)
		if r.rng.IntN(2) == 0 {
			jump = -jump
			r.counts.Faults["clock-back"]++
		} else {
			r.counts.Faults["clock-forward"]++
		}
		r.skew += jump
	}
	r.started = r.world.now
	r.base = max(r.world.now.Add(r.skew), r.disk.last())
	r.deliver(microkernel.Led{Stamp: r.stamp(), Term: r.state.Term() + 1})
	r.impatience()
}

// stamp is the instant on the clock of the present process.
func (r *run) stamp() microkernel.Stamp {
	return microkernel.Stamp{At: r.base.Add(r.world.now.Sub(r.started))}
}

// splitBrain lets the process that should have ended, or was cut off, carry out the
// effects that it still had, late. The world refuses them once it has heard of another
// leader. Nobody listens to the answers.
func (r *run) splitBrain(rest []microkernel.Effect) {
	if len(rest) == 0 || !r.chance(2) {
		return
	}
	r.counts.Faults["split-brain"]++
	former := r.process - 1
	r.after(r.millis(1, 2000), func() {
		for _, e := range rest {
			r.checkStale(e, former)
		}
	})
}

// staleAnswers lets some proofs that the former process asked for reach the next one.
func (r *run) staleAnswers() {
	for i := range r.queue {
		d := &r.queue[i]
		if d.process == r.process-1 && d.stale && r.chance(10) {
			d.process = r.process
			r.counts.Faults["stale-answer"]++
		}
	}
}

// report delivers an answer of the driver, as unreliably as the world is.
func (r *run) report(wait time.Duration, make func() microkernel.Event) {
	if r.stale {
		return
	}
	send := func() {
		if ev := make(); ev != nil {
			r.deliver(ev)
		}
	}
	switch {
	case r.chance(60):
		r.counts.Faults["lost-answer"]++
		return
	case r.chance(25):
		r.counts.Faults["late-answer"]++
		late := r.millis(1000, 20_000)
		ev := make()
		if ev == nil {
			return
		}
		r.answer(wait+late, func() { r.deliver(restamp(ev, r.stamp())) })
		return
	case r.chance(25):
		r.counts.Faults["duplicate-answer"]++
		r.answer(wait+r.millis(1, 3000), send)
	}
	r.answer(wait, send)
}

// restamp gives a fact that was learnt earlier the instant at which it arrives.
func restamp(ev microkernel.Event, stamp microkernel.Stamp) microkernel.Event {
	switch ev := ev.(type) {
	case microkernel.Applied:
		ev.Stamp = stamp
		return ev
	case microkernel.Proved:
		ev.Stamp = stamp
		return ev
	case microkernel.Restarted:
		ev.Stamp = stamp
		return ev
	case microkernel.Withdrawn:
		ev.Stamp = stamp
		return ev
	case microkernel.Scaled:
		ev.Stamp = stamp
		return ev
	case microkernel.RolledBack:
		ev.Stamp = stamp
		return ev
	case microkernel.Failed:
		ev.Stamp = stamp
		return ev
	case microkernel.Viewed:
		ev.Stamp = stamp
		return ev
	case microkernel.Probed:
		ev.Stamp = stamp
		return ev
	case microkernel.Judged:
		ev.Stamp = stamp
		return ev
	case microkernel.Measured:
		ev.Stamp = stamp
		return ev
	}
	return ev
}

func (r *run) openPlans() string {
	var b strings.Builder
	for _, rec := range r.state.OpenRecords() {
		if !rec.Phase.Final() {
			b.WriteString(string(rec.ID) + " " + string(rec.Phase) + " (" + rec.Waiting + ") ")
		}
	}
	return b.String()
}
