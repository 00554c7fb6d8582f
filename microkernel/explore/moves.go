package explore

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// move is one thing that may happen next: a change of the world, then an event that the
// kernel learns of; either may be missing.
type move struct {
	name   string
	plan   microkernel.PlanID
	step   isa.StepID
	fair   bool // may also happen when nobody makes trouble
	change func(*node)
	event  func(*node) microkernel.Event // of the changed world
}

// longOutage is longer than every lease.
const longOutage = 10 * time.Minute

// moves lists what may happen in n, always in the same order.
func (x *search) moves(n *node) []move {
	var out []move
	add := func(m move) { out = append(out, m) }
	n.worldMoves(add)
	if n.down {
		add(move{name: "lead", fair: true, change: func(c *node) { c.down = false }, event: func(c *node) microkernel.Event {
			return microkernel.Led{Stamp: c.stamp(), Term: c.kernel.Term() + 1}
		}})
		return out
	}
	x.peopleMoves(n, add)
	if n.kernel.Paused() != "" { // who pauses resumes in the end, whenever that may be
		add(move{name: "resume", fair: true, event: func(c *node) microkernel.Event {
			return microkernel.Resumed{Stamp: c.stamp(), By: operator()}
		}})
	}
	before := len(out)
	for i := range n.orders {
		x.answerMoves(n, &n.orders[i], add)
	}
	coming := slices.ContainsFunc(out[before:], func(m move) bool { return m.fair })
	n.timerMoves(!coming && n.still(), add)
	if n.left.Crashes > 0 {
		add(move{name: "crash", change: (*node).crash})
		add(move{name: "crash with a long outage", change: func(c *node) {
			c.crash()
			c.pass(c.now.Add(longOutage))
		}})
	}
	return out
}

func (n *node) stamp() microkernel.Stamp { return microkernel.Stamp{At: n.now} }

// still reports whether the world by itself is at rest.
func (n *node) still() bool {
	still := true
	n.worldMoves(func(move) { still = false })
	return still
}

// worldMoves are what proxies and processes do by themselves.
func (n *node) worldMoves(add func(move)) {
	for i := range n.overlays {
		o := &n.overlays[i]
		waiting := false // a push of this generation is on its way
		for k := range n.orders {
			a, is := n.orders[k].effect.(microkernel.Apply)
			waiting = waiting || is && a.Overlay.Key == o.overlay.Key && a.Overlay.Generation == o.overlay.Generation
		}
		key := string(o.overlay.Key.Callee)
		if waiting && !o.lapsed && !o.removing && o.acked < proxies {
			add(move{name: "a proxy ACKs " + key, fair: true, change: func(c *node) { c.overlays[i].ack() }})
		}
		if o.busy > 0 {
			add(move{name: "a request ends, to " + key, fair: true, change: func(c *node) { c.overlays[i].busy-- }})
		}
		if o.removing && o.obey > 0 {
			add(move{name: "a proxy gives back " + key, fair: true, change: func(c *node) {
				c.overlays[i].obey--
				c.overlays[i].busy = min(c.overlays[i].busy, c.overlays[i].obey)
				c.settle(i)
			}})
		}
	}
	for i := range n.instances {
		if in := &n.instances[i]; !in.up && !in.dead {
			add(move{name: string(in.ref.UID) + " is up", fair: true, change: func(c *node) { c.instances[i].up = true }})
		}
	}
}

// ack lets one more proxy take the overlay; requests from before may still be in flight.
func (o *overlay) ack() {
	o.acked++
	if o.obey < proxies && o.acked > o.obey {
		o.obey++
		if o.overlay.Drain != nil {
			o.busy++
		}
	}
}

