package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// people is what the proposers and operators remember.
type people struct {
	serial int
	sent   []isa.Program // by anybody, for replays and collisions
}

func agent() microkernel.Principal {
	return microkernel.Principal{Name: "rules", Role: microkernel.Proposer}
}

func hostile() microkernel.Principal {
	return microkernel.Principal{Name: "mallory", Role: microkernel.Proposer}
}

func operator() microkernel.Principal {
	return microkernel.Principal{Name: "olga", Role: microkernel.Approver}
}

func colleague() microkernel.Principal {
	return microkernel.Principal{Name: "oleg", Role: microkernel.Approver}
}

func admin() microkernel.Principal {
	return microkernel.Principal{Name: "root", Role: microkernel.Admin}
}

// schedulePeople lets everybody act, each at a pace of their own.
func (r *run) schedulePeople() {
	r.every(4000, 12_000, func() { r.propose(agent(), r.honest()) })
	r.every(6000, 15_000, func() { r.propose(operator(), r.honest()) })
	r.every(3000, 9000, r.hostility)
	r.every(8000, 20_000, r.approve)
	r.every(20_000, 60_000, r.operate)
	r.every(30_000, 90_000, r.drift)
	r.every(10_000, 40_000, r.raise)
	r.every(20_000, 80_000, r.compact)
}

// every repeats do until the world is fair.
func (r *run) every(least, most int, do func()) {
	var again func()
	again = func() {
		if r.world.fair {
			return
		}
		if r.take() {
			do()
		}
		r.after(r.millis(least, most), again)
	}
	r.after(r.millis(0, most), again)
}

// up reports whether there is a control plane to talk to.
func (r *run) up() bool { return r.calm > 0 || r.crashes == 0 }

func (r *run) propose(by microkernel.Principal, p isa.Program) {
	if !r.up() {
		return
	}
	r.people.sent = append(r.people.sent, p)
	r.deliver(microkernel.Submitted{Stamp: r.stamp(), By: by, Program: p, View: r.viewOf(p)})
}

// viewOf gathers the facts that a verdict on p needs.
func (r *run) viewOf(p isa.Program) microkernel.View {
	var restarted, drained, written []mesh.Service
	for _, s := range p.Steps {
		switch a := s.Action.(type) {
		case isa.Restart:
			restarted = append(restarted, a.Target.Group...)
			restarted = append(restarted, a.Target.Service)
		case isa.Drain:
			drained, written = append(drained, a.Target.Service), append(written, a.To)
		case isa.RateLimit:
			written = append(written, a.Target.Service)
		case isa.CircuitBreak:
			written = append(written, a.Target.Service)
		case isa.Scale:
			written = append(written, a.Target.Service)
		}
	}
	v := r.world.view(restarted, drained, written)
	v.Rollback = r.world.rollback
	for _, s := range p.Steps {
		a, is := s.Action.(isa.RollbackConfig)
		if o := r.world.object(a.Object); is && o != nil && v.Object(a.Object) == nil {
			v.Objects = append(v.Objects, microkernel.ObjectView{Name: o.name, Services: []mesh.Service{o.service}, Current: o.at,
				Known: []string{"7", "8"}, Denied: []string{"6"}, Owner: o.owner})
		}
	}
	slices.SortFunc(v.Objects, func(a, b microkernel.ObjectView) int { return strings.Compare(a.Name, b.Name) })
	return v
}

func (r *run) id() string {
	r.people.serial++
	return fmt.Sprintf("p-%d", r.people.serial)
}

// some returns a service that people act on.
func (r *run) some() *service { return r.world.services[r.rng.IntN(len(r.world.services))] }

func service1(name mesh.Service) isa.Target { return isa.Target{Service: name} }

