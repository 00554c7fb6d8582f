package driver

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// views gathers the facts that a verdict rests on. It is safe for concurrent use.
type views struct {
	cfg     Config
	history *history
}

// of returns the facts for program as they are now, and the cheapest cut if its restart set
// is too large.
func (v *views) of(program isa.Program) microkernel.View {
	view := v.facts(program)
	if limit := v.cfg.Policy.MaxGroupSize; limit > 0 && len(view.RestartSet) > limit {
		view.Cut = cutOf(view.RestartSet, v.cfg.Topology.Snapshot().Edges(), limit)
	}
	return view
}

// atGate returns the facts that a plan which runs is looked at again with: what there is and
// who calls whom, but not how much, which is not looked at and not cheap.
func (v *views) atGate(program isa.Program) microkernel.View {
	light := *v
	light.cfg.Loads, light.cfg.Symptoms = nil, nil
	return light.facts(program)
}

// facts returns the facts for program as they are now. Everything that the program claims
// is recomputed: its restart set, orders and blast radius come from the present graph.
func (v *views) facts(program isa.Program) microkernel.View {
	snapshot, world := v.cfg.Topology.Snapshot(), v.cfg.Processes.World()
	named := namedBy(&program)
	restart := snapshot.Planned(named.restarted)
	orders := snapshot.Planned(append(slices.Clone(named.restarted), named.drained...))
	objects := v.objects(named.objects)
	touched := slices.Concat(named.all, restart.RestartSet)
	for i := range objects {
		touched = append(touched, objects[i].Services...)
	}
	touched = sorted(touched)
	symptoms := v.symptoms()
	view := microkernel.View{
		Epoch:       snapshot.Epoch(),
		GraphSize:   len(snapshot.Services()),
		RestartSet:  restart.RestartSet,
		DrainOrder:  orders.DrainOrder,
		RestartSeq:  orders.RestartOrder,
		RestoreSeq:  orders.RestoreOrder,
		BlastRadius: snapshot.Blast(touched),
		Group:       groupOf(snapshot, symptoms, touched),
		Requests:    snapshot.Requests(),
		Declared:    declares(world),
		Sampling:    v.cfg.Sampling,
		Rollback:    v.cfg.Configs != nil,
		Objects:     objects,
	}
	view.Crowded = v.crowded(sorted(slices.Concat(named.restarted, named.drained, restart.RestartSet)), snapshot, world)
	view.Incident = incident(symptoms, view.BlastRadius)
	for _, service := range touched {
		if state := world.Find(service); state != nil {
			view.Services = append(view.Services, v.service(service, state, world, snapshot, symptoms))
		}
	}
	return view
}

// names are the services that a program names, each list sorted.
type names struct {
	restarted, drained, all []mesh.Service
	objects                 []string
}

// objects describes the objects that there are of those named.
func (v *views) objects(names []string) []microkernel.ObjectView {
	if v.cfg.Configs == nil {
		return nil
	}
	var out []microkernel.ObjectView
	for _, name := range names {
		if o, found := v.cfg.Configs.Object(name); found {
			o.Name = name
			out = append(out, o)
		}
	}
	return out
}

func namedBy(p *isa.Program) names {
	var n names
	for i := range p.Steps {
		switch a := p.Steps[i].Action.(type) {
		case isa.Restart:
			n.restarted = append(n.restarted, targets(&a.Target)...)
		case isa.Drain:
			n.drained = append(n.drained, targets(&a.Target)...)
			n.all = append(n.all, a.To)
		case isa.CircuitBreak:
			n.all = append(append(n.all, a.Caller), targets(&a.Target)...)
		case isa.RateLimit:
			n.all = append(append(n.all, a.Caller), targets(&a.Target)...)
		case isa.Scale:
			n.all = append(n.all, targets(&a.Target)...)
		case isa.RollbackConfig:
			n.objects = append(n.objects, a.Object)
		}
	}
	slices.Sort(n.objects)
	n.objects = slices.Compact(n.objects)
	for _, check := range p.Verify {
		n.all = append(n.all, check.Service)
	}
	n.restarted, n.drained = sorted(n.restarted), sorted(n.drained)
	n.all = sorted(slices.Concat(n.all, n.restarted, n.drained))
	return n
}

func targets(t *isa.Target) []mesh.Service {
	if t.Service != "" {
		return append([]mesh.Service{t.Service}, t.Group...)
	}
	return t.Group
}

// sorted returns services sorted, each once, without "".
func sorted(services []mesh.Service) []mesh.Service {
	slices.Sort(services)
	services = slices.Compact(services)
	return slices.DeleteFunc(services, func(s mesh.Service) bool { return s == "" })
}

func (v *views) symptoms() []topology.Symptom {
	if v.cfg.Symptoms == nil {
		return nil
	}
	return v.cfg.Symptoms.Symptoms()
}

