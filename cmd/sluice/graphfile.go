package main

import (
	"encoding/json"
	"os"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// readGraph reads a file of `sluice topology export` or `import`. Names are taken as
// written; whoever composes programs checks them, see readTopology.
func readGraph(path string) (graphView, error) {
	var view graphView
	stat, err := os.Stat(path)
	if err != nil {
		return view, usage("--topology: %w", err)
	}
	if stat.Size() > maxTopology {
		return view, usage("--topology %s: larger than %d bytes", path, maxTopology)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return view, usage("--topology: %w", err)
	}
	if err := json.Unmarshal(data, &view); err != nil {
		return view, usage("--topology %s: %w; want a file of `sluice topology export` or `import`", path, err)
	}
	if view.Schema != "sluice.topology/1" {
		return view, usage("--topology %s: schema %q, want sluice.topology/1 as `sluice topology export` writes it", path, view.Schema)
	}
	return view, nil
}

// snapshot rebuilds the graph of a file, with what it recorded.
func (v *graphView) snapshot() (*topology.Snapshot, error) {
	graph := topology.NewGraph()
	graph.RegisterNames(v.names())
	if err := v.Recording.replay(graph.Observe); err != nil {
		return nil, err
	}
	for i := range v.Edges {
		v.Edges[i].restore(graph)
	}
	return graph.Snapshot(v.time()), nil
}

// names lists all services and gateways of a file.
func (v *graphView) names() []mesh.Service {
	var names []mesh.Service
	for i := range v.Services {
		names = append(names, mesh.Service(v.Services[i].Name))
	}
	for i := range v.Edges {
		names = append(names, mesh.Service(v.Edges[i].Caller), mesh.Service(v.Edges[i].Callee))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// time is the moment of the file, the zero time if it names none.
func (v *graphView) time() time.Time {
	if v.At == nil {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, *v.At)
	if err != nil {
		return time.Time{}
	}
	return at
}

// restore adds that the edge exists, and its marks.
func (e *edgeView) restore(graph *topology.Graph) {
	caller, callee := mesh.Service(e.Caller), mesh.Service(e.Callee)
	if slices.Contains(e.Sources, "declared") {
		graph.Declare(caller, callee, e.Sticky)
	} else if e.Sticky {
		graph.MarkSticky(caller, callee)
	}
	call := topology.Call{Caller: caller, Callee: callee, Existence: true}
	if e.LastSeen != nil {
		if at, err := time.Parse(time.RFC3339, *e.LastSeen); err == nil {
			call.At = at
		}
	}
	for _, source := range []topology.Source{topology.Span, topology.AccessLog, topology.MeshMetric} {
		if slices.Contains(e.Sources, source.Names()[0]) {
			call.Source = source
			graph.Observe(call)
		}
	}
}

// viewOf returns a snapshot as `sluice topology export` writes it. Rates and latencies
// are those of the last minute before the end; without times there are none.
func viewOf(h header, s *topology.Snapshot, timed bool) graphView {
	view := graphView{header: h, Epoch: s.Epoch(), Services: []serviceView{}, Edges: []edgeView{}}
	at := s.At()
	if timed && !at.IsZero() {
		view.At = null(at.UTC().Format(time.RFC3339Nano))
	}
	for _, name := range s.Services() {
		tick := topology.Tick{}
		if timed {
			tick = s.Series().Window(name, at.Add(-time.Minute), at.Add(time.Second))
		}
		service := serviceView{
			Name: string(name), Protocol: "http", Health: "unknown", Rate: round(float64(tick.Requests) / time.Minute.Seconds()),
			P99: positive(tick.P99().Seconds()), FanIn: int32(s.FanIn(name)),
			BlastRadius: int32(len(s.Blast([]mesh.Service{name}))), Component: int32(s.ComponentNumber(name)), Instances: []instanceView{},
		}
		if tick.Requests > 0 {
			errors := round(tick.ErrorShare())
			service.ErrorShare = &errors
		}
		view.Services = append(view.Services, service)
	}
	for _, e := range s.Edges() {
		edge := edgeOf(&e)
		if !timed {
			edge.P99, edge.LastSeen = nil, nil
		}
		view.Edges = append(view.Edges, edge)
	}
	return view
}

// edgeOf returns an edge as the API would.
func edgeOf(e *topology.Edge) edgeView {
	view := edgeView{
		Caller: string(e.Caller), Callee: string(e.Callee), Sources: e.Sources.Names(), Calls: e.Calls, Errors: e.Errors,
		P99: positive(e.P99.Seconds()), Sticky: e.Sticky,
	}
	if !e.Last.IsZero() {
		view.LastSeen = null(e.Last.UTC().Format(time.RFC3339Nano))
	}
	return view
}
