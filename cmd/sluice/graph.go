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
	Epoch    string        `json:"epoch"`
	At       *string       `json:"at"`
	Services []serviceView `json:"services"`
	Edges    []edgeView    `json:"edges"`
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
	show := &cobra.Command{
		Use: "topology", Short: "Show the call graph with rates, errors and latency", Args: cobra.NoArgs,
		Example: "  sluice topology\n  sluice topology export --format dot | dot -Tsvg > mesh.svg",
		RunE: func(c *cobra.Command, _ []string) error {
			graph, err := a.graph(c.Context())
			if err != nil {
				return err
			}
			return a.print(newGraphView(a.header("topology"), graph), func(w io.Writer) { graphTable(w, graph) })
		},
	}
	format := "json"
	export := &cobra.Command{
		Use: "export", Short: "Write the call graph as JSON or Graphviz dot", Args: cobra.NoArgs,
		Example: "  sluice topology export > mesh.json\n  sluice topology export --format dot | dot -Tsvg > mesh.svg",
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "json" && format != "dot" {
				return usage("--format %q: want json or dot", format)
			}
			graph, err := a.graph(c.Context())
			if err != nil {
				return err
			}
			if format == "dot" {
				_, err := io.WriteString(a.out, dot(graph))
				return err
			}
			a.output = "json"
			return a.print(newGraphView(a.header("topology"), graph), nil)
		},
	}
	export.Flags().StringVar(&format, "format", format, "json or dot")
	show.AddCommand(export)
	return show
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

func graphTable(w io.Writer, g *sluicev1.GetTopologyResponse) {
	fmt.Fprintf(w, "epoch %s, %d services, %d edges\n\n",
		shortEpoch(g.GetEpoch()), len(g.GetServices()), len(g.GetEdges()))
	calls := map[string][]string{}
	for _, e := range g.GetEdges() {
		callee := e.GetCallee()
		if e.GetSticky() {
			callee += "*"
		}
		calls[e.GetCaller()] = append(calls[e.GetCaller()], callee)
	}
	table(w, func(w io.Writer) {
		row(w, "SERVICE", "HEALTH", "READY", "RATE", "ERRORS", "P99", "FAN-IN", "BLAST", "TRAFFIC", "CALLS")
		for _, s := range g.GetServices() {
			traffic := "in service"
			if s.GetDrained() {
				traffic = "DRAINED"
			}
			row(w, s.GetName(), dash(s.GetHealth()), ready(s), fmt.Sprintf("%.1f/s", s.GetRate()), percent(s.GetErrorShare()),
				millis(s.GetP99Seconds()), fmt.Sprint(s.GetFanIn()), fmt.Sprint(s.GetBlastRadius()), traffic,
				dash(strings.Join(calls[s.GetName()], " ")))
			delete(calls, s.GetName())
		}
	})
	if strings.Contains(fmt.Sprint(g.GetEdges()), "sticky:true") {
		fmt.Fprintln(w, "\n* sticky: the caller does not survive a restart of this callee")
	}
}

func ready(s *sluicev1.Service) string {
	n := 0
	for _, i := range s.GetInstances() {
		if i.GetState() == "ready" {
			n++
		}
	}
	return fmt.Sprintf("%d/%d", n, len(s.GetInstances()))
}

// dot draws the graph for Graphviz.
func dot(g *sluicev1.GetTopologyResponse) string {
	var b strings.Builder
	b.WriteString("digraph mesh {\n  rankdir=LR; node [shape=box, style=rounded, fontname=\"sans-serif\"];\n")
	for _, s := range g.GetServices() {
		attributes := ""
		switch {
		case s.GetDrained():
			attributes = ` [style="rounded,dashed"]`
		case s.GetHealth() == "symptom":
			attributes = ` [color="#c0392b", penwidth=2]`
		}
		fmt.Fprintf(&b, "  %q%s;\n", s.GetName(), attributes)
	}
	for _, e := range g.GetEdges() {
		style := ""
		if e.GetSticky() {
			style = ", style=bold"
		}
		fmt.Fprintf(&b, "  %q -> %q [label=\"%d\"%s];\n", e.GetCaller(), e.GetCallee(), e.GetCalls(), style)
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
