package isa

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// drainUse is a drain and what consumes it.
type drainUse struct {
	drain *Drain
	step  int
	end   int // the step that gives traffic back or awaits, -1 = none
	await bool
}

// restartUse is a restart: with a drain, as a macro, or of what takes no traffic.
type restartUse struct {
	step    int
	restart *Restart
	drain   int // index in drains, -1 = none

	from, to int // its services are stops[from:to]
}

// macro reports whether the restart brings drains of its own.
func (r *restartUse) macro() bool {
	return r.restart.Drain == "" && !r.restart.NoDrain && !single(&r.restart.Target)
}

// apart reports whether intervals are what keeps a macro and another restart apart: the
// other is a macro, too, or within a drain of what it restarts.
func (c *checker) apart(macro, other *restartUse) bool {
	if !macro.macro() || other.macro() || other.drain < 0 {
		return macro.macro() && other.macro()
	}
	drain := c.drains[other.drain].drain
	return drain.Target.Service == other.restart.Target.Service
}

// collect finds the drains, their consumers and the restarts.
func (c *checker) collect() {
	l := c.l
	for i := range l.Lines {
		if a := l.Drain(i); a != nil {
			c.drains = append(c.drains, drainUse{drain: a, step: i, end: -1})
		}
	}
	for i := range l.Lines {
		switch at := l.Lines[i].At; l.Lines[i].Op {
		case OpRestart:
			a := &l.Restarts[at]
			use := restartUse{step: i, restart: a, drain: -1}
			if a.Drain != "" {
				use.drain = c.drainOf(i, a.Drain)
			}
			c.uses = append(c.uses, use)
		case OpRestore:
			c.consume(i, l.Restores[at].Drain, false)
		case OpAwait:
			c.consume(i, l.Awaits[at].Drain, true)
		case OpBreak, OpLimit, OpScale, OpRollback:
			c.writers = append(c.writers, i)
		}
	}
}

// drainOf returns the index in drains of the drain that step i names, -1 with a fault.
func (c *checker) drainOf(i int, id StepID) int {
	j := c.find(id)
	if j < 0 {
		c.add(i, "drain", CodeUnknownStep, "there is no step "+quote(string(id)), "name a drain of this plan")
		return -1
	}
	for k := range c.drains {
		if c.drains[k].step == j {
			return k
		}
	}
	c.add(i, "drain", CodeLinear, "step "+string(id)+" is no drain", "name a drain of this plan")
	return -1
}

// consume records that step i ends a drain; a second end is a fault.
func (c *checker) consume(i int, id StepID, await bool) {
	k := c.drainOf(i, id)
	if k < 0 {
		return
	}
	d := &c.drains[k]
	if d.end >= 0 {
		c.add(i, "drain", CodeLinear, "drain "+string(id)+" is already ended by "+string(c.l.Lines[d.end].ID),
			"end each drain once")
		return
	}
	d.end, d.await = i, await
}

// linear checks that each drain is ended, and that nothing follows an await.
func (c *checker) linear() {
	for k := range c.drains {
		d := &c.drains[k]
		if id := c.l.Lines[d.step].ID; d.end < 0 {
			c.add(d.step, "", CodeLinear, "drain "+quote(string(id))+" is never given back",
				"add a step that restores it, or one that awaits restore or lease")
		}
	}
	for i := range c.l.Lines {
		for _, j := range c.follows(i) {
			if j >= 0 && j != i && c.awaits(j) {
				c.add(i, "after", CodeLinear, "nothing can follow "+string(c.l.Lines[j].ID)+": an await ends the plan",
					"remove it from after")
			}
		}
	}
}

func (c *checker) awaits(i int) bool {
	return c.l.Lines[i].Op == OpAwait
}

// borrows checks that a drain is in force and proved whenever it is used.
func (c *checker) borrows() {
	for k := range c.drains {
		if d := &c.drains[k]; d.end >= 0 && !c.precedes(d.step, d.end) {
			c.add(d.end, "after", CodeLinear, "it may start before drain "+string(c.l.Lines[d.step].ID)+" is confirmed",
				"add "+string(c.l.Lines[d.step].ID)+" to after")
		}
	}
	for k := range c.uses {
		if use := &c.uses[k]; use.drain >= 0 {
			c.borrow(use, &c.drains[use.drain])
		}
	}
}

func (c *checker) borrow(use *restartUse, d *drainUse) {
	id := string(c.l.Lines[d.step].ID)
	if !c.precedes(d.step, use.step) {
		c.add(use.step, "drain", CodeLinear, "drain "+id+" may not be confirmed when it is borrowed",
			"add "+id+" to after")
	}
	if d.end >= 0 && !c.precedes(use.step, d.end) {
		c.add(use.step, "drain", CodeLinear, "drain "+id+" may be over before the restart that borrows it",
			"let "+string(c.l.Lines[d.end].ID)+" follow "+string(c.l.Lines[use.step].ID))
	}
	if reason := c.uncovered(d.drain, use.restart); reason != "" {
		c.add(use.step, "drain", CodeDrainRequired, reason, "drain all that is restarted, at 100 %")
	}
}

