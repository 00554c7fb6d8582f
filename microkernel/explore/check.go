package explore

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// broken asks every invariant of a state, the kernel's own and those of the world.
func (x *search) broken(n *node) string {
	for i := range x.rules {
		x.count(x.rules[i].Name)
		if why := x.rules[i].Broken(&n.kernel); why != "" {
			return why
		}
	}
	x.count("I3")
	x.count("I5")
	return cmp.Or(n.belowFloor(x.setup), n.unowned())
}

// belowFloor is I3: a drain leaves what the load needs, or its requests are held, shed, or
// sent to where something is ready.
func (n *node) belowFloor(s *Setup) string {
	for i := range n.overlays {
		o := &n.overlays[i]
		d := o.overlay.Drain
		if d == nil || o.lapsed || o.obey == 0 || d.OnEmpty != mesh.OnEmptyNone {
			continue
		}
		name := o.overlay.Key.Callee
		if d.To != "" {
			if d.To == name || n.ready(d.To, nil) == 0 {
				return "I3: the traffic of " + string(name) + " is sent to where nothing is ready"
			}
			continue
		}
		need := 1
		if name == cart {
			need = max(1, min(int(math.Ceil(s.Load/0.8)), s.Replicas))
		}
		if left := n.ready(name, d.Instances); left < need {
			return fmt.Sprintf("I3: %d instances of %s are left, %d are needed", left, name, need)
		}
	}
	return ""
}

// unowned is I5: what a proxy obeys has an owner.
func (n *node) unowned() string {
	var owned []mesh.Overlay
	for i := range n.overlays {
		o := &n.overlays[i]
		if o.lapsed || o.obey == 0 {
			continue
		}
		if owned == nil {
			owned = n.kernel.Overlays()
		}
		if !slices.ContainsFunc(owned, func(p mesh.Overlay) bool { return p.Key == o.overlay.Key }) {
			return "I5: an overlay on " + string(o.overlay.Key.Callee) + " is in force, and nobody owns it"
		}
	}
	return ""
}

// ended reports whether every plan that was proposed has ended, and left nothing behind
// but what a frozen plan holds, with a page.
func (n *node) ended() bool {
	if n.down || n.kernel.Recovering() || !n.sent[0] || !n.sent[1] {
		return false
	}
	for i := range n.overlays {
		if !n.overlays[i].lapsed && n.overlays[i].obey > 0 && !n.frozenOwner(&n.overlays[i]) {
			return false
		}
	}
	return n.kernel.Open() == 0
}

func (n *node) frozenOwner(o *overlay) bool {
	rec, found := n.kernel.Record(microkernel.PlanID(o.overlay.Plan))
	return found && rec.Phase == microkernel.Frozen
}

// same steps once more from the same state: replay of the journal yields the live state
// if this holds at every step (I6).
func (x *search) same(before *node, ev microkernel.Event, live *node) string {
	x.count("I6")
	again, _ := microkernel.Step(before.kernel, ev)
	if x.likes.Of(again) != live.like {
		return "I6: the same event on the same state does not give the same state"
	}
	return ""
}

// impartial is I9: a proposal of somebody with another name, and nothing else to tell
// them apart, gets the same verdict.
func (x *search) impartial(before *node, ev microkernel.Event, effects []microkernel.Effect) string {
	submitted, is := ev.(microkernel.Submitted)
	if !is {
		return ""
	}
	x.count("I9")
	submitted.By.Name = "another"
	_, others := microkernel.Step(before.kernel, submitted)
	if verdict(effects) != verdict(others) {
		return "I9: the verdict " + verdict(effects) + " is " + verdict(others) + " for another proposer"
	}
	return ""
}

func verdict(effects []microkernel.Effect) string {
	for _, e := range effects {
		if a, is := e.(microkernel.Answer); is {
			return string(a.Verdict.Outcome) + " " + string(a.Verdict.Code)
		}
	}
	return "none"
}