// peopleMoves are proposals, aborts and approvals.
func (x *search) peopleMoves(n *node, add func(move)) {
	for i := range n.sent {
		if !n.sent[i] {
			add(move{name: "propose", plan: microkernel.PlanID(x.setup.Plans[i].ID), fair: true,
				change: func(c *node) { c.sent[i] = true },
				event: func(c *node) microkernel.Event {
					p := x.setup.Plans[i]
					return microkernel.Submitted{Stamp: c.stamp(), By: proposers()[i], Program: p, View: c.view(x.setup, p)}
				}})
		}
	}
	if n.left.Acts == 0 {
		return
	}
	if n.kernel.Paused() == "" && n.running() {
		add(move{name: "pause", change: act, event: func(c *node) microkernel.Event {
			return microkernel.Paused{Stamp: c.stamp(), By: operator(), Reason: "looking"}
		}})
	}
	if n.kernel.Recovering() && n.kernel.Paused() == "" {
		add(move{name: "resume", change: act, event: func(c *node) microkernel.Event {
			return microkernel.Resumed{Stamp: c.stamp(), By: operator()}
		}})
	}
	for i := range n.sent {
		rec, found := n.kernel.Record(microkernel.PlanID(x.setup.Plans[i].ID))
		if !found || rec.Phase.Final() {
			continue
		}
		add(move{name: "abort", plan: rec.ID, change: act, event: func(c *node) microkernel.Event {
			return microkernel.Aborted{Stamp: c.stamp(), Plan: rec.ID, By: operator(), Reason: "not now"}
		}})
		if rec.Phase == microkernel.Held {
			for _, by := range []microkernel.Principal{
				operator(), proposers()[1-i], {Name: rec.Proposer.Name, Role: microkernel.Approver},
			} {
				add(move{name: "approve by " + by.Name, plan: rec.ID, change: act, event: func(c *node) microkernel.Event {
					return microkernel.Approved{Stamp: c.stamp(), Plan: rec.ID, By: by, View: c.view(x.setup, rec.Written)}
				}})
			}
		}
	}
}

func act(c *node) { c.left.Acts-- }

// running reports whether a plan runs: what a pause is about.
func (n *node) running() bool {
	return slices.ContainsFunc(n.kernel.OpenRecords(), func(r microkernel.Record) bool { return r.Phase == microkernel.Running })
}

// timerMoves lets the first timer run out: of itself when nothing else can happen, and as
// trouble when it beats something.
func (n *node) timerMoves(quiet bool, add func(move)) {
	if len(n.timers) == 0 || !quiet && n.left.Timeouts == 0 {
		return
	}
	first := n.timers[0]
	add(move{name: "timer " + first.id.Name, plan: first.id.Plan, step: first.id.Step, fair: quiet,
		change: func(c *node) {
			if !quiet {
				c.left.Timeouts--
			}
			c.timers = c.timers[1:]
			c.pass(first.due)
		},
		event: func(c *node) microkernel.Event { return microkernel.Fired{Stamp: c.stamp(), Timer: first.id} },
	})
}

// answerMoves are the answers to an order that may come now, right, wrong, lost or twice.
func (x *search) answerMoves(n *node, o *order, add func(move)) {
	done := *o
	answer := func(name string, m move) {
		m.name, m.plan, m.step = name, done.plan, done.step
		add(m)
	}
	finished := func(c *node) { c.drop(done) }
	event, ready := x.answer(n, o)
	if ready {
		change := finished
		switch o.kind {
		case orderProve:
			event, change = nil, nil
			x.proofMove(n, done, add)
		case orderScale, orderRevise:
			change = func(c *node) {
				c.drop(done)
				c.carryOut(done)
			}
		}
		if event != nil {
			answer("answer to "+kindName(done.kind), move{fair: true, change: change, event: event})
		}
		if event != nil && n.left.Faults > 0 {
			answer("lost answer to "+kindName(done.kind), move{change: faulty(change)})
			answer("doubled answer to "+kindName(done.kind), move{change: faulty(func(c *node) { c.carryOut(done) }), event: event})
		}
	}
	n.wrongMoves(done, answer, finished)
}

func faulty(change func(*node)) func(*node) {
	return func(c *node) {
		c.left.Faults--
		change(c)
	}
}

