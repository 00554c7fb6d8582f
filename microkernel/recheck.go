package microkernel

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// lookIn is how long the facts at a gate are waited for before they are asked for again.
const lookIn = time.Second

// ask asks for the facts of a plan that holds its locks.
func (t *turn) ask(p *plan) {
	p.asked = true
	p.look++
	t.emit(Recheck{Plan: p.ID, Look: p.look})
}

// lookAgain asks once more for facts that nobody told.
func (t *turn) lookAgain(p *plan) {
	if p.Phase != Running || !p.asked {
		return
	}
	t.ask(p)
	t.set(planTimer(p.ID, timerLook), lookIn)
}

// present is the last gate before a drain or a restart, for which every other one is
// open: the facts of this very moment. It reports whether they are there and good. If they
// are not there it asks for them; if they are not good it ends the plan.
func (t *turn) present(p *plan, i int) bool {
	s := &p.steps[i]
	switch s.Step.Action.(type) {
	case isa.Drain, isa.Restart:
	default:
		return true
	}
	if t.looked == p.ID || planted("no-second-look") {
		why := t.unsafe(p, i)
		if why != "" {
			t.stray(p, why)
		}
		return why == ""
	}
	s.Waiting = "the facts as they are now"
	if !p.asked {
		t.ask(p)
		t.set(planTimer(p.ID, timerLook), lookIn)
	}
	return false
}

// viewedAgain goes on with a plan at a gate, unless what it rests on is not so any more.
func (t *turn) viewedAgain(p *plan, now View) {
	t.stop(planTimer(p.ID, timerLook))
	if !sameOrders(&p.View, &now) {
		t.stray(p, "restart set, orders or blast radius changed while the plan ran: "+p.View.Epoch+" became "+now.Epoch)
		return
	}
	if why := p.tight(&now, t.policy); why != "" {
		t.stray(p, why)
		return
	}
	p.Present, t.looked = now, p.ID
	t.advance(p)
}

// unsafe says why step i may not begin by the present facts, "" if it may: a drain must
// leave the floor, a restart the quorum.
func (t *turn) unsafe(p *plan, i int) string {
	switch a := p.steps[i].Step.Action.(type) {
	case isa.Drain:
		drain := drainOverlay(a, &p.Present, &t.policy)
		if planted("floor-on-first-view") {
			return beside(&a, drain, &p.View, &p.View, &t.policy)
		}
		return beside(&a, drain, p.carriers(a.Target.Service), &p.Present, &t.policy)
	case isa.Restart:
		return p.quorate(a)
	}
	return ""
}

// carriers is what service was when the plan got its locks, as to its load, with what has
// come up since: a drain that takes that off, too, takes off what could carry the load.
// Where nothing was ready then, the load is what is known of it now.
func (p *plan) carriers(service mesh.Service) *View {
	then, now := p.View.Find(service), p.Present.Find(service)
	if then == nil || now == nil {
		return &p.View
	}
	if then.Utilisation <= 0 {
		return &View{Services: []ServiceView{*now}}
	}
	out := *then
	out.Instances = slices.Clone(then.Instances)
	for i := range now.Instances {
		in := &now.Instances[i]
		if in.State != mesh.Ready {
			continue
		}
		if was := instance(&out, in.UID); was != nil {
			was.State = mesh.Ready
		} else {
			out.Instances = append(out.Instances, *in)
		}
	}
	out.Utilisation *= float64(then.ReadyCount()) / float64(max(1, out.ReadyCount()))
	return &View{Services: []ServiceView{out}}
}

// quorate says why a restart would leave too few members of a quorum service, "" if it
// leaves enough.
func (p *plan) quorate(a isa.Restart) string {
	v := p.Present.Find(a.Target.Service)
	if v == nil || v.Quorum == 0 || planted("quorum-unchecked") {
		return ""
	}
	down := []mesh.UID{a.Target.UID}
	for k := range p.steps {
		b, restart := p.steps[k].Step.Action.(isa.Restart)
		if restart && b.Target.Service == a.Target.Service && p.steps[k].State == StepRunning {
			down = append(down, b.Target.UID)
		}
	}
	if up := left(v, &mesh.DrainOverlay{Instances: down}); up < v.Quorum {
		return fmt.Sprintf("%d members of %s would be up, its quorum is %d", up, v.Name, v.Quorum)
	}
	return ""
}

// tight says which drain in force leaves too little by the facts of now, "" if none does.
func (p *plan) tight(now *View, policy Policy) string {
	for i := range p.steps {
		s := &p.steps[i]
		a, drain := s.Step.Action.(isa.Drain)
		if !drain || !s.inForce || s.undoing {
			continue
		}
		if why := beside(&a, s.overlay.Drain, &p.View, now, &policy); why != "" {
			return why
		}
	}
	return ""
}

// stray ends a plan that rests on what is not so any more: as if it had been refused if
// nothing was begun, else by undoing what was.
func (t *turn) stray(p *plan, why string) {
	if slices.ContainsFunc(p.steps, func(s step) bool { return s.Started != 0 }) {
		t.abort(p, string(isa.CodeStaleEpoch)+": "+why)
		return
	}
	t.emit(Unwatch{Plan: p.ID})
	t.refuse(p, fault(isa.CodeStaleEpoch, "", why, "make the plan anew, from what there is now"))
}
