package mcp

import (
	"context"
	"fmt"
	"slices"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
	"google.golang.org/protobuf/proto"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
)

// Bounds of an answer, so that a fleet does not fill a model's window.
const (
	maxServices = 100
	maxPlans    = 50
)

// Inputs of the tools. Unknown fields are refused by their schemas.
type (
	none       struct{}
	aboutGraph struct {
		Service string `json:"service,omitempty" jsonschema:"NAMESPACE/NAME: only this service, its callers and callees, with the edges between them"`
		Offset  int    `json:"offset,omitempty" jsonschema:"without service: skip so many of the list, which is sorted by name"`
	}
	aboutService struct {
		Service string `json:"service" jsonschema:"NAMESPACE/NAME"`
		Planned bool   `json:"planned,omitempty" jsonschema:"true: the group of a planned restart instead of that of the present symptom"`
	}
	aboutPlan struct {
		ID string `json:"id" jsonschema:"id of the plan"`
	}
	aboutProgram struct {
		Program string `json:"program" jsonschema:"the program, in compact text or JSON: see sluice://isa/grammar and sluice://isa/schema"`
	}
)

// addTools registers every tool there is. None executes.
func (s *Server) addTools() {
	read(s, "status", "Mode, topology epoch, connected proxies and running plans of the control plane.",
		func(ctx context.Context, call *sdk.CallToolRequest, _ none) (proto.Message, error) {
			return ask(ctx, s, call, s.api.GetStatus, &sluicev1.GetStatusRequest{})
		})
	read(s, "symptoms", "Services whose objective is broken now, since when, and by what evidence.",
		func(ctx context.Context, call *sdk.CallToolRequest, _ none) (proto.Message, error) {
			return ask(ctx, s, call, s.api.ListSymptoms, &sluicev1.ListSymptomsRequest{})
		})
	read(s, "topology", fmt.Sprintf("Services with health, rate, errors and blast radius (%d at a time), "+
		"or one service with its callers, callees and the edges between them.", maxServices), s.topology)
	read(s, "group", "Recovery group of a service: suspects (best first), members with the evidence for each, restart set, "+
		"orders of drain, restart and restore, blast radius, bound on missed dependencies.",
		func(ctx context.Context, call *sdk.CallToolRequest, in aboutService) (proto.Message, error) {
			return ask(ctx, s, call, s.api.GetGroup, &sluicev1.GetGroupRequest{Service: in.Service, Planned: in.Planned})
		})
	read(s, "plans", fmt.Sprintf("The latest %d plans with verdict, phase and harm.", maxPlans),
		func(ctx context.Context, call *sdk.CallToolRequest, _ none) (proto.Message, error) {
			return ask(ctx, s, call, s.api.ListPlans, &sluicev1.ListPlansRequest{PageSize: maxPlans})
		})
	read(s, "plan", "One plan: its expanded program, each step with gates, ACKs, requests in flight and proof grade, what it waits for.",
		func(ctx context.Context, call *sdk.CallToolRequest, in aboutPlan) (proto.Message, error) {
			return ask(ctx, s, call, s.api.GetPlan, &sluicev1.GetPlanRequest{Id: in.ID})
		})
	read(s, "validate", "Check a program without proposing it: verdict, every fault with position, reason and remedy, and the program "+
		"as it would run.",
		func(ctx context.Context, call *sdk.CallToolRequest, in aboutProgram) (proto.Message, error) {
			program, err := in.program()
			if err != nil {
				return nil, err
			}
			return ask(ctx, s, call, s.api.CheckPlan, &sluicev1.CheckPlanRequest{Program: program})
		})
	add(s, &sdk.Tool{
		Name: "propose",
		Description: "Hand in a program. The microkernel decides: admit, hold (a person has to approve it), reject (code, reason, remedy) " +
			"or throttle (try again later). The same program with the same id is proposed once. Follow it with plan.",
		Annotations: &sdk.ToolAnnotations{IdempotentHint: true, OpenWorldHint: new(bool)},
	}, func(ctx context.Context, call *sdk.CallToolRequest, in aboutProgram) (proto.Message, error) {
		program, err := in.program()
		if err != nil {
			return nil, err
		}
		return ask(ctx, s, call, s.api.ProposePlan, &sluicev1.ProposePlanRequest{Program: program})
	})
}

// program refuses what the API would refuse for its size, before it is sent.
func (in aboutProgram) program() (*sluicev1.Program, error) {
	if len(in.Program) > isa.MaxBytes {
		return nil, fmt.Errorf("%s: program of %d bytes: at most %d; split it", isa.CodeTooLarge, len(in.Program), isa.MaxBytes)
	}
	return &sluicev1.Program{Source: []byte(in.Program)}, nil
}

// topology returns one page of all services, or the surroundings of one.
func (s *Server) topology(ctx context.Context, call *sdk.CallToolRequest, in aboutGraph) (proto.Message, error) {
	graph, err := ask(ctx, s, call, s.api.GetTopology, &sluicev1.GetTopologyRequest{})
	if err != nil {
		return nil, err
	}
	if in.Service == "" {
		first := min(max(in.Offset, 0), len(graph.GetServices()))
		last := min(first+maxServices, len(graph.GetServices()))
		graph.Services, graph.Edges = graph.GetServices()[first:last], nil
		return graph, nil
	}
	near := map[string]bool{in.Service: true}
	graph.Edges = slices.DeleteFunc(graph.GetEdges(), func(e *sluicev1.Edge) bool {
		keep := e.GetCaller() == in.Service || e.GetCallee() == in.Service
		if keep {
			near[e.GetCaller()], near[e.GetCallee()] = true, true
		}
		return !keep
	})
	graph.Services = slices.DeleteFunc(graph.GetServices(), func(v *sluicev1.Service) bool { return !near[v.GetName()] })
	if len(graph.GetServices()) == 0 {
		return nil, fmt.Errorf("service %q is not in the mesh: list services with topology", in.Service)
	}
	return graph, nil
}

// handler answers one tool.
type handler[In any] func(context.Context, *sdk.CallToolRequest, In) (proto.Message, error)

// read registers a tool that changes nothing.
func read[In any](s *Server, name, description string, h handler[In]) {
	add(s, &sdk.Tool{
		Name: name, Description: description,
		Annotations: &sdk.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true, OpenWorldHint: new(bool)},
	}, h)
}

func add[In any](s *Server, tool *sdk.Tool, h handler[In]) {
	notDestructive := false // what is proposed is judged, and undone if it does harm
	tool.Annotations.DestructiveHint = &notDestructive
	sdk.AddTool(s.sdk, tool, func(ctx context.Context, call *sdk.CallToolRequest, in In) (*sdk.CallToolResult, any, error) {
		message, err := h(ctx, call, in)
		if err != nil {
			return nil, nil, err
		}
		result, err := answer(message)
		return result, nil, err
	})
}