// honest composes a program of somebody who means well.
func (r *run) honest() isa.Program {
	s := r.some()
	p := isa.Program{ID: r.id(), Epoch: fmt.Sprintf("sha256:%d", r.world.epoch)}
	if r.rng.IntN(3) == 0 {
		p.Epoch = ""
	}
	set := r.world.restartSet([]mesh.Service{s.name})
	switch pick := r.rng.IntN(10); {
	case pick < 4:
		r.nest(&p, set)
	case pick < 6:
		p.Steps = []isa.Step{{ID: "r1", Action: isa.Restart{Target: isa.Target{Group: set}}}}
		if len(set) == 1 {
			p.Steps[0].Action = isa.Restart{Target: service1(s.name), NoDrain: !s.takes}
		}
	case pick == 6 && r.rng.IntN(2) == 0:
		o := r.world.objects[r.rng.IntN(len(r.world.objects))]
		p.Steps = []isa.Step{{ID: "c1", Action: isa.RollbackConfig{Object: o.name, Revision: []string{"7", "8"}[r.rng.IntN(2)]}}}
	case pick == 6:
		p.Steps = []isa.Step{{ID: "l1", Action: isa.RateLimit{Target: service1(s.name), PerSecond: 80, Burst: 10, Lease: 20 * time.Second}}}
	case pick == 7:
		p.Steps = []isa.Step{{ID: "s1", Action: isa.Scale{Target: service1(s.name), Replicas: 2 + r.rng.IntN(4)}}}
	case pick == 8 && r.rng.IntN(3) == 0:
		p.Steps = []isa.Step{ // steps that no drain gates, one after the other
			{ID: "s1", Action: isa.Scale{Target: service1(s.name), Replicas: 2 + r.rng.IntN(4)}},
			{ID: "l1", After: []isa.StepID{"s1"}, Action: isa.RateLimit{Target: service1(s.name), PerSecond: 80, Burst: 10, Lease: 20 * time.Second}},
			{ID: "b1", After: []isa.StepID{"l1"}, Action: isa.CircuitBreak{Target: service1(s.name), MaxRequests: 100, Lease: 20 * time.Second}},
		}
	case pick == 8:
		until := isa.AwaitRestore
		if r.rng.IntN(2) == 0 {
			until = isa.AwaitLease
		}
		p.Steps = []isa.Step{
			{ID: "d1", Action: isa.Drain{Target: service1(s.name), Share: 100, OnEmpty: mesh.OnEmptyShed, Lease: 40 * time.Second}},
			{ID: "a1", After: []isa.StepID{"d1"}, Action: isa.Await{Drain: "d1", Until: until}},
		}
	default:
		p.Steps = []isa.Step{{ID: "b1", Action: isa.CircuitBreak{Target: service1(s.name), MaxRequests: 100, Lease: 20 * time.Second}}}
	}
	if r.rng.IntN(2) == 0 {
		p.Verify = []isa.Check{{Service: s.name, For: 5 * time.Second}}
	}
	return p
}

// nest drains callers before callees, then restarts and restores callees first.
func (r *run) nest(p *isa.Program, set []mesh.Service) {
	var last []isa.StepID
	add := func(id string, a isa.Action) {
		p.Steps = append(p.Steps, isa.Step{ID: isa.StepID(id), After: last, Action: a})
		last = []isa.StepID{isa.StepID(id)}
	}
	empty := []mesh.OnEmpty{mesh.OnEmptyHold, mesh.OnEmptyShed}[r.rng.IntN(2)]
	for i, name := range set {
		add(fmt.Sprintf("d%d", i), isa.Drain{Target: service1(name), Share: 100, OnEmpty: empty, Lease: 120 * time.Second,
			Deadline: 10 * time.Second})
	}
	for i := len(set) - 1; i >= 0; i-- {
		add(fmt.Sprintf("r%d", i), isa.Restart{Target: service1(set[i]), Drain: isa.StepID(fmt.Sprintf("d%d", i)), Deadline: 8 * time.Second})
	}
	for i := len(set) - 1; i >= 0; i-- {
		add(fmt.Sprintf("t%d", i), isa.RestoreTraffic{Drain: isa.StepID(fmt.Sprintf("d%d", i)), Ramp: r.millis(0, 2000)})
	}
}

// approve looks at what is held.
func (r *run) approve() {
	for _, rec := range r.state.OpenRecords() {
		if rec.Phase != microkernel.Held || !r.up() || r.rng.IntN(3) == 0 {
			continue
		}
		by := colleague()
		if r.rng.IntN(4) == 0 {
			by = operator() // who may have proposed it
		}
		r.deliver(microkernel.Approved{Stamp: r.stamp(), Plan: rec.ID, By: by, View: r.viewOf(rec.Written)})
	}
}

