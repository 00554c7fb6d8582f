package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// hostility is one attempt to do harm with nothing but a proposer's credential.
func (r *run) hostility() {
	if !r.up() {
		return
	}
	switch r.rng.IntN(14) {
	case 0:
		r.flood()
	case 1:
		r.again()
	case 2:
		r.usurp()
	case 3:
		r.drip()
	case 4:
		r.storm()
	case 5:
		guest := microkernel.Principal{Name: "guest", Role: microkernel.Viewer}
		r.propose(guest, r.honest())
	default:
		r.propose(hostile(), r.malice())
	}
}

// flood asks for far more than the rate allows.
func (r *run) flood() {
	for range 25 {
		if !r.up() || len(r.violations) > 0 {
			return
		}
		p := isa.Program{ID: r.id(), Steps: []isa.Step{{ID: "s1", Action: isa.Scale{Target: service1("shop/s03"), Replicas: 0}}}}
		r.propose(hostile(), p)
	}
}

// again repeats a program, or gives its id to another one.
func (r *run) again() {
	if len(r.people.sent) == 0 {
		return
	}
	p := r.people.sent[r.rng.IntN(len(r.people.sent))]
	if r.rng.IntN(2) == 0 {
		p.Deadline += time.Second
	}
	r.propose([]microkernel.Principal{agent(), hostile(), operator()}[r.rng.IntN(3)], p)
}

// usurp tries what only operators may do.
func (r *run) usurp() {
	open := r.open()
	if len(open) == 0 {
		return
	}
	id := open[r.rng.IntN(len(open))]
	rec, _ := r.state.Record(id)
	at := r.stamp()
	switch r.rng.IntN(4) {
	case 0:
		r.deliver(microkernel.Approved{Stamp: at, Plan: id, By: hostile(), View: r.viewOf(rec.Written)})
	case 1:
		r.deliver(microkernel.Aborted{Stamp: at, Plan: id, By: hostile(), Reason: "mine now"})
	case 2:
		r.deliver(microkernel.Paused{Stamp: at, By: hostile(), Reason: "mine now"})
	default:
		r.deliver(microkernel.Resumed{Stamp: at, Plan: id, By: hostile()})
	}
}

// drip limits one service after another.
func (r *run) drip() {
	for i := range 4 {
		if !r.up() || len(r.violations) > 0 {
			return
		}
		name := serviceName((r.people.serial + i) % 12)
		r.propose(hostile(), isa.Program{ID: r.id(), Steps: []isa.Step{
			{ID: "l1", Action: isa.RateLimit{Target: service1(name), PerSecond: 90, Burst: 1, Lease: 5 * time.Second}},
		}})
	}
}

// storm asks for the same drain and restart over and over.
func (r *run) storm() {
	s := r.world.services[2]
	for range 3 {
		if !r.up() || len(r.violations) > 0 {
			return
		}
		p := isa.Program{ID: r.id()}
		r.nest(&p, r.world.restartSet([]mesh.Service{s.name}))
		r.propose(hostile(), p)
	}
}

// malice composes a program that must not run as it is written.
func (r *run) malice() isa.Program {
	s := r.some()
	p := isa.Program{ID: r.id()}
	step := func(id string, a isa.Action, after ...isa.StepID) {
		p.Steps = append(p.Steps, isa.Step{ID: isa.StepID(id), After: after, Action: a})
	}
	drain := isa.Drain{Target: service1(s.name), Share: 100, OnEmpty: mesh.OnEmptyHold, Lease: 120 * time.Second}
	first := isa.Target{Service: s.name, UID: s.instances[0].ref.UID}
	switch r.rng.IntN(14) {
	case 0: // no drain
		step("r1", isa.Restart{Target: service1(s.name), NoDrain: true})
	case 1: // the drain is of something else
		step("d1", isa.Drain{Target: service1("shop/s00"), Share: 100, OnEmpty: mesh.OnEmptyShed})
		step("r1", isa.Restart{Target: first, Drain: "d1"}, "d1")
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "r1")
	case 2: // everything is drained, nothing takes it
		drain.OnEmpty = mesh.OnEmptyNone
		step("d1", drain)
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "d1")
	case 3: // the restart does not wait for the drain
		step("d1", drain)
		step("r1", isa.Restart{Target: first, Drain: "d1"})
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "r1")
	case 4: // half a drain
		drain.Share = 1
		step("d1", drain)
		step("r1", isa.Restart{Target: first, Drain: "d1"}, "d1")
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "r1")
	case 5: // restored before it is restarted
		step("d1", drain)
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "d1")
		step("r1", isa.Restart{Target: first, Drain: "d1"}, "t1")
	case 6: // steps that wait for each other
		step("d1", drain, "t1")
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "d1")
	default:
		r.moreMalice(&p, s, drain)
	}
	return p
}

