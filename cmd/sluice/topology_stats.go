package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
)

// live is the name of the daemon's graph in `sluice topology diff`.
const live = "live"

// statsView is the JSON of `sluice topology stats`.
type statsView struct {
	header
	Epoch      string         `json:"epoch"`
	Services   int            `json:"services"`
	Edges      int            `json:"edges"`
	Calls      uint64         `json:"calls"`
	Errors     uint64         `json:"errors"`
	Sticky     int            `json:"sticky"`
	Sources    map[string]int `json:"sources"`    // edges by kind of evidence
	Components []int          `json:"components"` // sizes above 1, largest first
	Up         spreadView     `json:"up"`         // transitive callers of a service: its blast radius
	Down       spreadView     `json:"down"`       // transitive callees
	FanIn      spreadView     `json:"fan_in"`
	FanOut     spreadView     `json:"fan_out"`
}

// spreadView is how a count is spread over the services.
type spreadView struct {
	Median  int    `json:"median"`
	P99     int    `json:"p99"`
	Max     int    `json:"max"`
	Service string `json:"service"` // one that has Max
}

func (a *app) statsCommand(file *string) *cobra.Command {
	return &cobra.Command{
		Use: "stats", Short: "Count services, edges, components, blast radii and fan-in of the call graph", Args: cobra.NoArgs,
		Example: "  sluice topology stats\n  sluice topology stats --topology mesh.json -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			graph, err := a.graphOf(c.Context(), *file)
			if err != nil {
				return err
			}
			view, err := newStatsView(a.header("topology-stats"), &graph)
			if err != nil {
				return usage("%w", err)
			}
			return a.print(view, func(w io.Writer) { statsTable(w, view) })
		},
	}
}

// graphOf reads the graph of a file, or asks the daemon for it if path is "" or live.
func (a *app) graphOf(ctx context.Context, path string) (graphView, error) {
	if path != "" && path != live {
		return readGraph(path)
	}
	graph, err := a.graph(ctx)
	if err != nil {
		return graphView{}, err
	}
	return newGraphView(a.header("topology"), graph), nil
}

func newStatsView(h header, graph *graphView) (statsView, error) {
	v := statsView{header: h, Epoch: graph.Epoch, Services: len(graph.Services), Edges: len(graph.Edges), Sources: map[string]int{}}
	snapshot, err := graph.snapshot()
	if err != nil {
		return v, err
	}
	for _, e := range graph.Edges {
		v.Calls += e.Calls
		v.Errors += e.Errors
		if e.Sticky {
			v.Sticky++
		}
		for _, source := range e.Sources {
			v.Sources[source]++
		}
	}
	v.Components = []int{}
	for _, name := range snapshot.Services() {
		if peers := snapshot.Component(name); len(peers) > 1 && peers[0] == name {
			v.Components = append(v.Components, len(peers))
		}
	}
	slices.SortFunc(v.Components, func(a, b int) int { return cmp.Compare(b, a) })
	v.Up = spread(snapshot, func(s mesh.Service) int { return len(snapshot.Blast([]mesh.Service{s})) })
	v.Down = spread(snapshot, func(s mesh.Service) int { return len(below(snapshot, s)) - 1 })
	v.FanIn = spread(snapshot, snapshot.FanIn)
	v.FanOut = spread(snapshot, func(s mesh.Service) int { return len(snapshot.Callees(s)) })
	return v, nil
}

// below returns all that service reaches by calls, itself included.
func below(snapshot *topology.Snapshot, service mesh.Service) map[mesh.Service]bool {
	seen, queue := map[mesh.Service]bool{service: true}, []mesh.Service{service}
	for at := 0; at < len(queue); at++ {
		for _, callee := range snapshot.Callees(queue[at]) {
			if !seen[callee] {
				seen[callee] = true
				queue = append(queue, callee)
			}
		}
	}
	return seen
}

// spread counts at each service.
func spread(snapshot *topology.Snapshot, count func(mesh.Service) int) spreadView {
	v := spreadView{}
	var counts []int
	for _, name := range snapshot.Services() {
		n := count(name)
		counts = append(counts, n)
		if n > v.Max || v.Service == "" {
			v.Max, v.Service = n, string(name)
		}
	}
	if len(counts) > 0 {
		slices.Sort(counts)
		v.Median, v.P99 = counts[(len(counts)-1)/2], counts[(len(counts)-1)*99/100]
	}
	return v
}

