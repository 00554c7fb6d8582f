package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/sluicemesh/sluice/api/client"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/isa/compose"
	"github.com/sluicemesh/sluice/mesh"
)

// recovery is one run of restart, drain or restore: its flags and its connection.
type recovery struct {
	targetFlag
	app     *app
	mode    string
	to      string
	streams string
	onEmpty string
	dryRun  string
	watch   bool
	wait    bool

	api    client.Client
	server string
}

func (a *app) restartCommand() *cobra.Command {
	r := &recovery{app: a}
	command := &cobra.Command{
		Use: "restart TARGET", Short: "Restart a service without a failed request: drain, prove, reboot, restore, verify",
		Long: `Restart a service, with its component and the callers that would not survive it.
TARGET is NAMESPACE/NAME, or KIND/NAME with -n. A service with several instances is
restarted one by one; one with a single instance is drained whole while its callers'
proxies hold requests.`,
		Args: cobra.ExactArgs(1),
		Example: `  sluice restart shop/cart --watch
  sluice restart deploy/cart -n shop --dry-run=server
  sluice restart shop/cart --on-empty shed -o json`,
		RunE: func(c *cobra.Command, args []string) error { return r.restart(c.Context(), args[0]) },
	}
	r.flags(command)
	command.Flags().StringVar(&r.mode, "mode", "", "rolling, replace or in-place (default: rolling)")
	r.emptyFlags(command)
	return command
}

func (a *app) drainCommand() *cobra.Command {
	r := &recovery{app: a}
	command := &cobra.Command{
		Use: "drain TARGET", Short: "Take all traffic off a service, with proof, until it is restored",
		Long: `Take all traffic off a service and leave it off until 'sluice restore TARGET' or the
end of the drain's lease (at most 120 s without approval).`,
		Args: cobra.ExactArgs(1),
		Example: `  sluice drain shop/cart --to shop/cart-v1
  sluice drain shop/cart --on-empty shed && sluice restore shop/cart`,
		RunE: func(c *cobra.Command, args []string) error { return r.drain(c.Context(), args[0]) },
	}
	r.flags(command)
	r.emptyFlags(command)
	return command
}

func (a *app) restoreCommand() *cobra.Command {
	r := &recovery{app: a}
	command := &cobra.Command{
		Use: "restore TARGET", Short: "Give traffic back to a service that `sluice drain` took out",
		Args:    cobra.ExactArgs(1),
		Example: "  sluice restore shop/cart",
		RunE:    func(c *cobra.Command, args []string) error { return r.restore(c.Context(), args[0]) },
	}
	r.flags(command)
	return command
}

func (r *recovery) flags(c *cobra.Command) {
	r.add(c)
	c.Flags().StringVar(&r.dryRun, "dry-run", "", "show the plan and run nothing; =server also asks the kernel")
	c.Flags().Lookup("dry-run").NoOptDefVal = "client"
	c.Flags().BoolVar(&r.watch, "watch", false, "show the plan's steps and gates live")
	c.Flags().BoolVar(&r.wait, "wait", true, "wait until the plan has ended")
}

func (r *recovery) emptyFlags(c *cobra.Command) {
	c.Flags().StringVar(&r.to, "to", "", "send requests to this service meanwhile")
	c.Flags().StringVar(&r.onEmpty, "on-empty", "", "requests for which no instance is left: hold or shed (default: hold)")
	c.Flags().StringVar(&r.streams, "streams", "", "what does not end by itself: wait, ask, cut or refuse (default: wait; raw TCP: cut)")
}

// style checks the flags that shape the program.
func (r *recovery) style() (compose.Style, error) {
	style := compose.Style{
		Mode: isa.Mode(r.mode), OnEmpty: mesh.OnEmpty(r.onEmpty), Streams: mesh.StreamPolicy(r.streams),
	}
	if r.to != "" && r.onEmpty != "" {
		return style, usage("--to and --on-empty exclude each other: requests go elsewhere, or are held or shed")
	}
	if !slices.Contains([]isa.Mode{"", isa.Rolling, isa.Replace, isa.InPlace}, style.Mode) {
		return style, usage("--mode %q: want rolling, replace or in-place", r.mode)
	}
	if !slices.Contains([]mesh.OnEmpty{"", mesh.OnEmptyHold, mesh.OnEmptyShed}, style.OnEmpty) {
		return style, usage("--on-empty %q: want hold or shed", r.onEmpty)
	}
	streams := []mesh.StreamPolicy{"", mesh.StreamsWait, mesh.StreamsAsk, mesh.StreamsCut, mesh.StreamsRefuse}
	if !slices.Contains(streams, style.Streams) {
		return style, usage("--streams %q: want wait, ask, cut or refuse", r.streams)
	}
	if r.to != "" {
		to, err := checkedService(r.to)
		if err != nil {
			return style, err
		}
		style.To = mesh.Service(to)
	}
	return style, nil
}