// groupOf returns the members of the groups of all symptoms that the program touches.
func groupOf(s *topology.Snapshot, symptoms []topology.Symptom, touched []mesh.Service) []mesh.Service {
	var members []mesh.Service
	for _, symptom := range symptoms {
		group := s.Group(symptom)
		var own []mesh.Service
		for _, m := range group.Members {
			own = append(own, m.Service)
		}
		if slices.ContainsFunc(own, func(m mesh.Service) bool { return slices.Contains(touched, m) }) {
			members = append(members, own...)
		}
	}
	return sorted(members)
}

// incident returns the services of the radius that are symptoms now.
func incident(symptoms []topology.Symptom, radius []mesh.Service) []mesh.Service {
	var broken []mesh.Service
	for _, symptom := range symptoms {
		if slices.Contains(radius, symptom.Service) {
			broken = append(broken, symptom.Service)
		}
	}
	return sorted(broken)
}

// crowded returns the direct callers of targets that are known to have less headroom than
// policy asks for.
func (v *views) crowded(targets []mesh.Service, s *topology.Snapshot, w *mesh.World) []mesh.Service {
	loads, known := v.cfg.Loads.(Utilisations)
	if !known {
		return nil
	}
	var out []mesh.Service
	for _, target := range targets {
		for _, caller := range append(s.Callers(target), inboundOf(target, w).callers...) {
			if loads.Utilisation(caller) > 1-v.cfg.Policy.Headroom {
				out = append(out, caller)
			}
		}
	}
	return sorted(out)
}

// declares reports whether any dependency is declared.
func declares(w *mesh.World) bool {
	return slices.ContainsFunc(w.Services, func(s mesh.ServiceState) bool { return len(s.Upstreams) > 0 })
}

func (v *views) service(
	name mesh.Service, state *mesh.ServiceState, w *mesh.World, s *topology.Snapshot, symptoms []topology.Symptom,
) microkernel.ServiceView {
	inbound := inboundOf(name, w)
	callers := sorted(append(s.Callers(name), inbound.callers...))
	load := Load{}
	if v.cfg.Loads != nil {
		load = v.cfg.Loads.Load(name)
	}
	view := microkernel.ServiceView{
		ServiceState:   *state,
		Capability:     v.cfg.Capabilities(state),
		FanIn:          len(callers),
		Callers:        callers,
		Component:      s.Component(name),
		StickyCallers:  s.StickyCallers(name),
		RestartP99:     v.history.p99(name, state.Startup),
		CallerDeadline: inbound.deadline,
		Rate:           load.Rate,
		Concurrency:    load.Concurrency,
		Utilisation:    load.Utilisation,
		Symptom:        slices.ContainsFunc(symptoms, func(s topology.Symptom) bool { return s.Service == name }),
		Takes:          len(callers) > 0 || load.Rate > 0,
		Declares:       len(state.Upstreams) > 0 || inbound.declared,
		Fixed:          v.cfg.Scaler == nil,
	}
	if v.cfg.Scaler != nil {
		view.Owner = v.cfg.Scaler.Owner(name)
	}
	if v.cfg.Policy.EvidenceAge > 0 && !view.Declares { // else nobody asks, and it is not cheap
		view.Known = known(name, s)
	}
	if len(view.Component) == 0 {
		view.Component = []mesh.Service{name}
	}
	return view
}

// known returns since when there is evidence of calls to or by service, 0 if there is none.
func known(service mesh.Service, s *topology.Snapshot) time.Duration {
	oldest := time.Duration(0)
	for _, e := range s.Edges() {
		if (e.Caller == service || e.Callee == service) && !e.First.IsZero() {
			oldest = max(oldest, s.At().Sub(e.First))
		}
	}
	return oldest
}

// inbound is what the mesh's configuration says of a service's callers.
type inbound struct {
	callers  []mesh.Service
	deadline time.Duration // least timeout of a request, 0 = unbounded
	declared bool          // some service declares it as an upstream
}

// inboundOf collects the callers of service that are declared, and the gateways that
// send to it, with their least timeout.
func inboundOf(service mesh.Service, w *mesh.World) inbound {
	var in inbound
	for i := range w.Services {
		for _, u := range w.Services[i].Upstreams {
			if u.Service == service {
				in.declared = true
				in.callers = append(in.callers, w.Services[i].Name)
				in.bound(u.Timeout)
			}
		}
	}
	for i := range w.Proxies {
		for _, o := range w.Proxies[i].Outbound {
			if o.Service == service {
				in.callers = append(in.callers, w.Proxies[i].Service)
				in.bound(o.Timeout)
			}
		}
	}
	for _, g := range w.Gateways {
		if g.Service == service {
			in.callers = append(in.callers, g.Name)
		}
	}
	in.callers = sorted(in.callers)
	return in
}

func (in *inbound) bound(timeout time.Duration) {
	if timeout > 0 && (in.deadline == 0 || timeout < in.deadline) {
		in.deadline = timeout
	}
}
