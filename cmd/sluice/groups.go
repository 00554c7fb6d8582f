package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicemesh/sluice/api/client"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
)

// groupView is the JSON of `sluice groups`.
type groupView struct {
	header
	Symptom       *string       `json:"symptom"`
	Epoch         string        `json:"epoch"`
	Suspects      []suspectView `json:"suspects"`
	Members       []memberView  `json:"members"`
	RestartSet    []string      `json:"restart_set"`
	DrainOrder    []string      `json:"drain_order"`
	RestartOrder  []string      `json:"restart_order"`
	RestoreOrder  []string      `json:"restore_order"`
	DrainRequired []string      `json:"drain_required"`
	FanIn         int32         `json:"fan_in"`
	BlastRadius   []string      `json:"blast_radius"`
	Verdict       *string       `json:"verdict"`
	Missed        *missedView   `json:"missed"`
}

type suspectView struct {
	Service  string  `json:"service"`
	Instance *string `json:"instance"`
	Level    string  `json:"level"`
	Score    float64 `json:"score"`
	Version  *string `json:"version,omitempty"` // of a subset
	Zone     *string `json:"zone,omitempty"`    // of a subset
	reason   string
}

type memberView struct {
	Service string     `json:"service"`
	Level   string     `json:"level"`
	Why     []edgeView `json:"why"`
}

type missedView struct {
	Upper95 float64 `json:"upper95"`
	N       uint64  `json:"n"`
	Method  string  `json:"method"`
}

// groupFlags are the flags of `sluice groups`.
type groupFlags struct {
	targetFlag
	planned  bool
	onset    string
	window   time.Duration
	topology string
	missed   float64
}

func (a *app) groupsCommand() *cobra.Command {
	flags := groupFlags{}
	command := &cobra.Command{
		Use: "groups SERVICE", Short: "Show the recovery group of a symptom or of a planned restart, and why",
		Long: `Show who would be restarted, who is watched, in which orders, and by what evidence.
Without --planned, SERVICE is the symptom; --onset and --window narrow the evidence.
With --topology the graph is that of a file, names are as written in it, and the
evidence is what the file recorded: by default its last minute against the one before.
A file without a recording makes all that SERVICE reaches part of the group.`,
		Args: cobra.ExactArgs(1),
		Example: `  sluice groups shop/cart --planned
  sluice groups shop/cart --onset 2026-11-22T18:00:00Z --window 30s -o json
  sluice groups cartservice --topology mesh.json --onset 2026-11-22T18:00:00Z`,
		RunE: func(c *cobra.Command, args []string) error { return a.groups(c.Context(), flags, args[0]) },
	}
	flags.add(command)
	command.Flags().BoolVar(&flags.planned, "planned", false, "the group of a planned restart of SERVICE")
	command.Flags().StringVar(&flags.onset, "onset", "", "when the symptom began, RFC 3339 (default: as noticed)")
	command.Flags().DurationVar(&flags.window, "window", 0, "evidence interval after the onset (0: the default)")
	command.Flags().StringVar(&flags.topology, "topology", "", "graph of this `FILE` instead of the control plane's")
	command.Flags().Float64Var(&flags.missed, "most-missed", 0,
		"with --topology: take all that SERVICE reaches if the bound on missed edges is above this (0: never)")
	return command
}

func (a *app) groups(ctx context.Context, flags groupFlags, target string) error {
	if flags.topology != "" {
		return a.groupOfFile(flags, target)
	}
	service, err := flags.service(target)
	if err != nil {
		return err
	}
	question, err := flags.question(service)
	if err != nil {
		return err
	}
	api, server, err := a.connect()
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, callTimeout)
	defer cancel()
	answer, err := api.GetGroup(ctx, connect.NewRequest(question))
	if err != nil {
		return apiError(server, err)
	}
	view := newGroupView(a.header("groups"), answer.Msg)
	if view.Verdict, err = a.groupVerdict(ctx, api, answer.Msg); err != nil {
		return apiError(server, err)
	}
	return a.print(view, func(w io.Writer) { groupTable(w, &view) })
}

func (f groupFlags) question(service string) (*sluicev1.GetGroupRequest, error) {
	question := &sluicev1.GetGroupRequest{Service: service, Planned: f.planned}
	if f.planned && (f.onset != "" || f.window != 0) {
		return nil, usage("--planned excludes --onset and --window: a planned restart has no symptom")
	}
	if f.onset != "" {
		onset, err := time.Parse(time.RFC3339, f.onset)
		if err != nil {
			return nil, usage("--onset %q: want RFC 3339, such as 2026-11-22T18:00:00Z", f.onset)
		}
		question.Onset = timestamppb.New(onset)
	}
	if f.window < 0 {
		return nil, usage("--window %s: want 0 or more", f.window)
	}
	if f.window > 0 {
		question.Window = durationpb.New(f.window)
	}
	return question, nil
}

func newGroupView(h header, g *sluicev1.GetGroupResponse) groupView {
	view := groupView{
		header: h, Symptom: null(g.GetSymptom()), Epoch: g.GetEpoch(), Suspects: []suspectView{}, Members: []memberView{},
		RestartSet: list(g.GetRestartSet()), DrainOrder: list(g.GetDrainOrder()), RestartOrder: list(g.GetRestartOrder()),
		RestoreOrder: list(g.GetRestoreOrder()), DrainRequired: list(g.GetDrainRequired()), FanIn: g.GetFanIn(),
		BlastRadius: list(g.GetBlastRadius()),
	}
	for _, s := range g.GetSuspects() {
		suspect := suspectView{
			s.GetService(), null(s.GetInstance()), s.GetLevel(), round(s.GetScore()), null(s.GetVersion()), null(s.GetZone()), s.GetReason(),
		}
		view.Suspects = append(view.Suspects, suspect)
	}
	for _, m := range g.GetMembers() {
		member := memberView{Service: m.GetService(), Level: m.GetLevel(), Why: []edgeView{}}
		for _, e := range m.GetWhy() {
			member.Why = append(member.Why, newEdgeView(e))
		}
		view.Members = append(view.Members, member)
	}
	if missed := g.GetMissed(); missed != nil {
		view.Missed = &missedView{missed.GetUpper95(), missed.GetN(), missed.GetMethod()}
	}
	return view
}

