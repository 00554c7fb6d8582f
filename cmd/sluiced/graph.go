package main

import (
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicemesh/sluice/api/server"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/feed"
	xdsserver "github.com/sluicemesh/sluice/xds/server"
)

// rateWindow is the time over which the API states rates, error shares and latency.
const rateWindow = 10 * time.Second

// graph answers the API's questions on the call graph.
type graph struct {
	feed     *feed.Feed
	overlays func() []mesh.Overlay // in force
}

// Graph implements server.Topology.
func (g graph) Graph() *sluicev1.GetTopologyResponse {
	snapshot, world := g.feed.Snapshot(), g.feed.World()
	answer := &sluicev1.GetTopologyResponse{Epoch: snapshot.Epoch(), At: timestamppb.New(snapshot.At())}
	drained := map[mesh.Service]bool{}
	for _, overlay := range g.overlays() {
		if overlay.Drain != nil {
			drained[overlay.Key.Callee] = true
		}
	}
	sick := map[mesh.Service]bool{}
	for _, s := range g.feed.Present() {
		sick[s.Service] = true
	}
	for i := range world.Services {
		state := &world.Services[i]
		row := serviceRow(state, snapshot)
		row.Drained = drained[state.Name]
		if sick[state.Name] {
			row.Health = "symptom"
		}
		answer.Services = append(answer.Services, row)
	}
	for _, edge := range snapshot.Edges() {
		answer.Edges = append(answer.Edges, edgeRow(edge))
	}
	return answer
}

func serviceRow(state *mesh.ServiceState, snapshot *topology.Snapshot) *sluicev1.Service {
	end := snapshot.At().Truncate(time.Second)
	tick := snapshot.Series().Window(state.Name, end.Add(-rateWindow), end)
	row := &sluicev1.Service{
		Name: string(state.Name), Protocol: string(state.Protocol), Health: "unknown",
		Rate: float64(tick.Requests) / rateWindow.Seconds(), ErrorShare: tick.ErrorShare(),
		P99Seconds: tick.P99().Seconds(), FanIn: int32(snapshot.FanIn(state.Name)),
		BlastRadius:         int32(len(snapshot.Blast([]mesh.Service{state.Name}))),
		Component:           int32(snapshot.ComponentNumber(state.Name)),
		ObjectiveP99Seconds: state.Objective.P99.Seconds(), ObjectiveErrors: state.Objective.Errors,
	}
	if tick.Requests > 0 {
		row.Health = "healthy"
	}
	for j := range state.Instances {
		row.Instances = append(row.Instances, instanceRow(&state.Instances[j]))
	}
	return row
}

func instanceRow(i *mesh.Instance) *sluicev1.Instance {
	return &sluicev1.Instance{
		Name: i.Name, Uid: string(i.UID), Incarnation: i.Incarnation, State: string(i.State),
		Address: i.App.String(), Inbound: i.Inbound.String(), Proxy: i.Proxy,
	}
}

func edgeRow(e topology.Edge) *sluicev1.Edge {
	row := &sluicev1.Edge{
		Caller: string(e.Caller), Callee: string(e.Callee), Calls: e.Calls, Errors: e.Errors,
		P99Seconds: e.P99.Seconds(), Sources: e.Sources.Names(), Sticky: e.Sticky,
	}
	if !e.First.IsZero() {
		row.FirstSeen, row.LastSeen = timestamppb.New(e.First), timestamppb.New(e.Last)
	}
	return row
}

// Group implements server.Topology. Without an onset it takes that of the service's
// present symptom; a service that has none is asked about as it is now.
func (g graph) Group(question *sluicev1.GetGroupRequest) (*sluicev1.GetGroupResponse, error) {
	service := mesh.Service(question.GetService())
	if g.feed.World().Find(service) == nil {
		return nil, server.ErrUnknownService
	}
	snapshot := g.feed.Snapshot()
	if question.GetPlanned() {
		return groupRow(service, snapshot.Planned([]mesh.Service{service})), nil
	}
	asked := topology.Symptom{Service: service, Onset: snapshot.At(), Window: question.GetWindow().AsDuration()}
	for _, present := range g.feed.Present() {
		asked.Others = append(asked.Others, present.Service)
		if present.Service == service {
			asked.Onset = present.Onset
		}
	}
	if onset := question.GetOnset(); onset != nil {
		asked.Onset = onset.AsTime()
	}
	return groupRow(service, snapshot.Group(asked)), nil
}

func groupRow(symptom mesh.Service, g topology.Group) *sluicev1.GetGroupResponse {
	answer := &sluicev1.GetGroupResponse{
		Symptom: string(symptom), Epoch: g.Epoch, FanIn: int32(g.FanIn),
		RestartSet: texts(g.RestartSet), DrainOrder: texts(g.DrainOrder), RestartOrder: texts(g.RestartOrder),
		RestoreOrder: texts(g.RestoreOrder), DrainRequired: texts(g.DrainRequired), BlastRadius: texts(g.BlastRadius),
		Missed: &sluicev1.Missed{Upper95: g.Missed.Upper95, N: g.Missed.N, Method: g.Missed.Method},
	}
	for _, s := range g.Suspects {
		answer.Suspects = append(answer.Suspects, &sluicev1.Suspect{
			Service: string(s.Service), Instance: s.Instance, Level: string(s.Level), Score: s.Score, Reason: s.Reason,
		})
	}
	for _, m := range g.Members {
		member := &sluicev1.Member{Service: string(m.Service), Level: string(m.Level)}
		for _, why := range m.Why {
			member.Why = append(member.Why, edgeRow(why))
		}
		answer.Members = append(answer.Members, member)
	}
	return answer
}

func texts(services []mesh.Service) []string {
	list := make([]string, len(services))
	for i, s := range services {
		list[i] = string(s)
	}
	return list
}

// proxies lists the Envoys for the API.
type proxies struct{ server *xdsserver.Server }

// Proxies implements server.Proxies.
func (p proxies) Proxies() []server.Proxy {
	list := p.server.Proxies()
	rows := make([]server.Proxy, len(list))
	for i, status := range list {
		rows[i] = server.Proxy{
			Node: status.Node, Service: status.Service, Connected: !status.Connected.IsZero(),
			Since: status.Connected, EnvoyVersion: status.Envoy, Overlays: status.Overlays,
		}
		for _, t := range status.Types {
			rows[i].Types = append(rows[i].Types, typeRow(t))
		}
	}
	return rows
}

func typeRow(t xdsserver.TypeStatus) server.ProxyType {
	row := server.ProxyType{
		Type: strings.ToLower(t.Type), Sent: number(t.Sent), Acked: number(t.Acked),
		Nack: t.Nack, At: t.AckedAt, Resources: t.Resources,
	}
	if t.NackedAt.After(row.At) {
		row.At = t.NackedAt
	}
	return row
}

// number spells a version, "" for none.
func number(version uint64) string {
	if version == 0 {
		return ""
	}
	return strconv.FormatUint(version, 10)
}
