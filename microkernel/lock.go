package microkernel

import (
	"slices"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// enqueue lets an admitted plan wait for its locks.
func (t *turn) enqueue(p *plan) {
	p.Phase = Queued
	p.locks, p.callers = lockSet(&p.View, p.Expanded, true), directCallers(&p.View, p.Expanded)
	p.Waiting = "its locks"
	t.set(planTimer(p.ID, timerTTL), t.policy.PlanTTL)
}

// schedule grants locks. A plan gets all of its locks or none, in the order of
// proposal: it waits for every earlier plan that it overlaps with, running or queued.
// So there is one global order, no deadlock, and nobody is overtaken for ever.
func (t *turn) schedule() {
	if t.frozen != "" || t.paused != "" || t.Recovering() {
		return
	}
	waits := func(p *plan) bool { return p.Phase == Queued && !p.holding }
	if !slices.ContainsFunc(t.plans, waits) {
		return
	}
	var taken []mesh.Service
	for _, p := range t.plans {
		if p.holding && (p.Phase != Frozen || !planted("frozen-holds-nothing")) {
			taken = append(taken, p.locks...)
		}
	}
	slices.Sort(taken)
	for _, p := range slices.Clone(t.plans) {
		if !waits(p) {
			continue
		}
		if p.paused == "" && disjoint(taken, p.locks) && t.crowding(p, true) == nil {
			t.grant(t.edit(p.ID))
		}
		taken = append(taken, p.locks...)
		slices.Sort(taken)
	}
}

// grant gives p its locks and asks for the facts as they are under them.
func (t *turn) grant(p *plan) {
	p.holding = true
	p.Locked = t.now
	p.Waiting = "the facts under its locks"
	t.ask(p)
}

// disjoint reports whether no service is in both sorted lists.
func disjoint(a, b []mesh.Service) bool {
	if planted("first-lock-only") {
		return len(a) == 0 || len(b) == 0 || a[0] != b[0]
	}
	for i, k := 0, 0; i < len(a) && k < len(b); {
		switch {
		case a[i] == b[k]:
			return false
		case a[i] < b[k]:
			i++
		default:
			k++
		}
	}
	return true
}

// viewed takes the facts that a Recheck asked for.
func (t *turn) viewed(ev Viewed) {
	p := t.edit(ev.Plan)
	if p == nil || !p.asked || t.Recovering() || ev.Look != 0 && ev.Look != p.look {
		return
	}
	p.asked = false
	switch p.Phase {
	case Queued:
		t.viewedLocked(p, ev)
	case Running:
		t.viewedAgain(p, ev.View)
	}
}

// viewedLocked decides under the locks whether the plan is still what was admitted: same
// restart set, orders and blast radius, same expanded program, every rule but budgets kept.
func (t *turn) viewedLocked(p *plan, ev Viewed) {
	before := p.View
	p.View = ev.View
	j := examine(&t.State, p, recheck)
	p.callers = directCallers(&ev.View, p.Expanded)
	switch {
	case j.worst() == Reject:
		v := j.verdict(ev.View.Epoch)
		t.refuse(p, v.Faults...)
	case !sameOrders(&before, &ev.View) || !same(j.expanded(), p.Expanded):
		t.refuse(p, fault(isa.CodeStaleEpoch, "", "restart set, orders, blast radius or instances changed while the plan waited: "+
			before.Epoch+" became "+ev.View.Epoch, "make the plan anew at epoch "+ev.View.Epoch))
	case j.worst() != Admit:
		v := j.verdict(ev.View.Epoch)
		t.refuse(p, v.Faults...)
	case t.crowding(p, false) != nil:
		t.giveWay(p)
	case !t.relock(p, appendLocks(nil, &ev.View, j.list, true)):
		t.refuse(p, fault(isa.CodeStaleEpoch, "", "the group grew into what another plan has locked",
			"propose it again when that has ended"))
	default:
		p.RestartSet, p.BlastRadius = slices.Clone(ev.View.RestartSet), slices.Clone(ev.View.BlastRadius)
		p.Verdict.Epoch = ev.View.Epoch
		p.Present, t.looked = ev.View, p.ID
		t.begin(p, &j.checker)
	}
}

// relock gives p the locks that the present facts ask for: its watched group may have
// changed. It reports false if another plan has one of them.
func (t *turn) relock(p *plan, locks []mesh.Service) bool {
	for _, other := range t.plans {
		if other.holding && other.ID != p.ID && !disjoint(other.locks, locks) {
			return false
		}
	}
	p.locks = locks
	return true
}

func sameOrders(a, b *View) bool {
	return slices.Equal(a.RestartSet, b.RestartSet) && slices.Equal(a.DrainOrder, b.DrainOrder) &&
		slices.Equal(a.RestartSeq, b.RestartSeq) && slices.Equal(a.RestoreSeq, b.RestoreSeq) &&
		slices.Equal(a.BlastRadius, b.BlastRadius)
}

// expired ends a plan that waited too long: for others' locks, or for its own turn.
func (t *turn) expired(p *plan) {
	if p.Phase != Queued {
		return
	}
	if p.holding || !t.overlapped(p) {
		t.refuse(p, fault(isa.CodeExpired, "", "the plan was not begun within "+t.policy.PlanTTL.String(), "propose it again"))
		return
	}
	t.refuse(p, fault(isa.CodeConflict, "", "plans that overlap did not end within "+t.policy.PlanTTL.String(),
		"propose it again when they have ended"))
}

// overlapped reports whether another plan, running or proposed earlier, wants or has a
// lock of p.
func (t *turn) overlapped(p *plan) bool {
	return slices.ContainsFunc(t.plans, func(q *plan) bool {
		return q.ID != p.ID && (q.holding || q.sequence < p.sequence) && (!disjoint(q.locks, p.locks) || p.crowds(q))
	})
}