// begin checks flags and target and connects.
func (r *recovery) begin(target string) (string, error) {
	if !slices.Contains([]string{"", "client", "server"}, r.dryRun) {
		return "", usage("--dry-run=%s: want client or server", r.dryRun)
	}
	service, err := r.service(target)
	if err != nil {
		return "", err
	}
	r.api, r.server, err = r.app.connect()
	return service, err
}

func (r *recovery) restart(ctx context.Context, target string) error {
	style, err := r.style()
	if err != nil {
		return err
	}
	service, err := r.begin(target)
	if err != nil {
		return err
	}
	ctx, cancel := r.app.within(ctx, followTimeout)
	defer cancel()
	group, err := r.api.GetGroup(ctx, connect.NewRequest(&sluicev1.GetGroupRequest{Service: service, Planned: true}))
	if err != nil {
		return apiError(r.server, err)
	}
	facts, err := facts(ctx, r.api)
	if err != nil {
		return apiError(r.server, err)
	}
	others := slices.DeleteFunc(slices.Clone(group.Msg.GetRestartSet()), func(s string) bool { return s == service })
	if len(others) > 0 {
		fmt.Fprintf(r.app.err, "%s takes these with it: %s\n", service, strings.Join(others, ", "))
	}
	return r.carryOut(ctx, style.Restart(r.id("restart", service), orders(group.Msg), facts), nil)
}

func (r *recovery) drain(ctx context.Context, target string) error {
	style, err := r.style()
	if err != nil {
		return err
	}
	service, err := r.begin(target)
	if err != nil {
		return err
	}
	ctx, cancel := r.app.within(ctx, followTimeout)
	defer cancel()
	facts, err := facts(ctx, r.api)
	if err != nil {
		return apiError(r.server, err)
	}
	if style.To == "" {
		style.OnEmpty = cmp.Or(style.OnEmpty, mesh.OnEmptyHold)
	}
	name := mesh.Service(service)
	program := style.Drain(r.id("drain", service), isa.Target{Service: name}, facts[name])
	return r.carryOut(ctx, program, drained)
}

// drained reports whether the drains of a plan that then waits are all proved.
func drained(plan *sluicev1.Plan) bool {
	drains := 0
	for _, step := range plan.GetSteps() {
		if step.GetAction() != string(isa.KindDrain) {
			continue
		}
		if step.GetState() != "confirmed" {
			return false
		}
		drains++
	}
	return drains > 0
}

// restore ends the plan that keeps traffic off target: the kernel gives it back.
func (r *recovery) restore(ctx context.Context, target string) error {
	service, err := r.begin(target)
	if err != nil {
		return err
	}
	ctx, cancel := r.app.within(ctx, followTimeout)
	defer cancel()
	answer, err := r.api.ListPlans(ctx, connect.NewRequest(&sluicev1.ListPlansRequest{PageSize: 500}))
	if err != nil {
		return apiError(r.server, err)
	}
	plan, err := holder(answer.Msg.GetPlans(), service)
	if err != nil {
		return err
	}
	if r.dryRun != "" {
		fmt.Fprintf(r.app.out, "would end plan %s, which keeps traffic off %s\n", plan.GetId(), service)
		return nil
	}
	request := &sluicev1.AbortPlanRequest{Id: plan.GetId(), Reason: "restored by operator"}
	if _, err := r.api.AbortPlan(ctx, connect.NewRequest(request)); err != nil {
		return apiError(r.server, err)
	}
	return r.finish(ctx, plan.GetId(), nil, "compensated", "committed")
}

// holder finds the plan that left traffic off service on purpose.
func holder(plans []*sluicev1.Plan, service string) (*sluicev1.Plan, error) {
	for _, plan := range plans {
		if ended(plan) {
			continue
		}
		drains, awaits := false, false
		for _, step := range plan.GetSteps() {
			concerned := strings.FieldsFunc(step.GetTarget()+" ", narrowing)[0] == service
			drains = drains || concerned && step.GetAction() == string(isa.KindDrain) && step.GetState() != "waiting"
			awaits = awaits || step.GetAction() == string(isa.KindAwait)
		}
		switch {
		case drains && awaits:
			return plan, nil
		case drains:
			return nil, notAchieved("%s is drained by plan %s, which restores it itself; stop it with `sluice plan abort %s`",
				service, plan.GetId(), plan.GetId())
		}
	}
	return nil, notAchieved("no plan keeps traffic off %s: see `sluice plan list`", service)
}

// narrowing reports whether r begins the part of a target that names an instance or subset.
func narrowing(r rune) bool { return strings.ContainsRune("#{@ ", r) }

