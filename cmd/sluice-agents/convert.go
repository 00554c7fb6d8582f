package main

import (
	"time"

	"github.com/sluicemesh/sluice/agents/rules"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// graphIn rebuilds the shape of the API's graph: nodes, edges and sticky marks.
func graphIn(m *sluicev1.GetTopologyResponse) *topology.Snapshot {
	var nodes []mesh.Service
	for _, service := range m.GetServices() {
		nodes = append(nodes, servicesIn([]string{service.GetName()})...)
	}
	for _, edge := range m.GetEdges() { // gateways are callers, not services
		nodes = append(nodes, servicesIn([]string{edge.GetCaller(), edge.GetCallee()})...)
	}
	graph := topology.NewGraph()
	graph.RegisterNames(nodes)
	for _, edge := range m.GetEdges() {
		graph.Declare(mesh.Service(edge.GetCaller()), mesh.Service(edge.GetCallee()), edge.GetSticky())
	}
	return graph.Snapshot(m.GetAt().AsTime())
}

// factsIn reads what programs depend on.
func factsIn(m *sluicev1.GetTopologyResponse, graph *topology.Snapshot) map[mesh.Service]compose.Facts {
	facts := make(map[mesh.Service]compose.Facts, len(m.GetServices()))
	for _, service := range m.GetServices() {
		name := mesh.Service(service.GetName())
		facts[name] = compose.Facts{
			Protocol: mesh.Protocol(service.GetProtocol()), Instances: len(service.GetInstances()),
			Component: graph.ComponentNumber(name) + 1, Callers: graph.Callers(name),
		}
	}
	return facts
}

// plansIn reads what is known of recent plans.
func plansIn(plans []*sluicev1.Plan) []rules.Plan {
	out := make([]rules.Plan, 0, len(plans))
	for _, plan := range plans {
		out = append(out, rules.Plan{
			ID: plan.GetId(), Phase: phaseIn(plan.GetPhase()), Ended: endIn(plan),
			RestartSet: servicesIn(plan.GetRestartSet()), BlastRadius: servicesIn(plan.GetBlastRadius()),
		})
	}
	return out
}

// endIn returns when a plan ended, zero if it has not.
func endIn(plan *sluicev1.Plan) (end time.Time) {
	if plan.GetEnded() == nil {
		return end
	}
	return plan.GetEnded().AsTime()
}

// phaseIn reads a phase; one that is not known counts as open, so that nothing is
// proposed beside it.
func phaseIn(phase string) rules.Phase {
	switch known := rules.Phase(phase); known {
	case rules.Committed, rules.Compensated, rules.Refused, rules.Frozen:
		return known
	}
	return rules.Open
}

// groupIn reads a group; names that are not valid are left out.
func groupIn(m *sluicev1.GetGroupResponse) topology.Group {
	group := topology.Group{
		Epoch: m.GetEpoch(), RestartSet: servicesIn(m.GetRestartSet()),
		DrainOrder: servicesIn(m.GetDrainOrder()), RestartOrder: servicesIn(m.GetRestartOrder()),
		RestoreOrder: servicesIn(m.GetRestoreOrder()), BlastRadius: servicesIn(m.GetBlastRadius()),
		DrainRequired: servicesIn(m.GetDrainRequired()), FanIn: int(m.GetFanIn()),
	}
	for _, suspect := range m.GetSuspects() {
		for _, service := range servicesIn([]string{suspect.GetService()}) {
			group.Suspects = append(group.Suspects, topology.Suspect{
				Service: service, Instance: suspect.GetInstance(), Level: topology.Level(suspect.GetLevel()),
				Score: suspect.GetScore(), Reason: suspect.GetReason(), Version: suspect.GetVersion(), Zone: suspect.GetZone(),
			})
		}
	}
	for _, member := range m.GetMembers() {
		for _, service := range servicesIn([]string{member.GetService()}) {
			level := topology.Level(member.GetLevel())
			group.Members = append(group.Members, topology.Member{Service: service, Level: level})
		}
	}
	return group
}

// servicesIn keeps the valid names, in their order.
func servicesIn(names []string) []mesh.Service {
	out := make([]mesh.Service, 0, len(names))
	for _, name := range names {
		if service, err := mesh.ParseService(name); err == nil {
			out = append(out, service)
		}
	}
	return out
}