func statsTable(w io.Writer, v statsView) {
	fmt.Fprintf(w, "epoch %s, %d services, %d edges, %d calls, %d errors\n\n",
		shortEpoch(v.Epoch), v.Services, v.Edges, v.Calls, v.Errors)
	table(w, func(w io.Writer) {
		row(w, "", "MEDIAN", "P99", "MAX", "AT")
		for _, line := range []struct {
			name string
			spreadView
		}{
			{"Blast radius (transitive callers)", v.Up}, {"Transitive callees", v.Down}, {"Fan-in", v.FanIn}, {"Fan-out", v.FanOut},
		} {
			row(w, line.name, fmt.Sprint(line.Median), fmt.Sprint(line.P99), fmt.Sprint(line.Max), dash(line.Service))
		}
	})
	sizes := make([]string, 0, len(v.Components))
	for _, n := range v.Components {
		sizes = append(sizes, fmt.Sprint(n))
	}
	fmt.Fprintf(w, "\nComponents of more than one service: %s; sticky edges: %d\n", orNone(sizes), v.Sticky)
}

// diffView is the JSON of `sluice topology diff`.
type diffView struct {
	header
	Epochs   [2]string         `json:"epochs"`
	Same     bool              `json:"same"`
	Services changes[string]   `json:"services"`
	Edges    changes[pairView] `json:"edges"`
	Sticky   changes[pairView] `json:"sticky"`
}

// pairView names an edge.
type pairView struct {
	Caller string `json:"caller"`
	Callee string `json:"callee"`
}

// String implements fmt.Stringer.
func (p pairView) String() string { return p.Caller + " -> " + p.Callee }

// changes lists what only the second graph has, and what only the first.
type changes[T comparable] struct {
	Added   []T `json:"added"`
	Removed []T `json:"removed"`
}

func (a *app) diffCommand() *cobra.Command {
	return &cobra.Command{
		Use: "diff A B", Short: "Compare the shape of two call graphs", Args: cobra.ExactArgs(2),
		Long: `Compare services, edges and sticky edges of A and B, each a file of ` + "`sluice topology export`" + ` or
` + "`import`" + `, or the word "live" for the graph of the control plane. Rates are not compared.`,
		Example: "  sluice topology diff yesterday.json live\n  sluice topology diff a.json b.json -o json",
		RunE: func(c *cobra.Command, args []string) error {
			var graphs [2]graphView
			for i, name := range args {
				graph, err := a.graphOf(c.Context(), name)
				if err != nil {
					return err
				}
				graphs[i] = graph
			}
			view := newDiffView(a.header("topology-diff"), &graphs[0], &graphs[1])
			return a.print(view, func(w io.Writer) { diffTable(w, view) })
		},
	}
}

func newDiffView(h header, a, b *graphView) diffView {
	v := diffView{header: h, Epochs: [2]string{a.Epoch, b.Epoch}}
	v.Services = compare(texts(a.names()), texts(b.names()))
	v.Edges = compare(a.pairs(false), b.pairs(false))
	v.Sticky = compare(a.pairs(true), b.pairs(true))
	v.Same = v.Services.none() && v.Edges.none() && v.Sticky.none()
	return v
}

// pairs lists the edges, or the sticky ones only, in the file's order.
func (v *graphView) pairs(sticky bool) []pairView {
	var pairs []pairView
	for _, e := range v.Edges {
		if e.Sticky || !sticky {
			pairs = append(pairs, pairView{e.Caller, e.Callee})
		}
	}
	return pairs
}

// compare lists the differences of two lists, each in its own order.
func compare[T comparable](a, b []T) changes[T] {
	return changes[T]{Added: without(b, a), Removed: without(a, b)}
}

// without lists what of a is not in b.
func without[T comparable](a, b []T) []T {
	known := make(map[T]bool, len(b))
	for _, item := range b {
		known[item] = true
	}
	rest := []T{}
	for _, item := range a {
		if !known[item] {
			rest = append(rest, item)
		}
	}
	return rest
}

func (c changes[T]) none() bool { return len(c.Added)+len(c.Removed) == 0 }

// table writes one line a change.
func (c changes[T]) table(w io.Writer, what string) {
	for _, item := range c.Removed {
		fmt.Fprintf(w, "- %s %v\n", what, item)
	}
	for _, item := range c.Added {
		fmt.Fprintf(w, "+ %s %v\n", what, item)
	}
}

func texts(names []mesh.Service) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		out = append(out, string(name))
	}
	return out
}

func diffTable(w io.Writer, v diffView) {
	if v.Same {
		fmt.Fprintln(w, "same shape")
		return
	}
	v.Services.table(w, "service")
	v.Edges.table(w, "edge")
	v.Sticky.table(w, "sticky")
	fmt.Fprintf(w, "%s -> %s\n", shortEpoch(v.Epochs[0]), shortEpoch(v.Epochs[1]))
}