// id makes a new plan id that says what it is.
func (r *recovery) id(what, service string) string {
	_, name, _ := strings.Cut(service, "/")
	return fmt.Sprintf("%s-%s-%s", what, name[:min(len(name), 40)], r.app.random())
}

// carryOut shows, or hands in and follows, program; done ends the waiting early.
func (r *recovery) carryOut(ctx context.Context, program isa.Program, done func(*sluicev1.Plan) bool) error {
	if r.dryRun != "" {
		return r.show(ctx, program)
	}
	answer, err := r.app.propose(ctx, r.api, wire(program))
	if errors.Is(ctx.Err(), context.Canceled) {
		fmt.Fprintf(r.app.err, "plan %s may have been handed in; stop it with `sluice plan abort %s`\n",
			program.ID, program.ID)
		return ctx.Err()
	}
	if err != nil {
		return apiError(r.server, err)
	}
	if code := verdictCode(answer.GetVerdict()); code != exitDone {
		return r.refused(ctx, answer, code)
	}
	if !r.wait && !r.watch {
		plan, err := r.plan(ctx, answer.GetId())
		if err != nil {
			return err
		}
		return r.app.printPlan(plan, exitDone)
	}
	return r.finish(ctx, answer.GetId(), done, "committed")
}

// finish follows the plan to its end; the given phases are what was wanted.
func (r *recovery) finish(ctx context.Context, id string, done func(*sluicev1.Plan) bool, wanted ...string) error {
	follow := follower{app: r.app, api: r.api, server: r.server, tree: r.watch, done: done}
	plan, err := follow.follow(ctx, id)
	if err != nil {
		return err
	}
	code := planCode(plan)
	if plan.GetPhase() != "committed" && slices.Contains(wanted, plan.GetPhase()) || done != nil && !ended(plan) {
		code = exitDone
	}
	return r.app.printPlan(plan, code)
}

func (r *recovery) plan(ctx context.Context, id string) (*sluicev1.Plan, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	answer, err := r.api.GetPlan(ctx, connect.NewRequest(&sluicev1.GetPlanRequest{Id: id}))
	if err != nil {
		return nil, apiError(r.server, err)
	}
	return answer.Msg.GetPlan(), nil
}

// refused prints the plan that was not admitted; one that left no record is made of the
// answer.
func (r *recovery) refused(ctx context.Context, p *sluicev1.ProposePlanResponse, code int) error {
	plan, err := r.plan(ctx, p.GetId())
	if err != nil {
		plan = &sluicev1.Plan{
			Id: p.GetId(), Phase: p.GetPhase(), Verdict: p.GetVerdict(), Code: p.GetCode(), Epoch: p.GetEpoch(),
			Faults: p.GetFaults(),
		}
	}
	return r.app.printPlan(plan, code)
}

// dryView is the JSON of --dry-run.
type dryView struct {
	header
	ID       string      `json:"id"`
	DryRun   string      `json:"dry_run"`
	Verdict  *string     `json:"verdict"`
	Code     *string     `json:"code"`
	Epoch    *string     `json:"epoch"`
	Program  string      `json:"program"`
	Expanded *string     `json:"expanded"`
	Faults   []faultView `json:"faults"`
}

func (r *recovery) show(ctx context.Context, program isa.Program) error {
	view := dryView{
		header: r.app.header("dry-run"), ID: program.ID, DryRun: r.dryRun, Epoch: null(program.Epoch),
		Program: string(isa.FormatText(program)), Faults: []faultView{},
	}
	answer := &sluicev1.CheckPlanResponse{}
	if r.dryRun == "server" {
		response, err := r.api.CheckPlan(ctx, connect.NewRequest(&sluicev1.CheckPlanRequest{Program: wire(program)}))
		if err != nil {
			return apiError(r.server, err)
		}
		answer = response.Msg
		view.Verdict, view.Code, view.Epoch = null(answer.GetVerdict()), null(answer.GetCode()), null(answer.GetEpoch())
		view.Expanded, view.Faults = null(answer.GetExpanded()), faultViews(answer.GetFaults())
	}
	err := r.app.print(view, func(w io.Writer) {
		fmt.Fprint(w, view.Program)
		if view.Verdict != nil {
			text := verdictText(*view.Verdict, answer.GetCode())
			fmt.Fprintf(w, "\nVerdict: %s\n", r.app.paint(r.app.terminal, phaseColour(*view.Verdict), text))
			faultTable(w, program.ID, answer.GetFaults())
		}
		if view.Expanded != nil {
			fmt.Fprintf(w, "\nThis would run:\n\n%s", *view.Expanded)
		}
	})
	if err != nil || view.Verdict == nil {
		return err
	}
	return told(verdictCode(*view.Verdict))
}