// wrongMoves are the failures that an order may have instead of its answer.
func (n *node) wrongMoves(o order, answer func(string, move), finished func(*node)) {
	if o.kind == orderWatch && n.left.Harms > 0 {
		answer("harm", move{
			change: func(c *node) { c.left.Harms-- },
			event:  func(c *node) microkernel.Event { return c.judged(o, microkernel.Harm) },
		})
	}
	if n.left.Faults == 0 {
		return
	}
	fails := func(name string, code isa.Code, also func(*node)) {
		answer(name, move{
			change: faulty(func(c *node) {
				finished(c)
				if also != nil {
					also(c)
				}
			}),
			event: func(c *node) microkernel.Event {
				return microkernel.Failed{Stamp: c.stamp(), Plan: o.plan, Step: o.step, Code: code, Reason: name}
			},
		})
	}
	switch e := o.effect.(type) {
	case microkernel.Apply:
		fails("NACK", "", nil)
		fails("foreign writer", isa.CodeForeignOwner, nil)
	case microkernel.Withdraw:
		if i, found := n.overlay(e.Key); found && !n.overlays[i].stuck {
			fails("withdrawal refused", "", func(c *node) { c.overlays[i].removing = false })
			fails("withdrawal refused for good", "", func(c *node) { c.overlays[i].removing, c.overlays[i].stuck = false, true })
		}
	case microkernel.Reboot:
		if in := n.instance(e.Ref.UID); in != nil && !in.up && !in.dead {
			fails("restart failed", "", func(c *node) { c.instance(e.Ref.UID).dead = true })
		}
	case microkernel.SetReplicas:
		fails("scale refused", isa.CodeForeignOwner, nil)
	case microkernel.SetRevision:
		fails("rollback refused", isa.CodeForeignOwner, nil)
	case microkernel.Watch:
		if e.For > 0 {
			answer("not recovered", move{change: faulty(finished), event: func(c *node) microkernel.Event {
				return c.judged(o, microkernel.NotRecovered)
			}})
		}
	case microkernel.Probe:
		if len(n.inForce()) > 0 {
			answer("stale probe", move{change: faulty(finished), event: func(c *node) microkernel.Event {
				return microkernel.Probed{Stamp: c.stamp(), Overlays: c.inForce()[1:], Instances: c.registry()}
			}})
		}
	}
}

func (n *node) judged(o order, label microkernel.HarmLabel) microkernel.Event {
	v := microkernel.HarmVerdict{Label: label, Evidence: "p99 is 3x"}
	if label != microkernel.Clean {
		v.Service = cart
	}
	return microkernel.Judged{Stamp: n.stamp(), Plan: o.plan, Verdict: v}
}

// carryOut does what an order asks for at the moment of its answer, once; if the order is
// kept, its answer comes another time.
func (n *node) carryOut(o order) {
	if o.done {
		return
	}
	switch e := o.effect.(type) {
	case microkernel.SetReplicas:
		n.replicas[place(e.Service)] = e.Replicas
	case microkernel.SetRevision:
		n.revised = e.Revision == goodRevision
	}
	if i, kept := slices.BinarySearchFunc(n.orders, o, compareOrders); kept {
		n.orders[i].done = true
	}
}

