package explore

import (
	"cmp"
	"slices"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// Kinds of orders.
const (
	orderRecheck byte = 'c'
	orderApply   byte = 'a'
	orderProve   byte = 'p'
	orderExtend  byte = 'e' // that could not be extended
	orderRemove  byte = 'w'
	orderReboot  byte = 'r'
	orderScale   byte = 's'
	orderRevise  byte = 'v'
	orderWatch   byte = 'h'
	orderProbe   byte = 'l'
)

// perform carries out one effect on the world, and says which invariant that breaks.
func (n *node) perform(e microkernel.Effect) string {
	switch e := e.(type) {
	case microkernel.Recheck:
		n.want(order{effect: e, kind: orderRecheck, plan: e.Plan})
	case microkernel.Apply:
		return n.apply(e)
	case microkernel.Prove:
		n.want(order{effect: e, kind: orderProve, plan: e.Plan, step: e.Step, number: untold})
	case microkernel.Extend:
		n.extend(e)
	case microkernel.Withdraw:
		n.withdraw(e)
	case microkernel.Reboot:
		return n.reboot(e)
	case microkernel.SetReplicas:
		n.want(order{effect: e, kind: orderScale, plan: e.Plan, step: e.Step, number: uint64(e.Replicas)})
		return cmp.Or(n.withinScale(e), n.alone(e.Plan, e.Service))
	case microkernel.SetRevision:
		n.want(order{effect: e, kind: orderRevise, plan: e.Plan, step: e.Step})
		return n.withinRevision(e)
	case microkernel.Watch:
		n.want(order{effect: e, kind: orderWatch, plan: e.Plan, number: uint64(e.For)})
	case microkernel.Unwatch:
		n.drop(order{kind: orderWatch, plan: e.Plan})
	case microkernel.SetTimer:
		n.setTimer(e)
	case microkernel.StopTimer:
		n.timers = slices.DeleteFunc(n.timers, func(t timer) bool { return t.id == e.Timer })
	case microkernel.Probe:
		n.want(order{effect: e, kind: orderProbe})
	case microkernel.Finish:
		n.orders = slices.DeleteFunc(n.orders, func(o order) bool { return o.kind == orderProve && o.plan == e.Plan })
		return n.explained(e)
	case microkernel.Answer:
		return explainedAnswer(e)
	}
	return ""
}

// untold is the picture of a Prove that has told nothing yet.
const untold = 1 << 20

func (n *node) setTimer(e microkernel.SetTimer) {
	n.timers = slices.DeleteFunc(n.timers, func(t timer) bool { return t.id == e.Timer })
	t := timer{id: e.Timer, due: n.now.Add(e.After)}
	i, _ := slices.BinarySearchFunc(n.timers, t, func(a, b timer) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.id.Plan, b.id.Plan), cmp.Compare(a.id.Step, b.id.Step),
			cmp.Compare(a.id.Name, b.id.Name))
	})
	n.timers = slices.Insert(n.timers, i, t)
}

func (n *node) apply(e microkernel.Apply) string {
	i, found := n.overlay(e.Overlay.Key)
	if !found {
		n.overlays = slices.Insert(n.overlays, i, overlay{overlay: e.Overlay})
	}
	o := &n.overlays[i]
	if o.overlay.Drain != nil && o.overlay.Plan != e.Overlay.Plan {
		o.obey, o.busy = 0, 0 // of other instances, perhaps
	}
	o.overlay, o.leaseEnd = e.Overlay, n.now.Add(e.Overlay.Lease)
	o.acked, o.lapsed, o.removing, o.proved = 0, false, false, 0
	n.want(order{effect: e, kind: orderApply, plan: e.Plan, step: e.Step, number: e.Overlay.Generation})
	return cmp.Or(n.withinApply(e), n.alone(e.Plan, e.Overlay.Key.Callee), n.looked(e.Plan))
}

func (n *node) extend(e microkernel.Extend) {
	i, found := n.overlay(e.Key)
	if found && !n.overlays[i].lapsed && n.overlays[i].overlay.Generation == uint64(e.Generation) {
		n.overlays[i].leaseEnd = n.now.Add(e.Lease)
		return
	}
	n.want(order{effect: e, kind: orderExtend, plan: e.Plan})
}

