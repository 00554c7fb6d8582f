package main

import (
	"slices"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// result is what was inferred of one case, beside its label.
type result struct {
	ID         string   `json:"id"`
	App        string   `json:"app"`
	Fault      string   `json:"fault"`
	Root       string   `json:"root"`
	Shown      bool     `json:"shown"`
	Symptom    string   `json:"symptom"`
	RestartSet []string `json:"restart_set"`
	Members    []string `json:"members"`
	Rank       *int     `json:"rank"` // of root among the suspects, from 1; null: not among them
	Suspects   []string `json:"suspects"`
	Services   int      `json:"services"` // of the application
	Reachable  []string `json:"reachable"`
	Why        *string  `json:"why"` // the culprit is not in the restart set; null: it is
}

// Why a culprit was not found.
const (
	whyAbsent    = "no call of the culprit is in the recording"
	whyNoise     = "the culprit's calls did not get worse beyond noise (two standard errors of the mean)"
	whyUnreached = "the culprit's calls got worse, but no chain of worse calls leads from the symptom to it"
	whyOutranked = "another service ranked before the culprit"
)

// infer replays a recording and asks for the group of the symptom at the entry.
func infer(f *fault, r *recording) result {
	graph := topology.NewGraph()
	graph.RegisterNames(r.names)
	for i := range r.calls {
		graph.Observe(r.calls[i])
	}
	snapshot := graph.Snapshot(r.end)
	window := r.end.Sub(r.onset)
	shifted := snapshot.Shifted(r.onset, window)
	symptom := entry(snapshot, r.calls)
	group := snapshot.Group(topology.Symptom{Service: symptom, Onset: r.onset, Window: window, Others: shifted})
	out := result{
		ID: f.ID, App: f.App, Fault: *f.Fault, Root: f.Root, Shown: f.shown(), Symptom: string(symptom),
		RestartSet: text(group.RestartSet), Services: len(snapshot.Services()), Reachable: text(reachable(snapshot, symptom)),
	}
	for _, member := range group.Members {
		out.Members = append(out.Members, string(member.Service))
	}
	for i, suspect := range group.Suspects {
		out.Suspects = append(out.Suspects, string(suspect.Service))
		if string(suspect.Service) == f.Root {
			rank := i + 1
			out.Rank = &rank
		}
	}
	if !slices.Contains(out.RestartSet, f.Root) {
		why := out.miss(slices.Contains(r.names, mesh.Service(f.Root)), slices.Contains(shifted, mesh.Service(f.Root)))
		out.Why = &why
	}
	return out
}

// miss says why the culprit is not in the restart set.
func (r *result) miss(present, shifted bool) string {
	switch {
	case !present:
		return whyAbsent
	case !shifted:
		return whyNoise
	case !slices.Contains(r.Members, r.Root):
		return whyUnreached
	}
	return whyOutranked
}

// entry returns where requests enter the application, which is where its users feel a
// fault: of the services that nobody calls the one that served most.
func entry(snapshot *topology.Snapshot, calls []topology.Call) mesh.Service {
	served := map[mesh.Service]int{}
	for i := range calls {
		if calls[i].Caller == "" {
			served[calls[i].Callee]++
		}
	}
	best := mesh.Service("")
	for _, name := range snapshot.Services() {
		if snapshot.FanIn(name) == 0 && (best == "" || served[name] > served[best]) {
			best = name
		}
	}
	return best
}

// reachable returns all that service reaches by calls, itself included, sorted.
func reachable(snapshot *topology.Snapshot, service mesh.Service) []mesh.Service {
	found := []mesh.Service{service}
	for at := 0; at < len(found); at++ {
		for _, callee := range snapshot.Callees(found[at]) {
			if !slices.Contains(found, callee) {
				found = append(found, callee)
			}
		}
	}
	slices.Sort(found)
	return found
}

func text(services []mesh.Service) []string {
	out := make([]string, 0, len(services))
	for _, name := range services {
		out = append(out, string(name))
	}
	return out
}