// operate pauses, resumes and aborts now and then.
func (r *run) operate() {
	if !r.up() {
		return
	}
	switch r.rng.IntN(4) {
	case 0:
		r.counts.Faults["pause"]++
		plan := microkernel.PlanID("")
		if open := r.open(); len(open) > 0 && r.rng.IntN(2) == 0 {
			plan = open[r.rng.IntN(len(open))]
			r.pausedAlone[plan] = true
		}
		r.deliver(microkernel.Paused{Stamp: r.stamp(), Plan: plan, By: operator(), Reason: "looking"})
		r.answer(r.millis(1000, 40_000), func() { r.resumeAll(plan) })
	case 1:
		r.resumeAll("")
	default:
		if open := r.open(); len(open) > 0 {
			r.counts.Faults["abort"]++
			id := open[r.rng.IntN(len(open))]
			r.deliver(microkernel.Aborted{Stamp: r.stamp(), Plan: id, By: operator(), Reason: "not now"})
		}
	}
}

func (r *run) resumeAll(plan microkernel.PlanID) {
	r.deliver(microkernel.Resumed{Stamp: r.stamp(), Plan: plan, By: admin()})
}

func (r *run) open() []microkernel.PlanID {
	var out []microkernel.PlanID
	for _, rec := range r.state.OpenRecords() {
		if !rec.Phase.Final() {
			out = append(out, rec.ID)
		}
	}
	return out
}

// drift changes the call graph: a sticky edge appears or goes, evidence gets old.
func (r *run) drift() {
	s := r.world.services[1+r.rng.IntN(10)]
	switch {
	case s.broken || r.rng.IntN(12) == 0:
		s.broken = !s.broken
		r.counts.Faults["incident"]++
		return
	case r.rng.IntN(4) == 0:
		s.declared = !s.declared
		return
	case r.rng.IntN(6) == 0:
		r.adopt(s)
		return
	case len(s.sticky) > 0:
		s.sticky = nil
	case s.callers[0].Namespace() != mesh.OutsideNamespace:
		s.sticky = []mesh.Service{s.callers[0]}
	}
	r.world.epoch++
	r.counts.Faults["epoch-change"]++
}

// raise changes what people ask of a service while plans run: how many instances must
// stay, and whether it has headroom as a caller.
func (r *run) raise() {
	s := r.some()
	if open := r.open(); len(open) > 0 && r.rng.IntN(3) > 0 { // rather one that somebody acts on
		rec, _ := r.state.Record(open[r.rng.IntN(len(open))])
		for _, v := range rec.View.Services {
			if at := r.world.find(v.Name); at != nil && r.rng.IntN(2) == 0 {
				s = at
			}
		}
	}
	if r.rng.IntN(3) == 0 {
		s.full = !s.full
		r.counts.Faults["headroom-change"]++
		return
	}
	s.least = r.rng.IntN(s.replicas + 1)
	r.counts.Faults["floor-change"]++
}

// adopt gives the replicas of a service, or an object, to somebody else, or takes them back.
func (r *run) adopt(s *service) {
	r.counts.Faults["owner-change"]++
	toggle := func(owner *string, other string) {
		if *owner == "" {
			*owner = other
		} else {
			*owner = ""
		}
	}
	if r.rng.IntN(2) == 0 {
		toggle(&s.owner, "autoscaler")
		return
	}
	toggle(&r.world.objects[r.rng.IntN(len(r.world.objects))].owner, "argocd")
}

// becomeFair ends all interference: pauses and freezes are lifted, open drains restored.
func (r *run) becomeFair() {
	var mend func()
	mend = func() {
		if r.up() {
			r.mend()
		}
		if len(r.violations) == 0 {
			r.after(20*time.Second, mend)
		}
	}
	r.after(time.Second, mend)
}

func (r *run) mend() {
	if r.state.Frozen() != "" || r.state.Paused() != "" {
		r.resumeAll("")
	}
	for _, rec := range r.state.OpenRecords() {
		switch {
		case rec.Phase == microkernel.Frozen:
			r.resumeAll(rec.ID)
		case rec.Phase == microkernel.Running && slices.ContainsFunc(rec.Steps, awaiting), rec.Phase == microkernel.Held:
			r.deliver(microkernel.Aborted{Stamp: r.stamp(), Plan: rec.ID, By: operator(), Reason: "end of day"})
		case !rec.Phase.Final():
			r.resumeAll(rec.ID)
		}
	}
}

func awaiting(s microkernel.StepRecord) bool {
	_, await := s.Step.Action.(isa.Await)
	return await && s.State == microkernel.StepRunning
}