func (n *node) withdraw(e microkernel.Withdraw) {
	if i, found := n.overlay(e.Key); found && n.overlays[i].overlay.Generation <= uint64(e.Generation) && !n.overlays[i].stuck {
		n.overlays[i].removing = true
		n.settle(i)
	}
	n.orders = slices.DeleteFunc(n.orders, func(o order) bool { // its proof and its ACKs are asked for no more
		p, prove := o.effect.(microkernel.Prove)
		a, apply := o.effect.(microkernel.Apply)
		return prove && p.Key == e.Key || apply && a.Overlay.Key == e.Key
	})
	n.want(order{effect: e, kind: orderRemove, plan: e.Plan, step: e.Step, number: uint64(e.Generation)})
}

// settle forgets an overlay that is withdrawn from every proxy.
func (n *node) settle(i int) {
	if n.overlays[i].removing && n.overlays[i].obey == 0 {
		n.overlays = slices.Delete(n.overlays, i, i+1)
	}
}

func (n *node) reboot(e microkernel.Reboot) string {
	why := cmp.Or(n.withinReboot(e), n.alone(e.Plan, e.Ref.Service), n.looked(e.Plan))
	n.want(order{effect: e, kind: orderReboot, plan: e.Plan, step: e.Step})
	in := n.instance(e.Ref.UID)
	if in == nil || in.ref != e.Ref {
		return why
	}
	why = cmp.Or(why, n.emptied(e, in), n.once(e), n.quorate(in))
	n.reboots = append(n.reboots, reboot{e.Plan, e.Step, e.Ref})
	slices.SortFunc(n.reboots, func(a, b reboot) int { return cmp.Or(cmp.Compare(a.plan, b.plan), cmp.Compare(a.step, b.step)) })
	in.ref.Incarnation++
	in.up, in.dead = false, false
	return why
}

// emptied is I2, and I7: nothing is in flight on what is restarted, and this process was
// given the proof of it.
func (n *node) emptied(e microkernel.Reboot, in *instance) string {
	if n.busy(in) {
		return "I2: " + string(e.Ref.UID) + " is restarted with requests in flight"
	}
	if i, found := n.overlay(mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: e.Ref.Service}); found && in.up {
		if n.overlays[i].proved != n.process {
			return "I7: " + string(e.Ref.UID) + " is restarted on no proof of this leader"
		}
	}
	return ""
}

// quorate is I3 of a quorum service: enough members are left.
func (n *node) quorate(in *instance) string {
	for _, rec := range n.kernel.OpenRecords() {
		v := rec.View.Find(in.ref.Service)
		if v != nil && v.Quorum > 0 && in.up && n.ready(in.ref.Service, []mesh.UID{in.ref.UID}) < v.Quorum {
			return "I3: " + string(in.ref.Service) + " falls below its quorum"
		}
	}
	return ""
}

// once is I6 in the world: no step restarts twice.
func (n *node) once(e microkernel.Reboot) string {
	if slices.ContainsFunc(n.reboots, func(r reboot) bool { return r.plan == e.Plan && r.step == e.Step }) {
		return "I6: step " + string(e.Plan) + "/" + string(e.Step) + " restarts a second time"
	}
	return ""
}

// looked is I7: a new leader does nothing before it has looked at the world.
func (n *node) looked(plan microkernel.PlanID) string {
	if n.kernel.Recovering() {
		return "I7: " + string(plan) + " acts before the new leader has looked at the world"
	}
	return ""
}

// action returns what the expanded program of a plan says at a step.
func (n *node) action(plan microkernel.PlanID, step isa.StepID) isa.Action {
	rec, _ := n.kernel.Record(plan)
	for i := range rec.Expanded.Steps {
		if rec.Expanded.Steps[i].ID == step {
			return rec.Expanded.Steps[i].Action
		}
	}
	return nil
}

func (n *node) withinApply(e microkernel.Apply) string {
	key, within := e.Overlay.Key, false
	switch a := n.action(e.Plan, e.Step).(type) {
	case isa.Drain:
		within = key.Kind == mesh.OverlayDrain && key.Callee == a.Target.Service
		for _, uid := range e.Overlay.Drain.Instances {
			in := n.instance(uid)
			shown := mesh.Instance{}
			if in != nil {
				shown = in.shown()
			}
			within = within && in != nil && in.ref.Service == key.Callee && a.Target.Selects(&shown)
		}
	case isa.RateLimit:
		within = key.Kind == mesh.OverlayLimit && key.Callee == a.Target.Service
	case isa.CircuitBreak:
		within = key.Kind == mesh.OverlayBreak && key.Callee == a.Target.Service
	}
	if !within {
		return "I1: " + string(e.Plan) + "/" + string(e.Step) + " puts an overlay where its program does not"
	}
	return ""
}

