package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// graphView is the JSON of `sluice topology` and of its export, which `plan check
// --topology` reads.
type graphView struct {
	header
	Epoch     string         `json:"epoch"`
	At        *string        `json:"at"`
	Services  []serviceView  `json:"services"`
	Edges     []edgeView     `json:"edges"`
	Recording *recordingView `json:"recording,omitempty"`
}

type serviceView struct {
	Name        string         `json:"name"`
	Protocol    string         `json:"protocol"`
	Health      string         `json:"health"`
	Rate        float64        `json:"rate"`
	ErrorShare  *float64       `json:"error_share"`
	P99         *float64       `json:"p99_s"`
	FanIn       int32          `json:"fan_in"`
	BlastRadius int32          `json:"blast_radius"`
	Component   int32          `json:"component"`
	Drained     bool           `json:"drained"`
	Objective   objectiveView  `json:"objective"`
	Instances   []instanceView `json:"instances"`
}

type objectiveView struct {
	P99    *float64 `json:"p99_s"`
	Errors *float64 `json:"errors"`
}

type instanceView struct {
	Name        string `json:"name"`
	UID         string `json:"uid"`
	Incarnation uint64 `json:"incarnation"`
	State       string `json:"state"`
	Address     string `json:"address"`
	Inbound     string `json:"inbound"`
	Proxy       string `json:"proxy"`
}

type edgeView struct {
	Caller   string   `json:"caller"`
	Callee   string   `json:"callee"`
	Sources  []string `json:"sources"`
	Calls    uint64   `json:"calls"`
	Errors   uint64   `json:"errors"`
	P99      *float64 `json:"p99_s"`
	Sticky   bool     `json:"sticky"`
	LastSeen *string  `json:"last_seen"`
}

func newGraphView(h header, g *sluicev1.GetTopologyResponse) graphView {
	view := graphView{header: h, Epoch: g.GetEpoch(), At: stamp(g.GetAt()), Services: []serviceView{}, Edges: []edgeView{}}
	for _, s := range g.GetServices() {
		service := serviceView{
			Name: s.GetName(), Protocol: s.GetProtocol(), Health: s.GetHealth(), Rate: round(s.GetRate()),
			FanIn: s.GetFanIn(), BlastRadius: s.GetBlastRadius(), Component: s.GetComponent(), Drained: s.GetDrained(),
			Objective: objectiveView{positive(s.GetObjectiveP99Seconds()), positive(s.GetObjectiveErrors())},
			P99:       positive(s.GetP99Seconds()), Instances: []instanceView{},
		}
		if s.GetRate() > 0 {
			share := round(s.GetErrorShare())
			service.ErrorShare = &share
		}
		for _, i := range s.GetInstances() {
			service.Instances = append(service.Instances, instanceView{
				i.GetName(), i.GetUid(), i.GetIncarnation(), i.GetState(), i.GetAddress(), i.GetInbound(), i.GetProxy(),
			})
		}
		view.Services = append(view.Services, service)
	}
	for _, e := range g.GetEdges() {
		view.Edges = append(view.Edges, newEdgeView(e))
	}
	return view
}

func newEdgeView(e *sluicev1.Edge) edgeView {
	return edgeView{
		Caller: e.GetCaller(), Callee: e.GetCallee(), Sources: list(e.GetSources()), Calls: e.GetCalls(),
		Errors: e.GetErrors(), P99: positive(e.GetP99Seconds()), Sticky: e.GetSticky(), LastSeen: stamp(e.GetLastSeen()),
	}
}

func (a *app) topologyCommand() *cobra.Command {
	file := ""
	show := &cobra.Command{
		Use: "topology", Short: "Show the call graph with rates, errors and latency", Args: cobra.NoArgs,
		Long: `Show the call graph of the control plane, or with --topology that of a file which
` + "`sluice topology export`" + ` or ` + "`import`" + ` wrote.`,
		Example: `  sluice topology
  sluice topology export --format dot | dot -Tsvg > mesh.svg
  sluice topology import --format zipkin traces.json --out mesh.json
  sluice topology stats --topology mesh.json`,
		RunE: func(c *cobra.Command, _ []string) error {
			view, err := a.graphOf(c.Context(), file)
			if err != nil {
				return err
			}
			return a.print(view, func(w io.Writer) { graphTable(w, &view) })
		},
	}
	show.PersistentFlags().StringVar(&file, "topology", "", "graph of this `FILE` instead of the control plane's")
	show.AddCommand(a.exportCommand(&file), a.importCommand(), a.statsCommand(&file), a.diffCommand())
	return show
}