// groupVerdict asks what the kernel would say to a restart of the group now, nil if the
// group restarts nobody.
func (a *app) groupVerdict(ctx context.Context, api client.Client, g *sluicev1.GetGroupResponse) (*string, error) {
	if len(g.GetRestartSet()) == 0 {
		return nil, nil
	}
	facts, err := facts(ctx, api)
	if err != nil {
		return nil, err
	}
	program := compose.Restart("groups-"+a.random(), orders(g), facts)
	answer, err := api.CheckPlan(ctx, connect.NewRequest(&sluicev1.CheckPlanRequest{Program: wire(program)}))
	if err != nil {
		return nil, err
	}
	return null(verdictText(answer.Msg.GetVerdict(), answer.Msg.GetCode())), nil
}

func verdictText(outcome, code string) string {
	if code == "" {
		return outcome
	}
	return outcome + ":" + code
}

func orders(g *sluicev1.GetGroupResponse) compose.Orders {
	return compose.Orders{
		RestartSet: services(g.GetRestartSet()), Drain: services(g.GetDrainOrder()),
		Restart: services(g.GetRestartOrder()), Restore: services(g.GetRestoreOrder()), Epoch: g.GetEpoch(),
	}
}

func services(names []string) []mesh.Service {
	out := make([]mesh.Service, 0, len(names))
	for _, name := range names {
		out = append(out, mesh.Service(name))
	}
	return out
}

// facts asks for what a composed program depends on.
func facts(ctx context.Context, api client.Client) (map[mesh.Service]compose.Facts, error) {
	answer, err := api.GetTopology(ctx, connect.NewRequest(&sluicev1.GetTopologyRequest{}))
	if err != nil {
		return nil, err
	}
	return factsOf(answer.Msg), nil
}

func factsOf(g *sluicev1.GetTopologyResponse) map[mesh.Service]compose.Facts {
	facts := make(map[mesh.Service]compose.Facts, len(g.GetServices()))
	for _, s := range g.GetServices() {
		facts[mesh.Service(s.GetName())] = compose.Facts{
			Protocol: mesh.Protocol(s.GetProtocol()), Instances: len(s.GetInstances()), Component: int(s.GetComponent()) + 1,
		}
	}
	for _, e := range g.GetEdges() {
		callee := mesh.Service(e.GetCallee())
		if fact, known := facts[callee]; known {
			fact.Callers = append(fact.Callers, mesh.Service(e.GetCaller()))
			facts[callee] = fact
		}
	}
	return facts
}

func groupTable(w io.Writer, v *groupView) {
	if v.Symptom != nil {
		fmt.Fprintf(w, "Symptom %s at epoch %s\n\n", *v.Symptom, shortEpoch(v.Epoch))
	} else {
		fmt.Fprintf(w, "Planned restart at epoch %s\n\n", shortEpoch(v.Epoch))
	}
	table(w, func(w io.Writer) {
		row(w, "MEMBER", "LEVEL", "WHY")
		for _, m := range v.Members {
			row(w, m.Service, m.Level, why(m.Why))
		}
	})
	if len(v.Suspects) > 0 {
		fmt.Fprintln(w)
		table(w, func(w io.Writer) {
			row(w, "SUSPECT", "INSTANCE", "LEVEL", "SCORE", "REASON")
			for _, s := range v.Suspects {
				instance := "-"
				if s.Instance != nil {
					instance = *s.Instance
				}
				row(w, s.Service, instance, s.Level, fmt.Sprintf("%.2f", s.Score), dash(oneLine(s.reason)))
			}
		})
	}
	fmt.Fprintln(w)
	table(w, func(w io.Writer) {
		row(w, "Restart set", orNone(v.RestartSet))
		row(w, "Drain order", orNone(v.DrainOrder))
		row(w, "Restart order", orNone(v.RestartOrder))
		row(w, "Restore order", orNone(v.RestoreOrder))
		row(w, "Drain required", orNone(v.DrainRequired))
		row(w, "Fan-in", fmt.Sprint(v.FanIn))
		row(w, "Blast radius", orNone(v.BlastRadius))
		if v.Missed != nil {
			row(w, "Missed", fmt.Sprintf("next request uses an unknown edge: at most %s (95%%), n = %d, %s",
				percent(v.Missed.Upper95), v.Missed.N, v.Missed.Method))
		}
		if v.Verdict != nil {
			row(w, "Verdict now", *v.Verdict)
		}
	})
}

// why says in one line by what edges a service is in a group.
func why(edges []edgeView) string {
	switch len(edges) {
	case 0:
		return "-"
	case 1:
		return edgeText(edges[0])
	}
	return fmt.Sprintf("%s, and %d more", edgeText(edges[0]), len(edges)-1)
}

func edgeText(e edgeView) string {
	text := fmt.Sprintf("%s -> %s, %d calls, %d errors", e.Caller, e.Callee, e.Calls, e.Errors)
	if e.Sticky {
		text += ", sticky"
	}
	return text
}