// uncovered says why drain does not take everything off what r restarts, "" if it does
// or if that cannot be known without the world.
func (c *checker) uncovered(drain *Drain, r *Restart) string {
	from, to := &drain.Target, &r.Target
	switch {
	case len(to.Group) > 0:
		return "a drain is of one service, it does not cover a group"
	case from.Service != to.Service:
		return "the drain is of " + quote(string(from.Service)) + ", not of " + quote(string(to.Service))
	case drain.Share != 0 && drain.Share < 100:
		return fmt.Sprintf("the drain takes only %d %% of the traffic off", drain.Share)
	case !narrowed(from):
		return ""
	case !narrowed(to):
		return "the drain is of a part of " + string(to.Service) + ", the restart of all of it"
	case from.UID != "" && to.UID != "" && from.UID != to.UID,
		from.Instance != "" && to.Instance != "" && from.Instance != to.Instance:
		return "the drain is of another instance"
	}
	facts := c.facts(to.Service)
	if facts == nil {
		return ""
	}
	for i := range facts.Instances {
		if instance := &facts.Instances[i]; to.Selects(instance) && !from.Selects(instance) {
			return "the drain leaves traffic on " + quote(instance.Name)
		}
	}
	return ""
}

// leases checks that each lease covers the deadlines of all that may happen between the
// start of its drain and its end: the longest chain of steps that come before the end,
// except those that are over when the drain starts.
func (c *checker) leases() {
	if len(c.drains) == 0 {
		return
	}
	c.reach, c.times = zeroed(c.reach, len(c.l.Lines)), c.times[:0]
	for i := range c.l.Lines {
		c.times = append(c.times, c.allowed(i))
	}
	for k := range c.drains {
		d := &c.drains[k]
		if d.end < 0 || !c.precedes(d.step, d.end) {
			continue
		}
		lease := cmp.Or(d.drain.Lease, DefaultLease)
		if need := c.longest(d); lease > 0 && need > lease {
			c.add(d.step, "lease", CodeLease,
				fmt.Sprintf("a lease of %s does not cover the %s that deadlines allow until step %s",
					formatDuration(lease), formatDuration(need), c.l.Lines[d.end].ID),
				"lengthen the lease or shorten deadlines")
		}
	}
}

// longest returns the longest chain of deadlines between a drain's start and its end.
func (c *checker) longest(d *drainUse) time.Duration {
	var most time.Duration
	reach := c.reach // when a step's deadline ends, counted from the drain's start
	end, start := c.row(d.end), c.row(d.step)
	for _, i := range c.topo {
		reach[i] = 0
		if !bit(end, i) || bit(start, i) {
			continue
		}
		for _, j := range c.follows(i) {
			reach[i] = max(reach[i], reach[j])
		}
		reach[i] += c.times[i]
		most = max(most, reach[i])
	}
	return most
}

// allowed is the time that step i may take by its own operands.
func (c *checker) allowed(i int) time.Duration {
	switch at := c.l.Lines[i].At; c.l.Lines[i].Op {
	case OpDrain:
		return cmp.Or(c.l.Drains[at].Deadline, DefaultDrainDeadline)
	case OpRestore:
		return c.l.Restores[at].Ramp
	case OpRestart:
		return c.restartTime(i, &c.l.Restarts[at])
	}
	return 0
}

// restartTime is the deadline of a restart, times its instances where they take turns.
func (c *checker) restartTime(i int, a *Restart) time.Duration {
	one := cmp.Or(a.Deadline, DefaultRestartDeadline)
	macro := a.Drain == "" && !a.NoDrain && !single(&a.Target)
	if macro {
		one += DefaultDrainDeadline
	}
	turns := time.Duration(0)
	for k := range a.Target.services() {
		facts := c.about(i, &a.Target, k)
		if facts == nil || a.Drain != "" && facts.Quorum == 0 {
			turns++
			continue
		}
		for i := range facts.Instances {
			if a.Target.Selects(&facts.Instances[i]) {
				turns++
			}
		}
	}
	return one * max(1, turns)
}

// interval is the time in which a step keeps traffic off a service: from the start of
// step from to the end of step to. A macro is an interval of its own.
type interval struct {
	service  mesh.Service
	number   int // of the service in the cast
	from, to int // to = -1: until after the plan
	restart  int // the restart that it is a macro of, -1 = none
}

