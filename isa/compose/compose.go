// Package compose writes the programs that recoveries are made of: from the orders
// of a group and a few facts about its services to an isa program. Planners and the
// command line share it, so that a person and an agent that ask for the same restart
// hand in the same program. It is pure and it is not for deciding anything: the
// microkernel judges what comes out as it judges any other program.
//
// A restart of several services becomes one nest of drains:
//
//	drain callers before callees, each after the one before is confirmed
//	per component, callees first: restart its services, then restore them
//	verify every one of them
//
// A component is restored before its callers restart, because a service may need its
// callees while it starts.
package compose

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// VerifyFor is how long each restarted service must keep its objective at the end.
const VerifyFor = 10 * time.Second

const (
	maxLease      = 120 * time.Second // RecoveryPolicy, least that needs no approval
	leastDeadline = 5 * time.Second   // of a drain in a large nest
	leastRestart  = 10 * time.Second  // the deadline of a restart in a large nest
)

// Orders is what a group says of a restart: who, and in which orders. Services that
// are in RestartSet but in none of the orders are appended in RestartSet's order.
type Orders struct {
	RestartSet []mesh.Service
	Drain      []mesh.Service // callers before callees
	Restart    []mesh.Service // callees before callers
	Restore    []mesh.Service // callees before callers
	Epoch      string         // that the orders rest on, "" = any
}

// Facts is what a program depends on of one service.
type Facts struct {
	Protocol  mesh.Protocol
	Instances int
	Component int            // equal numbers above 0 are one strongly connected component
	Callers   []mesh.Service // direct callers; those of a TCP service are held while it is cut
	Startup   time.Duration  // declared or learned, 0 = unknown
	AllFail   bool           // every request to it fails: what is in flight there is lost, and not waited for
}

// Style is what whoever asks may choose. The zero value is the default of Restart.
type Style struct {
	Mode    isa.Mode
	OnEmpty mesh.OnEmpty      // "" = hold
	To      mesh.Service      // reroute there instead; excludes OnEmpty
	Streams mesh.StreamPolicy // "" = cut where waiting is in vain (raw TCP, a service that fails every request), else wait
}

// Restart composes the restart of a group with the default style: see Style.Restart.
func Restart(id string, orders Orders, facts map[mesh.Service]Facts) isa.Program {
	return Style{}.Restart(id, orders, facts)
}

// Restart composes the restart of orders.RestartSet. One service with several
// instances, or a set too large to be out of service as a whole for the length of a
// lease, is left to the macro, which takes instance after instance; everything else is
// drained whole. Facts that are missing
// stand for one HTTP instance.
func (s Style) Restart(id string, orders Orders, facts map[mesh.Service]Facts) isa.Program {
	n := nest{style: s, facts: facts, orders: orders.complete()}
	program := isa.Program{ID: id, Epoch: orders.Epoch, Verify: verify(n.orders.RestartSet)}
	n.quiesce = n.outsideCallers()
	switch {
	case len(n.orders.RestartSet) == 0:
	case len(n.orders.RestartSet) == 1 && s.macro(facts[n.orders.RestartSet[0]]):
		target := isa.Target{Service: n.orders.RestartSet[0]}
		program.Steps = []isa.Step{{ID: "r1", Action: isa.Restart{Target: target, Mode: s.Mode}}}
	case n.write():
		program.Steps = n.steps
	default:
		target := isa.Target{Group: n.orders.RestartSet}
		program.Steps = []isa.Step{{ID: "r1", Action: isa.Restart{Target: target, Mode: s.Mode}}}
	}
	program.Deadline = deadline(program.Steps)
	return program
}

// Drain composes a program that takes all traffic off target and leaves it off until
// somebody restores it or the lease ends.
func (s Style) Drain(id string, target isa.Target, facts Facts) isa.Program {
	drain := isa.Drain{
		Target: target, Share: 100, To: s.To, OnEmpty: s.OnEmpty, Streams: s.streams(facts), Lease: maxLease,
	}
	return isa.Program{ID: id, Steps: []isa.Step{
		{ID: "d1", Action: drain},
		{ID: "a1", After: []isa.StepID{"d1"}, Action: isa.Await{Drain: "d1", Until: isa.AwaitRestore}},
	}}
}

// streams is what becomes of what does not end by itself.
func (s Style) streams(f Facts) mesh.StreamPolicy {
	if s.Streams == "" && (f.Protocol == mesh.TCP || f.AllFail) {
		return mesh.StreamsCut
	}
	return s.Streams
}

// macro reports whether instance after instance is possible: some other instance
// serves meanwhile, and nobody asked for another treatment of requests.
func (s Style) macro(f Facts) bool {
	return f.Instances > 1 && s.OnEmpty == mesh.OnEmptyNone && s.To == "" && s.Streams == "" && !f.AllFail
}

// complete returns orders in which every service of the restart set has its place.
func (o Orders) complete() Orders {
	o.RestartSet = slices.Compact(slices.Sorted(slices.Values(o.RestartSet)))
	o.Drain = ordered(o.Drain, o.RestartSet)
	o.Restart = ordered(o.Restart, o.RestartSet)
	o.Restore = ordered(o.Restore, o.RestartSet)
	return o
}

