package simulate

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// facts is what the control plane knows besides the graph: the registry, and what the
// mesh's own statistics tell.
type facts struct {
	l      *learner
	off    Change
	states []mesh.ServiceState
	rates  []float64 // requests a second, as seen
	planer map[mesh.Service]compose.Facts
}

// newFacts gathers what does not change from trial to trial.
func newFacts(l *learner, off Change) *facts {
	f := &facts{l: l, off: off, planer: map[mesh.Service]compose.Facts{}, rates: make([]float64, len(l.t.services))}
	for i, e := range l.t.graph.Edges {
		if l.seen[i] {
			f.rates[e.Callee] += l.t.rate[i] / 60
		}
	}
	for v, s := range l.t.services {
		f.states = append(f.states, stateOf(l.t.graph.Services[v], s.Instances, s.Startup))
	}
	for v, name := range l.t.graph.Services {
		fact := compose.Facts{
			Protocol: mesh.HTTP, Instances: l.t.services[v].Instances, Startup: seconds(l.t.services[v].Startup),
			Callers: l.snapshot.Callers(name),
		}
		if len(l.snapshot.Component(name)) > 1 && off != NoGroups {
			fact.Component = l.snapshot.ComponentNumber(name) + 1
		}
		f.planer[name] = fact
	}
	return f
}

// stateOf is the registry's entry of a service whose instances are all ready.
func stateOf(name mesh.Service, instances int, startup float64) mesh.ServiceState {
	s := mesh.ServiceState{Name: name, Protocol: mesh.HTTP, Replicas: instances, Startup: seconds(startup)}
	for i := range instances {
		s.Instances = append(s.Instances, mesh.Instance{
			Ref:  mesh.Ref{Service: name, UID: uid(name, i), Incarnation: 1},
			Name: fmt.Sprintf("%s-%d", name.Name(), i), Zone: "a", Version: "v1", State: mesh.Ready,
		})
	}
	return s
}

// uid names instance i of a service.
func uid(name mesh.Service, i int) mesh.UID { return mesh.UID(fmt.Sprintf("%s-%d", name.Name(), i)) }

// instanceOf is the inverse of uid.
func instanceOf(id mesh.UID) int {
	n, _ := strconv.Atoi(string(id[strings.LastIndexByte(string(id), '-')+1:]))
	return n
}

// view gathers what the kernel judges a program by, as the driver of a control plane does:
// the restart set, orders and radius come from the graph, not from the program.
func (f *facts) view(s *topology.Snapshot, program *isa.Program, symptoms []topology.Symptom, group []mesh.Service) microkernel.View {
	restarted, all := named(program)
	restart, orders := s.Planned(restarted), s.Planned(all)
	if f.off == NoGroups {
		restart.RestartSet = restarted
		orders.DrainOrder, orders.RestartOrder, orders.RestoreOrder = all, all, all
	}
	if f.off == NoOrders {
		slices.Reverse(orders.DrainOrder)
		slices.Reverse(orders.RestartOrder)
		slices.Reverse(orders.RestoreOrder)
	}
	touched := sorted(slices.Concat(all, restart.RestartSet))
	v := microkernel.View{
		Epoch: s.Epoch(), GraphSize: len(f.states), RestartSet: restart.RestartSet,
		DrainOrder: orders.DrainOrder, RestartSeq: orders.RestartOrder, RestoreSeq: orders.RestoreOrder,
		BlastRadius: s.Blast(touched), Requests: s.Requests(), Sampling: f.l.evidence.Traces, Rollback: true,
	}
	if f.l.evidence.Fused {
		v.Sampling = 1
	}
	if slices.ContainsFunc(group, func(m mesh.Service) bool { return slices.Contains(touched, m) }) {
		v.Group = group
	}
	for _, symptom := range symptoms {
		if slices.Contains(v.BlastRadius, symptom.Service) {
			v.Incident = append(v.Incident, symptom.Service)
		}
	}
	v.Incident = sorted(v.Incident)
	for _, name := range touched {
		if n, known := f.l.number[name]; known {
			v.Services = append(v.Services, f.service(s, n, symptoms))
		}
	}
	return v
}

