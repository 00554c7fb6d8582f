package main

import (
	"slices"
	"strings"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// maxTopology bounds an exported topology, in bytes.
const maxTopology = 256 << 20

// checkAgainst checks a program against an exported topology: its structure, then its
// targets, orders and limits.
func checkAgainst(src source, path string) (*sluicev1.CheckPlanResponse, error) {
	export, err := readTopology(path)
	if err != nil {
		return nil, err
	}
	env := environment(export, src.program)
	if faults := isa.Validate(src.program, env); len(faults) > 0 {
		src.places.Place(faults)
		return offline(faults, export.Epoch), nil
	}
	expanded, faults := isa.Expand(src.program, env)
	if len(faults) == 0 {
		faults = isa.ValidateExpanded(expanded, env)
	}
	answer := offline(faults, export.Epoch)
	if len(faults) == 0 {
		answer.Expanded = string(isa.FormatText(expanded))
	}
	return answer, nil
}

// readTopology reads a graph whose names programs can name.
func readTopology(path string) (graphView, error) {
	export, err := readGraph(path)
	if err != nil {
		return export, err
	}
	for _, service := range export.Services {
		if _, err := mesh.ParseService(service.Name); err != nil {
			return export, usage("--topology %s: %w", path, err)
		}
	}
	return export, nil
}

// environment is what the static checks need to know of the exported mesh.
func environment(export graphView, p isa.Program) *isa.Env {
	graph := topology.NewGraph()
	world := worldOf(export)
	graph.Register(world)
	snapshot := graph.Snapshot(time.Time{})
	group := snapshot.Planned(restarted(p))
	env := &isa.Env{
		GraphSize: len(world.Services), RestartSet: group.RestartSet, DrainOrder: group.DrainOrder,
		RestartOrder: group.RestartOrder, RestoreOrder: group.RestoreOrder,
	}
	rates := map[mesh.Service]float64{}
	for _, service := range export.Services {
		rates[mesh.Service(service.Name)] = service.Rate
	}
	for i := range world.Services {
		state := world.Services[i]
		env.Services = append(env.Services, isa.ServiceFacts{
			ServiceState: state, FanIn: snapshot.FanIn(state.Name), Callers: snapshot.Callers(state.Name),
			Component: snapshot.Component(state.Name), StickyCallers: snapshot.StickyCallers(state.Name),
			Rate: rates[state.Name], Takes: snapshot.FanIn(state.Name) > 0,
		})
	}
	return env
}

// restarted lists the services that a program restarts by name.
func restarted(p isa.Program) []mesh.Service {
	var out []mesh.Service
	for _, step := range p.Steps {
		if restart, ok := step.Action.(isa.Restart); ok {
			if len(restart.Target.Group) > 0 {
				out = append(out, restart.Target.Group...)
			} else {
				out = append(out, restart.Target.Service)
			}
		}
	}
	return out
}

// worldOf rebuilds the registry; edges become declared upstreams and gateways.
func worldOf(export graphView) *mesh.World {
	world := &mesh.World{}
	for _, service := range export.Services {
		state := mesh.ServiceState{
			Name: mesh.Service(service.Name), Protocol: mesh.Protocol(service.Protocol), Replicas: len(service.Instances),
		}
		for _, i := range service.Instances {
			state.Instances = append(state.Instances, mesh.Instance{
				Ref:  mesh.Ref{Service: state.Name, UID: mesh.UID(i.UID), Incarnation: i.Incarnation},
				Name: i.Name, State: mesh.InstanceState(i.State), Proxy: i.Proxy,
			})
		}
		world.Services = append(world.Services, state)
	}
	slices.SortFunc(world.Services, func(a, b mesh.ServiceState) int {
		return strings.Compare(string(a.Name), string(b.Name))
	})
	for _, edge := range export.Edges {
		callee := mesh.Service(edge.Callee)
		if caller := world.Find(mesh.Service(edge.Caller)); caller != nil {
			caller.Upstreams = append(caller.Upstreams, mesh.Upstream{Service: callee, Sticky: edge.Sticky})
		} else {
			world.Gateways = append(world.Gateways, mesh.Gateway{Name: mesh.Service(edge.Caller), Service: callee})
		}
	}
	return world
}