// ordered returns the members of set in the order of wanted, the rest behind them.
func ordered(wanted, set []mesh.Service) []mesh.Service {
	out := make([]mesh.Service, 0, len(set))
	for _, list := range [][]mesh.Service{wanted, set} {
		for _, service := range list {
			if slices.Contains(set, service) && !slices.Contains(out, service) {
				out = append(out, service)
			}
		}
	}
	return out
}

func verify(set []mesh.Service) []isa.Check {
	checks := make([]isa.Check, 0, len(set))
	for _, service := range set {
		checks = append(checks, isa.Check{Service: service, For: VerifyFor})
	}
	return checks
}

// nest is one program of nested drains while it is being written.
type nest struct {
	style   Style
	facts   map[mesh.Service]Facts
	orders  Orders
	quiesce []mesh.Service // held but not restarted: callers of cut TCP services
	steps   []isa.Step
	last    []isa.StepID // the step that the next one follows
}

// outsideCallers lists the HTTP callers of TCP services in the set that are not in
// the set: a request in flight there would lose its connection to the store.
func (n *nest) outsideCallers() []mesh.Service {
	var out []mesh.Service
	for _, service := range n.orders.RestartSet {
		if n.facts[service].Protocol != mesh.TCP {
			continue
		}
		for _, caller := range n.facts[service].Callers {
			facts, known := n.facts[caller]
			inside := slices.Contains(n.orders.RestartSet, caller) || slices.Contains(out, caller)
			if known && facts.Protocol != mesh.TCP && !inside && caller.Namespace() != mesh.OutsideNamespace {
				out = append(out, caller)
			}
		}
	}
	slices.Sort(out)
	return out
}

// write writes the nest and reports whether it fits into a program and its leases.
func (n *nest) write() bool {
	drained := n.drainOrder()
	number := make(map[mesh.Service]string, len(drained))
	for i, service := range drained {
		number[service] = strconv.Itoa(i + 1)
		n.add("d"+number[service], n.drain(service))
	}
	for _, component := range n.components() {
		for _, service := range component {
			if !slices.Contains(n.orders.RestartSet, service) {
				continue
			}
			drain := isa.StepID("d" + number[service])
			n.add("r"+number[service], isa.Restart{
				Target: isa.Target{Service: service}, Mode: n.style.Mode, Drain: drain,
				Deadline: restartDeadline(n.facts[service].Startup),
			})
		}
		for _, service := range ordered(n.orders.Restore, component) {
			n.add("t"+number[service], isa.RestoreTraffic{Drain: isa.StepID("d" + number[service])})
		}
	}
	return n.lease() && len(n.steps) <= isa.MaxSteps
}

func (n *nest) add(id string, action isa.Action) {
	n.steps = append(n.steps, isa.Step{ID: isa.StepID(id), After: n.last, Action: action})
	n.last = []isa.StepID{isa.StepID(id)}
}

func (n *nest) drain(service mesh.Service) isa.Drain {
	drain := isa.Drain{Target: isa.Target{Service: service}, Share: 100, OnEmpty: mesh.OnEmptyHold}
	if slices.Contains(n.orders.RestartSet, service) {
		drain.OnEmpty = cmp.Or(n.style.OnEmpty, mesh.OnEmptyHold)
		if n.style.To != "" && len(n.orders.RestartSet) == 1 {
			drain.To, drain.OnEmpty = n.style.To, mesh.OnEmptyNone
		}
	}
	drain.Streams = n.style.streams(n.facts[service])
	return drain
}

// components cuts the restart order into runs of one component each, and puts every
// quiesced caller behind the last component that it reaches by calls.
func (n *nest) components() [][]mesh.Service {
	var out [][]mesh.Service
	for _, service := range n.orders.Restart {
		component := n.facts[service].Component
		if len(out) > 0 && component > 0 {
			run := out[len(out)-1]
			if n.facts[run[0]].Component == component {
				out[len(out)-1] = append(run, service)
				continue
			}
		}
		out = append(out, []mesh.Service{service})
	}
	for _, service := range n.quiesce {
		at := 0
		for i, component := range out {
			if slices.ContainsFunc(component, func(callee mesh.Service) bool { return n.reaches(service, callee) }) {
				at = i + 1
			}
		}
		out = slices.Insert(out, at, []mesh.Service{service})
	}
	return out
}

// drainOrder is the order of the set with the quiesced callers put in: each before the
// first service that it reaches by calls.
func (n *nest) drainOrder() []mesh.Service {
	out := slices.Clone(n.orders.Drain)
	for _, service := range n.quiesce {
		at := slices.IndexFunc(out, func(callee mesh.Service) bool { return n.reaches(service, callee) })
		out = slices.Insert(out, max(at, 0), service)
	}
	return out
}

// reaches reports whether caller reaches callee by calls, as far as the facts say.
func (n *nest) reaches(caller, callee mesh.Service) bool {
	seen := map[mesh.Service]bool{callee: true}
	for queue := []mesh.Service{callee}; len(queue) > 0; queue = queue[1:] {
		for _, above := range n.facts[queue[0]].Callers {
			if above == caller {
				return true
			}
			if !seen[above] {
				seen[above] = true
				queue = append(queue, above)
			}
		}
	}
	return false
}

// restartDeadline allows twice the expected start, 0 = the default.
func restartDeadline(startup time.Duration) time.Duration {
	if 2*startup <= isa.DefaultRestartDeadline {
		return 0
	}
	return (2 * startup).Round(time.Second)
}
