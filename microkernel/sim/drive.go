package sim

import (
	"strings"
	"time"

	"github.com/sluicemesh/sluice/microkernel"
)

// disk is the journal. What is appended is lost in a crash until it is synced.
type disk struct {
	policy microkernel.Policy
	synced []microkernel.Event
	base   microkernel.State // as the last recovery replayed it ...
	since  int               // ... from this many events
}

// recover rebuilds the state from what survived. It starts from the state that the
// recovery before it arrived at; replay, at the end of a run, starts from nothing.
func (d *disk) recover() microkernel.State {
	for _, ev := range d.synced[d.since:] {
		d.base, _ = microkernel.Step(d.base, ev)
	}
	d.since = len(d.synced)
	return d.base
}

// replay rebuilds the state from the whole journal.
func (d *disk) replay() microkernel.State {
	s := microkernel.New(d.policy)
	for _, ev := range d.synced {
		s, _ = microkernel.Step(s, ev)
	}
	return s
}

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
	r.disk.synced = append(r.disk.synced, ev)
	next, effects := microkernel.Step(r.state, ev)
	r.state = next
	r.counts.event(&r.state, ev, effects)
	if why := microkernel.Check(r.state); why != "" {
		r.violate(why)
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
		return
	}
	r.performAll(effects)
	r.checkWorld()
	if where == afterAll {
		r.crash("crash-after-effects")
	}
}

func (r *run) performAll(effects []microkernel.Effect) {
	for _, e := range effects {
		if r.options.Trace != nil {
			r.trace("    %s", spellEffect(e))
		}
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
	if r.rng.IntN(odds) != 0 {
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
	live := microkernel.Hash(r.state)
	r.counts.Invariants["I6"]++
	r.process++
	r.timers = map[microkernel.TimerID]int{}
	r.world.crash()
	r.state = r.disk.recover()
	if microkernel.Hash(r.state) != live {
		r.violate("I6: replay does not yield the live state")
		return
	}
	down := r.millis(300, 3000)
	if r.chance(5) {
		down = time.Duration(30+r.rng.IntN(100)) * time.Second
		r.counts.Faults["long-outage"]++
	}
	r.answer(down, r.lead)
}

// lead starts a process of the control plane.
func (r *run) lead() {
	r.term = r.state.Term() + 1
	r.deliver(microkernel.Led{Stamp: r.stamp(), Term: r.term})
}

func (r *run) stamp() microkernel.Stamp { return microkernel.Stamp{At: r.world.now} }

// report delivers an answer of the driver, as unreliably as the world is.
func (r *run) report(wait time.Duration, make func() microkernel.Event) {
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
		r.answer(wait+late, func() { r.deliver(restamp(ev, r.world.now)) })
		return
	case r.chance(25):
		r.counts.Faults["duplicate-answer"]++
		r.answer(wait+r.millis(1, 3000), send)
	}
	r.answer(wait, send)
}

// restamp gives a fact that was learnt earlier the instant at which it arrives.
func restamp(ev microkernel.Event, at microkernel.Instant) microkernel.Event {
	stamp := microkernel.Stamp{At: at}
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
	}
	return ev
}

func (r *run) openPlans() string {
	var b strings.Builder
	for _, rec := range r.state.Records() {
		if !rec.Phase.Final() {
			b.WriteString(string(rec.ID) + " " + string(rec.Phase) + " (" + rec.Waiting + ") ")
		}
	}
	return b.String()
}