// service is what the kernel knows of one service.
func (f *facts) service(s *topology.Snapshot, n int32, symptoms []topology.Symptom) microkernel.ServiceView {
	name, truth := f.states[n].Name, f.l.t.services[n]
	v := microkernel.ServiceView{
		ServiceState: f.states[n],
		Capability: mesh.Capability{
			Drain: true, Hold: true, Shed: true, Reroute: true, Limit: true, Break: true, InPlace: true, Grade: mesh.GradeA, Lapses: true,
		},
		Callers: s.Callers(name), Component: s.Component(name), StickyCallers: s.StickyCallers(name),
		RestartP99: seconds(truth.Startup), CallerDeadline: seconds(truth.Patience),
		Rate: f.rates[n], Concurrency: f.rates[n] * 0.05, Takes: true, Known: 24 * time.Hour,
		Symptom: slices.ContainsFunc(symptoms, func(s topology.Symptom) bool { return s.Service == name }),
	}
	v.FanIn = len(v.Callers)
	if f.l.evidence.Fused && f.off != NoHeadroom { // metrics tell the load, traces do not
		v.Utilisation = f.l.t.load[n]
	}
	if f.off == NoGroups {
		v.Component, v.StickyCallers = []mesh.Service{name}, nil
	}
	return v
}

// named lists what a program restarts, and all that it names.
func named(p *isa.Program) (restarted, all []mesh.Service) {
	for i := range p.Steps {
		switch a := p.Steps[i].Action.(type) {
		case isa.Restart:
			restarted = append(append(restarted, a.Target.Service), a.Target.Group...)
		case isa.Drain:
			all = append(all, a.Target.Service, a.To)
		case isa.CircuitBreak:
			all = append(all, a.Target.Service, a.Caller)
		case isa.RateLimit:
			all = append(all, a.Target.Service, a.Caller)
		case isa.Scale:
			all = append(all, a.Target.Service)
		}
	}
	restarted = sorted(restarted)
	return restarted, sorted(append(all, restarted...))
}

// sorted returns services sorted, each once, without "".
func sorted(services []mesh.Service) []mesh.Service {
	slices.Sort(services)
	services = slices.Compact(services)
	return slices.DeleteFunc(services, func(s mesh.Service) bool { return s == "" })
}

// env is what isa needs to expand a program that was refused.
func env(v *microkernel.View) *isa.Env {
	e := &isa.Env{
		GraphSize: v.GraphSize, RestartSet: v.RestartSet,
		DrainOrder: v.DrainOrder, RestartOrder: v.RestartSeq, RestoreOrder: v.RestoreSeq,
	}
	for i := range v.Services {
		s := &v.Services[i]
		e.Services = append(e.Services, isa.ServiceFacts{
			ServiceState: s.ServiceState, FanIn: s.FanIn, Callers: s.Callers, Component: s.Component,
			StickyCallers: s.StickyCallers, Rate: s.Rate, Concurrency: s.Concurrency, Takes: s.Takes,
		})
	}
	return e
}

// policy is the kernel's, with what is switched off.
func policy(off Change) microkernel.Policy {
	p := microkernel.DefaultPolicy()
	switch off {
	case NoHeadroom:
		p.Headroom = 0
	case NoBudgets:
		p.MaxPlanServices, p.MaxPlanShare, p.MaxPlanCeiling = math.MaxInt32, 1, math.MaxInt32
		p.AgentServices10m, p.AgentServices60m = math.MaxInt32, math.MaxInt32
		p.FleetServices10m, p.RestartsPerService, p.DrainsPerTarget = math.MaxInt32, math.MaxInt32, math.MaxInt32
	}
	return p
}

// leading is a kernel that takes plans.
func leading(p microkernel.Policy) microkernel.State {
	at := microkernel.Stamp{At: microkernel.Instant(time.Hour)}
	s := microkernel.New(p)
	s, _ = microkernel.Step(s, microkernel.Led{Stamp: at, Term: 1, Policy: p})
	s, _ = microkernel.Step(s, microkernel.Probed{Stamp: at})
	return s
}