func (a *app) exportCommand(file *string) *cobra.Command {
	format := "json"
	export := &cobra.Command{
		Use: "export", Short: "Write the call graph as JSON or Graphviz dot", Args: cobra.NoArgs,
		Example: `  sluice topology export > mesh.json
  sluice topology export --format dot | dot -Tsvg > mesh.svg
  sluice topology export --topology mesh.json --format dot`,
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "json" && format != "dot" {
				return usage("--format %q: want json or dot", format)
			}
			view, err := a.graphOf(c.Context(), *file)
			if err != nil {
				return err
			}
			if format == "dot" {
				_, err := io.WriteString(a.out, dot(&view))
				return err
			}
			a.output = "json"
			return a.print(view, nil)
		},
	}
	export.Flags().StringVar(&format, "format", format, "json or dot")
	return export
}

// graph asks for the topology.
func (a *app) graph(ctx context.Context) (*sluicev1.GetTopologyResponse, error) {
	api, server, err := a.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := a.within(ctx, callTimeout)
	defer cancel()
	answer, err := api.GetTopology(ctx, connect.NewRequest(&sluicev1.GetTopologyRequest{}))
	if err != nil {
		return nil, apiError(server, err)
	}
	return answer.Msg, nil
}

func graphTable(w io.Writer, g *graphView) {
	fmt.Fprintf(w, "epoch %s, %d services, %d edges\n\n", shortEpoch(g.Epoch), len(g.Services), len(g.Edges))
	calls, sticky := map[string][]string{}, false
	for _, e := range g.Edges {
		callee := e.Callee
		if e.Sticky {
			callee, sticky = callee+"*", true
		}
		calls[e.Caller] = append(calls[e.Caller], callee)
	}
	table(w, func(w io.Writer) {
		row(w, "SERVICE", "HEALTH", "READY", "RATE", "ERRORS", "P99", "FAN-IN", "BLAST", "TRAFFIC", "CALLS")
		for i := range g.Services {
			s := &g.Services[i]
			traffic := "in service"
			if s.Drained {
				traffic = "DRAINED"
			}
			row(w, s.Name, dash(s.Health), s.ready(), fmt.Sprintf("%.1f/s", s.Rate), percent(number(s.ErrorShare)),
				millis(number(s.P99)), fmt.Sprint(s.FanIn), fmt.Sprint(s.BlastRadius), traffic, dash(strings.Join(calls[s.Name], " ")))
		}
	})
	if sticky {
		fmt.Fprintln(w, "\n* sticky: the caller does not survive a restart of this callee")
	}
}

// number is 0 for what is not known.
func number(value *float64) float64 {
	if value == nil {
		return 0
	}
	return *value
}

func (s *serviceView) ready() string {
	n := 0
	for _, i := range s.Instances {
		if i.State == "ready" {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(s.Instances))
}

// dot draws the graph for Graphviz.
func dot(g *graphView) string {
	var b strings.Builder
	b.WriteString("digraph mesh {\n  rankdir=LR; node [shape=box, style=rounded, fontname=\"sans-serif\"];\n")
	for _, s := range g.Services {
		attributes := ""
		switch {
		case s.Drained:
			attributes = ` [style="rounded,dashed"]`
		case s.Health == "symptom":
			attributes = ` [color="#c0392b", penwidth=2]`
		}
		fmt.Fprintf(&b, "  %q%s;\n", s.Name, attributes)
	}
	for _, e := range g.Edges {
		style := ""
		if e.Sticky {
			style = ", style=bold"
		}
		fmt.Fprintf(&b, "  %q -> %q [label=\"%d\"%s];\n", e.Caller, e.Callee, e.Calls, style)
	}
	b.WriteString("}\n")
	return b.String()
}

// targetFlag is the -n flag of commands that take a TARGET.
type targetFlag struct{ namespace string }

func (t *targetFlag) add(c *cobra.Command) {
	c.Flags().StringVarP(&t.namespace, "namespace", "n", "", "namespace of a TARGET that is written KIND/NAME or NAME")
}

// service resolves NAMESPACE/NAME, or KIND/NAME and NAME with -n.
func (t *targetFlag) service(target string) (string, error) {
	if t.namespace == "" {
		if kind, _, _ := strings.Cut(target, "/"); slices.Contains(kinds(), kind) {
			return "", usage("TARGET %q: name the namespace with -n, or write NAMESPACE/NAME", target)
		}
		return checkedService(target)
	}
	kind, name, found := strings.Cut(target, "/")
	if !found {
		return checkedService(t.namespace + "/" + target)
	}
	if !slices.Contains(kinds(), kind) {
		return "", usage("TARGET %q with -n: kind %q is none of %s", target, kind, strings.Join(kinds(), ", "))
	}
	return checkedService(t.namespace + "/" + name)
}

// kinds are the workload kinds that KIND/NAME may name.
func kinds() []string {
	return []string{
		"deploy", "deployment", "deployments", "sts", "statefulset", "statefulsets", "ds", "daemonset",
		"svc", "service", "services",
	}
}
