package server

import (
	"fmt"
	"net/netip"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// rateWindow is the time over which services state rate, errors and latency.
const rateWindow = 10 * time.Second

// Snapshots hands out the present call graph.
type Snapshots interface {
	Snapshot() *topology.Snapshot
}

// Evidence implements Topology over a call graph and the registry.
type Evidence struct {
	Snapshots Snapshots
	Registry  Registry
	Symptoms  Symptoms              // nil: none are known
	Overlays  func() []mesh.Overlay // in force, nil: none are known

	// MostMissed is the greatest bound on missed edges with which evidence may choose among
	// the edges of a symptom's group, 0 = any (topology.Symptom).
	MostMissed float64
}

// Graph implements Topology.
func (e *Evidence) Graph() *sluicev1.GetTopologyResponse {
	snapshot, world := e.Snapshots.Snapshot(), e.Registry.World()
	sick, drained := map[mesh.Service]bool{}, map[mesh.Service]bool{}
	for _, symptom := range e.symptoms() {
		sick[symptom.Service] = true
	}
	if e.Overlays != nil {
		for _, overlay := range e.Overlays() {
			if overlay.Drain != nil {
				drained[overlay.Key.Callee] = true
			}
		}
	}
	answer := &sluicev1.GetTopologyResponse{Epoch: snapshot.Epoch(), At: timeOut(snapshot.At())}
	for i := range world.Services {
		state := &world.Services[i]
		out := serviceOut(snapshot, state)
		out.Drained = drained[state.Name]
		out.Health = health(sick[state.Name], state.Objective.Set() && out.GetRate() > 0)
		answer.Services = append(answer.Services, out)
	}
	for _, edge := range snapshot.Edges() {
		answer.Edges = append(answer.Edges, edgeOut(edge))
	}
	return answer
}

func (e *Evidence) symptoms() []Symptom {
	if e.Symptoms == nil {
		return nil
	}
	return e.Symptoms.Symptoms()
}

func health(sick, judged bool) string {
	switch {
	case sick:
		return "symptom"
	case judged:
		return "healthy"
	}
	return "unknown"
}

func serviceOut(snapshot *topology.Snapshot, state *mesh.ServiceState) *sluicev1.Service {
	from, to := snapshot.At().Add(-rateWindow), snapshot.At()
	window := snapshot.Series().Window(state.Name, from, to)
	out := &sluicev1.Service{
		Name: string(state.Name), Protocol: string(state.Protocol),
		Rate: float64(window.Requests) / rateWindow.Seconds(), ErrorShare: window.ErrorShare(),
		P99Seconds: window.P99().Seconds(), FanIn: int32(snapshot.FanIn(state.Name)),
		BlastRadius: int32(len(snapshot.Blast([]mesh.Service{state.Name}))),
		Component:   int32(snapshot.ComponentNumber(state.Name)),

		ObjectiveP99Seconds: state.Objective.P99.Seconds(), ObjectiveErrors: state.Objective.Errors,
	}
	for i := range state.Instances {
		instance := &state.Instances[i]
		out.Instances = append(out.Instances, &sluicev1.Instance{
			Name: instance.Name, Uid: string(instance.UID), Incarnation: instance.Incarnation,
			State: string(instance.State), Address: addressOut(instance.App), Inbound: addressOut(instance.Inbound),
			Proxy: instance.Proxy,
		})
	}
	return out
}

func addressOut(address netip.AddrPort) string {
	if !address.IsValid() {
		return ""
	}
	return address.String()
}

func edgeOut(edge topology.Edge) *sluicev1.Edge {
	return &sluicev1.Edge{
		Caller: string(edge.Caller), Callee: string(edge.Callee), Calls: edge.Calls, Errors: edge.Errors,
		P99Seconds: edge.P99.Seconds(), Sources: edge.Sources.Names(), Sticky: edge.Sticky,
		FirstSeen: timeOut(edge.First), LastSeen: timeOut(edge.Last),
	}
}

// Group implements Topology.
func (e *Evidence) Group(question *sluicev1.GetGroupRequest) (*sluicev1.GetGroupResponse, error) {
	service := mesh.Service(question.GetService())
	if e.Registry.World().Find(service) == nil {
		return nil, fmt.Errorf("%w %s: see `sluice topology`", ErrUnknownService, service)
	}
	snapshot := e.Snapshots.Snapshot()
	if question.GetPlanned() {
		return groupOut(snapshot.Planned([]mesh.Service{service})), nil
	}
	symptom, err := e.symptom(service, question)
	if err != nil {
		return nil, err
	}
	return groupOut(snapshot.Group(symptom)), nil
}

// symptom is the present symptom of service, or the one that the question describes.
func (e *Evidence) symptom(service mesh.Service, question *sluicev1.GetGroupRequest) (topology.Symptom, error) {
	symptom := topology.Symptom{Service: service, Window: question.GetWindow().AsDuration(), MostMissed: e.MostMissed}
	for _, present := range e.symptoms() {
		if present.Service == service {
			symptom.Onset = present.Onset
		} else {
			symptom.Others = append(symptom.Others, present.Service)
		}
	}
	if onset := question.GetOnset(); onset != nil {
		symptom.Onset = onset.AsTime()
	}
	if symptom.Onset.IsZero() {
		return symptom, fmt.Errorf("%s has no symptom now: give its onset, or ask for the group of a planned restart",
			service)
	}
	return symptom, nil
}

func groupOut(group topology.Group) *sluicev1.GetGroupResponse {
	out := &sluicev1.GetGroupResponse{
		Symptom: string(group.Symptom), Epoch: group.Epoch, RestartSet: servicesOut(group.RestartSet),
		DrainOrder: servicesOut(group.DrainOrder), RestartOrder: servicesOut(group.RestartOrder),
		RestoreOrder: servicesOut(group.RestoreOrder), DrainRequired: servicesOut(group.DrainRequired),
		FanIn: int32(group.FanIn), BlastRadius: servicesOut(group.BlastRadius),
		Missed: &sluicev1.Missed{Upper95: group.Missed.Upper95, N: group.Missed.N, Method: group.Missed.Method},
	}
	for _, suspect := range group.Suspects {
		out.Suspects = append(out.Suspects, &sluicev1.Suspect{
			Service: string(suspect.Service), Instance: suspect.Instance, Level: string(suspect.Level),
			Score: suspect.Score, Reason: suspect.Reason, Version: suspect.Version, Zone: suspect.Zone,
		})
	}
	for _, member := range group.Members {
		service := &sluicev1.Member{Service: string(member.Service), Level: string(member.Level)}
		for _, edge := range member.Why {
			service.Why = append(service.Why, edgeOut(edge))
		}
		out.Members = append(out.Members, service)
	}
	return out
}