// over reports whether a has ended, on every path, before b begins.
func (c *checker) over(a, b *interval) bool { return a.to >= 0 && c.precedes(a.to, b.from) }

// intervals lists the times in which drains are in force, by service, then step.
func (c *checker) intervals() []interval {
	out := c.open[:0]
	for k := range c.drains {
		d := &c.drains[k]
		at := interval{d.drain.Target.Service, c.number(d.step, &d.drain.Target, 0), d.step, d.end, -1}
		if d.await {
			at.to = -1
		}
		if d.end >= 0 {
			out = append(out, at)
		}
	}
	for k := range c.uses {
		use := &c.uses[k]
		if !use.macro() {
			continue
		}
		for n := range use.restart.Target.services() {
			service := use.restart.Target.service(n)
			out = append(out, interval{service, c.number(use.step, &use.restart.Target, n), use.step, use.step, k})
		}
	}
	slices.SortStableFunc(out, func(a, b interval) int {
		return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.from, b.from))
	})
	c.open = out
	return out
}

// conflicts checks that no two steps hold the same overlay, or restart the same
// instance, at once.
func (c *checker) conflicts() {
	open := c.intervals()
	for k := range open {
		for j := k - 1; j >= 0 && open[j].number == open[k].number; j-- {
			a, b := &open[j], &open[k]
			if a.from != b.from && !c.over(a, b) && !c.over(b, a) {
				c.add(b.from, "", CodeConflict, fmt.Sprintf("traffic is still kept off %s by step %s",
					quote(string(b.service)), c.l.Lines[a.from].ID),
					"put both into one drain, or let one follow what ends the other")
				break
			}
		}
	}
	c.doubleRestarts()
	c.doubleWrites()
}

// doubleRestarts refuses two restarts of one instance with no order between them.
func (c *checker) doubleRestarts() {
	for k := range c.uses {
		for j := range k {
			a, b := &c.uses[j], &c.uses[k]
			if c.foreign(a, b) || c.apart(a, b) || c.apart(b, a) || c.precedes(a.step, b.step) || c.precedes(b.step, a.step) {
				continue
			}
			if c.meet(&a.restart.Target, &b.restart.Target) {
				c.add(b.step, "target", CodeConflict,
					"it may restart the same instance at once as step "+string(c.l.Lines[a.step].ID),
					"remove one, or let it follow the other")
				break
			}
		}
	}
}

// foreign reports whether two restarts are of one service each, which is not the same, and
// do not name the same UID.
func (c *checker) foreign(a, b *restartUse) bool {
	one, other := &a.restart.Target, &b.restart.Target
	return c.acting[a.step] != c.acting[b.step] && len(one.Group) == 0 && len(other.Group) == 0 &&
		(one.UID == "" || one.UID != other.UID)
}

// meet reports whether two targets may have an instance in common.
func (c *checker) meet(a, b *Target) bool {
	if a.UID != "" && b.UID != "" {
		return a.UID == b.UID
	}
	for k := range a.services() {
		service := a.service(k)
		if b.Service != service && !slices.Contains(b.Group, service) {
			continue
		}
		facts := c.facts(service)
		if facts == nil {
			return a.Instance == b.Instance && a.Zone == b.Zone && a.Version == b.Version ||
				!narrowed(a) || !narrowed(b)
		}
		for i := range facts.Instances {
			if a.Selects(&facts.Instances[i]) && b.Selects(&facts.Instances[i]) {
				return true
			}
		}
	}
	return false
}

// doubleWrites refuses two limits, breakers or scales with one write set.
func (c *checker) doubleWrites() {
	for k, i := range c.writers {
		for _, j := range c.writers[:k] {
			if c.sameWrite(j, i) {
				c.add(i, "target", CodeConflict, "step "+string(c.l.Lines[j].ID)+" writes the same",
					"make them one step")
				break
			}
		}
	}
}

// sameWrite reports whether two steps that are no drains write the same.
func (c *checker) sameWrite(i, k int) bool {
	a, b := &c.l.Lines[i], &c.l.Lines[k]
	if a.Op != b.Op {
		return false
	}
	switch a.Op {
	case OpBreak:
		a, b := &c.l.Breaks[a.At], &c.l.Breaks[b.At]
		return a.Target.Service == b.Target.Service && a.Caller == b.Caller
	case OpLimit:
		a, b := &c.l.Limits[a.At], &c.l.Limits[b.At]
		return a.Target.Service == b.Target.Service && a.Caller == b.Caller
	case OpScale:
		return c.l.Scales[a.At].Target.Service == c.l.Scales[b.At].Target.Service
	case OpRollback:
		return c.l.Rollbacks[a.At].Object == c.l.Rollbacks[b.At].Object
	}
	return false
}