func (n *node) withinReboot(e microkernel.Reboot) string {
	a, is := n.action(e.Plan, e.Step).(isa.Restart)
	if !is || a.Target.Service != e.Ref.Service || a.Target.UID != e.Ref.UID {
		return "I1: " + string(e.Plan) + "/" + string(e.Step) + " restarts what its program does not"
	}
	return ""
}

// withinScale also notes what there was before, which is what undoing it must ask for.
func (n *node) withinScale(e microkernel.SetReplicas) string {
	a, is := n.action(e.Plan, e.Step).(isa.Scale)
	i := slices.IndexFunc(n.formers, func(f former) bool { return f.plan == e.Plan && f.step == e.Step })
	if i < 0 {
		n.formers = append(n.formers, former{e.Plan, e.Step, n.replicas[place(e.Service)]})
		i = len(n.formers) - 1
	}
	if !is || a.Target.Service != e.Service || e.Replicas != a.Replicas && e.Replicas != n.formers[i].replicas {
		return "I1: " + string(e.Plan) + "/" + string(e.Step) + " scales to what is neither its program's nor what was before"
	}
	return ""
}

func (n *node) withinRevision(e microkernel.SetRevision) string {
	a, is := n.action(e.Plan, e.Step).(isa.RollbackConfig)
	if !is || a.Object != e.Object || e.Revision != a.Revision && e.Revision != badRevision {
		return "I1: " + string(e.Plan) + "/" + string(e.Step) + " sets a revision that is neither its program's nor what was before"
	}
	return ""
}

func place(name mesh.Service) int {
	all := services()
	return max(0, slices.Index(all[:], name))
}

// alone is I4: no other plan that has begun acts on the service, judged by the programs
// and restart sets, not by the locks.
func (n *node) alone(plan microkernel.PlanID, service mesh.Service) string {
	for _, rec := range n.kernel.OpenRecords() {
		if rec.ID == plan || len(rec.Steps) == 0 {
			continue
		}
		if slices.Contains(rec.RestartSet, service) || slices.ContainsFunc(rec.Expanded.Steps, func(s isa.Step) bool { return target(s) == service }) {
			return "I4: " + string(plan) + " acts on " + string(service) + ", which is another plan's"
		}
	}
	return ""
}

func target(s isa.Step) mesh.Service {
	switch a := s.Action.(type) {
	case isa.Drain:
		return a.Target.Service
	case isa.Restart:
		return a.Target.Service
	case isa.RateLimit:
		return a.Target.Service
	case isa.CircuitBreak:
		return a.Target.Service
	case isa.Scale:
		return a.Target.Service
	}
	return ""
}

// explained is I8 of a plan that ended: why, and what the world saw restarted.
func (n *node) explained(e microkernel.Finish) string {
	rec, found := n.kernel.Record(e.Plan)
	if !found || rec.Ended == 0 || rec.Phase != microkernel.Committed && rec.Reason == "" {
		return "I8: plan " + string(e.Plan) + " ended, and its record does not say when or why"
	}
	for i := range rec.Steps {
		s := &rec.Steps[i]
		if _, is := s.Step.Action.(isa.Restart); !is || s.State != microkernel.StepConfirmed {
			continue
		}
		if s.Old.UID == "" || s.New.Incarnation <= s.Old.Incarnation || s.Proof.Generation == 0 {
			return "I8: " + string(e.Plan) + "/" + string(s.Step.ID) + " does not say what was restarted, on which proof"
		}
	}
	return ""
}

func explainedAnswer(e microkernel.Answer) string {
	v := &e.Verdict
	switch {
	case v.Outcome == microkernel.Admit || v.Outcome == microkernel.Replayed:
	case v.Code == "" || len(v.Faults) == 0 || v.Faults[0].Reason == "" || v.Faults[0].Remedy == "":
		return "I8: the verdict on " + string(e.Plan) + " says nothing"
	}
	return ""
}