// deadEnd is a service that cannot take the traffic of s.
func (r *run) deadEnd(s *service) mesh.Service {
	for _, other := range r.world.services {
		if other.ready(r.world.now) == 0 {
			return other.name
		}
	}
	return s.name
}

// moreMalice is the rest of malice.
func (r *run) moreMalice(p *isa.Program, s *service, drain isa.Drain) {
	step := func(id string, a isa.Action, after ...isa.StepID) {
		p.Steps = append(p.Steps, isa.Step{ID: isa.StepID(id), After: after, Action: a})
	}
	switch r.rng.IntN(12) {
	case 7: // names that are none, and steps that are not there
		if r.rng.IntN(2) == 0 {
			p.ID = "../" + p.ID
		}
		step("d1", drain, "d9")
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "d1")
	case 8: // of the control plane, of the cluster, of nobody
		target := []mesh.Service{"sluice/sluiced", "kube-system/dns", "shop/none"}[r.rng.IntN(3)]
		step("s1", isa.Scale{Target: service1(target), Replicas: 3})
	case 9: // far more than a plan may have
		for i := range 70 {
			step(fmt.Sprintf("s%d", i), isa.Scale{Target: service1(s.name), Replicas: 3})
		}
	case 10: // half of the shop in one plan
		for i, other := range r.world.services[1:8] {
			step(fmt.Sprintf("r%d", i), isa.Restart{Target: service1(other.name)})
		}
	case 11: // a lease that ends before the restart does
		drain.Lease = 5 * time.Second
		step("d1", drain)
		step("r1", isa.Restart{Target: service1(s.name), Drain: "d1", Deadline: 20 * time.Second}, "d1")
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "r1")
	case 0: // two drains of one service at once
		step("d1", drain)
		step("d2", drain)
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "d1")
		step("t2", isa.RestoreTraffic{Drain: "d2"}, "d2")
	case 1:
		step("s1", isa.Scale{Target: service1(s.name), Replicas: []int{0, -1, math.MaxInt}[r.rng.IntN(3)]})
	case 2:
		p.Epoch = "sha256:0"
		r.nest(p, []mesh.Service{s.name})
	case 3: // all members of the quorum at once
		q := r.world.services[4]
		step("d1", isa.Drain{Target: service1(q.name), Share: 100, OnEmpty: mesh.OnEmptyShed, Lease: 120 * time.Second})
		for i, in := range q.instances {
			step(fmt.Sprintf("r%d", i), isa.Restart{Target: isa.Target{Service: q.name, UID: in.ref.UID}, Drain: "d1"}, "d1")
		}
		step("t1", isa.RestoreTraffic{Drain: "d1"}, "r0", "r1", "r2")
	case 4: // a reroute to itself, or to where nothing is
		drain.To, drain.OnEmpty = r.deadEnd(s), mesh.OnEmptyNone
		step("d1", drain)
		step("a1", isa.Await{Drain: "d1", Until: isa.AwaitRestore}, "d1")
	case 5:
		name := []string{"configmap/shop/s03", "configmap/shop/s07", "deployment/shop/s01"}[r.rng.IntN(3)]
		step("x1", isa.RollbackConfig{Object: name, Revision: []string{"1", "6"}[r.rng.IntN(2)]})
	default: // too slow to hold
		r.nest(p, r.world.restartSet([]mesh.Service{s.name}))
		for i := range p.Steps {
			if d, ok := p.Steps[i].Action.(isa.Drain); ok {
				d.OnEmpty = mesh.OnEmptyHold
				p.Steps[i].Action = d
			}
		}
	}
}
