package simulate

import (
	"slices"
	"time"

	"github.com/sluicemesh/sluice/agents/rules"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// Change is something that is not as Sluice is: mostly a part that is switched off.
type Change string

// Changes. All but the last switch a part off.
const (
	Unchanged  Change = ""
	NoGroups   Change = "without groups"   // the culprit restarts alone
	NoOrders   Change = "without orders"   // the three orders are the wrong way round
	NoSticky   Change = "without sticky"   // no edge is known to be sticky
	NoGate     Change = "without gate"     // a restart does not wait for the proof of its drain
	NoBudgets  Change = "without budgets"  // limits of services a plan, an agent, the fleet
	NoMonitor  Change = "without monitor"  // harm is not noticed
	NoHeadroom Change = "without headroom" // the load is not looked at before a drain
	NoExpiry   Change = "without expiry"   // an edge never ceases to exist
	Remedy     Change = "with remedy"      // what is held as too slow, and fails every request, is shed instead
)

// Changes lists all changes in their order.
func Changes() []Change {
	return []Change{NoGroups, NoOrders, NoSticky, NoGate, NoBudgets, NoMonitor, NoHeadroom, NoExpiry, Remedy}
}

// answer is what the typed arm comes to in one trial.
type answer struct {
	proposed bool
	written  isa.Program
	expanded isa.Program
	expands  bool // expanded can be looked at, whatever the verdict
	verdict  microkernel.Verdict
	set      []mesh.Service // that would restart, in restart order
	group    topology.Group // of the symptom
	members  []mesh.Service
}

// plan lets the rules look at the fault, twice so that a diagnosis settles, and hands what
// they propose to the kernel.
func (f *facts) plan(s *topology.Snapshot, tr *trial, onset time.Time) answer {
	services := f.l.t.names(tr.services(f.l.t.graph))
	var symptoms []topology.Symptom
	for _, name := range services {
		symptoms = append(symptoms, topology.Symptom{Service: name, Onset: onset, Others: services})
	}
	o := rules.Observation{Now: s.At(), Graph: s, Facts: f.planer}
	var out answer
	for i := range symptoms {
		group := f.reduced(s.Group(symptoms[i]))
		if i == 0 {
			out.group = group
		}
		for _, m := range group.Members {
			out.members = append(out.members, m.Service)
		}
		o.Symptoms = append(o.Symptoms, rules.Symptom{Service: services[i], Onset: onset, Group: group})
	}
	out.members = sorted(out.members)
	defer f.failing(f.l.t.graph.Services[tr.fault.Service], tr.fault.Share >= 1)()
	settings := rules.Defaults()
	state, proposal := rules.Decide(settings, rules.State{}, o)
	for range 2 {
		if proposal == nil {
			o.Now = o.Now.Add(settle)
			state, proposal = rules.Decide(settings, state, o)
		}
	}
	if proposal == nil {
		return out
	}
	out.proposed, out.written = true, proposal.Program
	f.judge(s, &out, symptoms)
	if f.off == Remedy && tr.fault.Share >= 1 && out.verdict.Code == isa.CodeTooSlow && len(out.set) == 1 {
		again := compose.Style{OnEmpty: mesh.OnEmptyShed}
		out.written = again.Restart(out.written.ID, compose.Orders{RestartSet: out.set, Epoch: s.Epoch()}, f.planer)
		out.set = nil
		f.judge(s, &out, symptoms)
	}
	return out
}

// reduced is what is left of a group without groups, or without orders.
func (f *facts) reduced(g topology.Group) topology.Group {
	switch {
	case f.off == NoGroups && len(g.Suspects) > 0:
		only := []mesh.Service{g.Suspects[0].Service}
		g.RestartSet, g.DrainOrder, g.RestartOrder, g.RestoreOrder = only, only, only, only
	case f.off == NoOrders:
		slices.Reverse(g.DrainOrder)
		slices.Reverse(g.RestartOrder)
		slices.Reverse(g.RestoreOrder)
	}
	return g
}

// failing notes that every request to service fails, until what it returns is called.
func (f *facts) failing(service mesh.Service, all bool) func() {
	was := f.planer[service]
	now := was
	now.AllFail = all
	f.planer[service] = now
	return func() { f.planer[service] = was }
}

// judge asks the kernel, and expands the program whatever it says.
func (f *facts) judge(s *topology.Snapshot, a *answer, symptoms []topology.Symptom) {
	view := f.view(s, &a.written, symptoms, a.members)
	state, _ := microkernel.Step(leading(policy(f.off)), microkernel.Submitted{
		Stamp:   microkernel.Stamp{At: microkernel.Instant(2 * time.Hour)},
		By:      microkernel.Principal{Name: "agent", Role: microkernel.Proposer},
		Program: a.written, View: view,
	})
	if record, found := state.Record(microkernel.PlanID(a.written.ID)); found {
		a.verdict = record.Verdict
	}
	expanded, faults := isa.Expand(a.written, env(&view))
	a.expanded, a.expands = expanded, len(faults) == 0
	restarted, _ := named(&a.written)
	for _, name := range view.RestartSeq {
		if slices.Contains(restarted, name) {
			a.set = append(a.set, name)
		}
	}
}

// composed is the program for a restart of set with the orders of the graph.
func (f *facts) composed(id string, s *topology.Snapshot, targets []mesh.Service) isa.Program {
	g := f.reduced(s.Planned(targets))
	return compose.Restart(id, compose.Orders{
		RestartSet: g.RestartSet, Drain: g.DrainOrder, Restart: g.RestartOrder, Restore: g.RestoreOrder, Epoch: g.Epoch,
	}, f.planer)
}
