package main

import (
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// groupOfFile answers `sluice groups --topology`.
func (a *app) groupOfFile(flags groupFlags, target string) error {
	question, err := flags.question(target)
	if err != nil {
		return err
	}
	graph, err := readGraph(flags.topology)
	if err != nil {
		return err
	}
	service, err := graph.find(flags, target)
	if err != nil {
		return err
	}
	snapshot, err := graph.snapshot()
	if err != nil {
		return usage("--topology %s: %w", flags.topology, err)
	}
	var group topology.Group
	switch {
	case flags.planned:
		group = snapshot.Planned([]mesh.Service{service})
	case graph.Recording == nil:
		fmt.Fprintf(a.err, "sluice: %s has no recording of calls: all that %s reaches is taken for part of its group\n",
			flags.topology, service)
		group = snapshot.Group(topology.Symptom{Service: service, Onset: snapshot.At(), Others: snapshot.Services()})
	default:
		symptom := topology.Symptom{Service: service, Window: flags.window, MostMissed: flags.missed}
		if question.GetOnset() != nil {
			symptom.Onset = question.GetOnset().AsTime()
		}
		group = groupAt(snapshot, symptom)
	}
	view := graph.group(a.header("groups"), &group)
	return a.print(view, func(w io.Writer) { groupTable(w, &view) })
}

// groupAt asks for the group of a symptom; other services that got worse at its onset
// are symptoms too. Without an onset the last window is compared with the one before.
func groupAt(snapshot *topology.Snapshot, symptom topology.Symptom) topology.Group {
	if symptom.Window == 0 {
		symptom.Window = topology.DefaultWindow
	}
	if symptom.Onset.IsZero() {
		symptom.Onset = snapshot.At().Add(-symptom.Window).Truncate(time.Second)
	}
	symptom.Others = snapshot.Shifted(symptom.Onset, symptom.Window)
	return snapshot.Group(symptom)
}

// find returns the service that target means: as written in the file, else as on a
// live mesh.
func (v *graphView) find(flags groupFlags, target string) (mesh.Service, error) {
	names := v.names()
	if flags.namespace == "" && slices.Contains(names, mesh.Service(target)) {
		return mesh.Service(target), nil
	}
	service, err := flags.service(target)
	if err == nil && slices.Contains(names, mesh.Service(service)) {
		return mesh.Service(service), nil
	}
	return "", usage("no service %s in %s; `sluice topology --topology %s` lists those of the file",
		target, flags.topology, flags.topology)
}

// group returns g as JSON has it, the figures of edges being those of the file: the
// recording holds only the last calls.
func (v *graphView) group(h header, g *topology.Group) groupView {
	known := make(map[[2]string]*edgeView, len(v.Edges))
	for i := range v.Edges {
		known[[2]string{v.Edges[i].Caller, v.Edges[i].Callee}] = &v.Edges[i]
	}
	view := groupView{
		header: h, Symptom: null(string(g.Symptom)), Epoch: g.Epoch, Suspects: []suspectView{}, Members: []memberView{},
		RestartSet: texts(g.RestartSet), DrainOrder: texts(g.DrainOrder), RestartOrder: texts(g.RestartOrder),
		RestoreOrder: texts(g.RestoreOrder), DrainRequired: texts(g.DrainRequired), FanIn: int32(g.FanIn),
		BlastRadius: texts(g.BlastRadius), Missed: &missedView{g.Missed.Upper95, g.Missed.N, g.Missed.Method},
	}
	for _, s := range g.Suspects {
		suspect := suspectView{
			string(s.Service), null(s.Instance), string(s.Level), round(s.Score), null(s.Version), null(s.Zone), s.Reason,
		}
		view.Suspects = append(view.Suspects, suspect)
	}
	for _, m := range g.Members {
		member := memberView{Service: string(m.Service), Level: string(m.Level), Why: []edgeView{}}
		for i := range m.Why {
			edge := edgeOf(&m.Why[i])
			if file := known[[2]string{edge.Caller, edge.Callee}]; file != nil {
				edge = *file
			}
			member.Why = append(member.Why, edge)
		}
		view.Members = append(view.Members, member)
	}
	if len(g.RestartSet) > topology.MaxGroupSize {
		view.Verdict = null(verdictText("hold", "group-too-large"))
	}
	return view
}