// answer returns the right answer to an order, and whether it may come now.
func (x *search) answer(n *node, o *order) (func(*node) microkernel.Event, bool) {
	switch e := o.effect.(type) {
	case microkernel.Recheck:
		return func(c *node) microkernel.Event {
			rec, _ := c.kernel.Record(e.Plan)
			return microkernel.Viewed{Stamp: c.stamp(), Plan: e.Plan, View: c.view(x.setup, rec.Written)}
		}, true
	case microkernel.Apply:
		i, found := n.overlay(e.Overlay.Key)
		return func(c *node) microkernel.Event {
			return microkernel.Applied{Stamp: c.stamp(), Plan: e.Plan, Step: e.Step,
				Generation: microkernel.Generation(e.Overlay.Generation), Acks: mesh.Acks{Required: proxies, Acked: proxies}}
		}, found && n.overlays[i].acked == proxies && n.overlays[i].overlay.Generation == e.Overlay.Generation
	case microkernel.Prove:
		return nil, true
	case microkernel.Extend:
		return func(c *node) microkernel.Event {
			return microkernel.Failed{Stamp: c.stamp(), Plan: e.Plan, Code: isa.CodeLease, Reason: "the overlay has lapsed"}
		}, true
	case microkernel.Withdraw:
		i, found := n.overlay(e.Key)
		if found && n.overlays[i].stuck && n.overlays[i].overlay.Generation <= uint64(e.Generation) {
			return func(c *node) microkernel.Event {
				return microkernel.Failed{Stamp: c.stamp(), Plan: e.Plan, Step: e.Step, Reason: "the mesh refuses"}
			}, true
		}
		return func(c *node) microkernel.Event {
			return microkernel.Withdrawn{Stamp: c.stamp(), Plan: e.Plan, Step: e.Step, Generation: e.Generation}
		}, !found || !n.overlays[i].removing
	case microkernel.Reboot:
		in := n.instance(e.Ref.UID)
		return func(c *node) microkernel.Event {
			return microkernel.Restarted{Stamp: c.stamp(), Plan: e.Plan, Step: e.Step, Old: e.Ref, New: c.instance(e.Ref.UID).ref}
		}, in != nil && in.up && in.ref.Incarnation > e.Ref.Incarnation
	case microkernel.SetReplicas:
		return func(c *node) microkernel.Event {
			former := c.formers[0].replicas
			return microkernel.Scaled{Stamp: c.stamp(), Plan: e.Plan, Step: e.Step, Former: former, Replicas: e.Replicas}
		}, true
	case microkernel.SetRevision:
		return func(c *node) microkernel.Event {
			return microkernel.RolledBack{Stamp: c.stamp(), Plan: e.Plan, Step: e.Step, Former: badRevision, Revision: e.Revision}
		}, true
	case microkernel.Watch:
		return func(c *node) microkernel.Event { return c.judged(*o, microkernel.Clean) }, e.For > 0
	case microkernel.Probe:
		return func(c *node) microkernel.Event {
			return microkernel.Probed{Stamp: c.stamp(), Overlays: c.inForce(), Instances: c.registry()}
		}, true
	}
	return nil, false
}

// proofMove tells the kernel what is to be seen of a drain, if it has changed.
func (x *search) proofMove(n *node, o order, add func(move)) {
	e := o.effect.(microkernel.Prove)
	i, found := n.overlay(e.Key)
	if !found || n.overlays[i].overlay.Generation != uint64(e.Generation) || n.overlays[i].picture() == o.number {
		return
	}
	add(move{name: "proof", plan: o.plan, step: o.step, fair: true,
		change: func(c *node) {
			told := o
			told.number = c.overlays[i].picture()
			c.want(told)
			if c.overlays[i].flying() == 0 && !c.overlays[i].lapsed {
				c.overlays[i].proved = c.process
			}
		},
		event: func(c *node) microkernel.Event {
			return microkernel.Proved{Stamp: c.stamp(), Plan: e.Plan, Step: e.Step, Proof: c.overlays[i].proof()}
		}})
}

func (o *overlay) flying() int { return proxies - o.obey + o.busy }

// picture numbers what a proof says.
func (o *overlay) picture() uint64 {
	n := uint64(o.acked*10 + o.flying())
	if o.lapsed {
		n += 1000
	}
	return n
}

func (o *overlay) proof() mesh.Proof {
	p := mesh.Proof{
		Key: o.overlay.Key, Generation: o.overlay.Generation, Required: proxies, Acked: o.acked, Reported: o.acked,
		InFlight: o.flying(), Inbound: o.flying(), Lapsed: o.lapsed,
	}
	if p.InFlight == 0 {
		p.Quiet = 5 * time.Second
	}
	return p
}

func (n *node) inForce() []mesh.Overlay {
	var out []mesh.Overlay
	for i := range n.overlays {
		if !n.overlays[i].lapsed && n.overlays[i].obey > 0 {
			out = append(out, n.overlays[i].overlay)
		}
	}
	return out
}

func (n *node) registry() []mesh.Instance {
	out := make([]mesh.Instance, len(n.instances))
	for i := range n.instances {
		out[i] = n.instances[i].shown()
	}
	return out
}

func kindName(kind byte) string {
	switch kind {
	case orderRecheck:
		return "Recheck"
	case orderApply:
		return "Apply"
	case orderProve:
		return "Prove"
	case orderExtend:
		return "Extend"
	case orderRemove:
		return "Withdraw"
	case orderReboot:
		return "Reboot"
	case orderScale:
		return "SetReplicas"
	case orderRevise:
		return "SetRevision"
	case orderWatch:
		return "Watch"
	}
	return "Probe"
}
