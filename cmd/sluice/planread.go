package main

import (
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

func (a *app) planListCommand() *cobra.Command {
	limit := 100
	command := &cobra.Command{
		Use: "list", Short: "List plans, newest first", Args: cobra.NoArgs,
		Example: "  sluice plan list\n  sluice plan list --limit 10 -o json",
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 {
				return usage("--limit %d: want 1 or more", limit)
			}
			plans, err := a.listPlans(c.Context(), limit)
			if err != nil {
				return err
			}
			view := struct {
				header
				Plans []planView `json:"plans"`
			}{a.header("plans"), []planView{}}
			for _, plan := range plans {
				view.Plans = append(view.Plans, newPlanView(a.header("plan"), plan))
			}
			return a.print(view, func(w io.Writer) { planListTable(w, plans) })
		},
	}
	command.Flags().IntVar(&limit, "limit", limit, "list at most so many")
	return command
}

// listPlans reads up to limit plans, page after page.
func (a *app) listPlans(ctx context.Context, limit int) ([]*sluicev1.Plan, error) {
	api, server, err := a.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := a.within(ctx, callTimeout)
	defer cancel()
	var plans []*sluicev1.Plan
	for token := ""; len(plans) < limit; {
		answer, err := api.ListPlans(ctx, connect.NewRequest(&sluicev1.ListPlansRequest{
			PageSize: int32(min(500, limit-len(plans))), PageToken: token,
		}))
		if err != nil {
			return nil, apiError(server, err)
		}
		plans = append(plans, answer.Msg.GetPlans()...)
		if token = answer.Msg.GetNextPageToken(); token == "" {
			break
		}
	}
	return plans, nil
}

func planListTable(w io.Writer, plans []*sluicev1.Plan) {
	if len(plans) == 0 {
		fmt.Fprintln(w, "No plan is remembered.")
		return
	}
	table(w, func(w io.Writer) {
		row(w, "PLAN", "PHASE", "VERDICT", "PROPOSER", "RESTARTS", "TOOK", "NOTE")
		for _, p := range plans {
			note := p.GetWaiting()
			if p.GetReason() != "" {
				note = p.GetReason()
			}
			row(w, p.GetId(), p.GetPhase(), verdictText(p.GetVerdict(), p.GetCode()), p.GetProposer(),
				orNone(p.GetRestartSet()), since(p, p.GetEnded()), dash(oneLine(note)))
		}
	})
}

func (a *app) planShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a plan: its program, verdict, steps, gates and proofs", Args: cobra.ExactArgs(1),
		Example: "  sluice plan show restart-cart-k3f9a2\n  sluice plan show restart-cart-k3f9a2 -o yaml",
		RunE: func(c *cobra.Command, args []string) error {
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), callTimeout)
			defer cancel()
			answer, err := api.GetPlan(ctx, connect.NewRequest(&sluicev1.GetPlanRequest{Id: args[0]}))
			if err != nil {
				return apiError(server, err)
			}
			plan := answer.Msg.GetPlan()
			return a.print(newPlanView(a.header("plan"), plan), func(w io.Writer) {
				a.planTable(w, plan)
				fmt.Fprintf(w, "\nRestart set: %s\nBlast radius: %s\n", orNone(plan.GetRestartSet()), orNone(plan.GetBlastRadius()))
				if plan.GetProgram() != "" {
					fmt.Fprintf(w, "\n%s", plan.GetProgram())
				}
			})
		},
	}
}

func (a *app) planWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use: "watch ID", Short: "Watch a plan until it has ended", Args: cobra.ExactArgs(1),
		Long:    "Watch a plan until it has ended. Exit 0 committed, 1 not achieved, 4 held.",
		Example: "  sluice plan watch restart-cart-k3f9a2",
		RunE: func(c *cobra.Command, args []string) error {
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), followTimeout)
			defer cancel()
			follow := follower{app: a, api: api, server: server, tree: true}
			plan, err := follow.follow(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printPlan(plan, planCode(plan))
		},
	}
}

func (a *app) planAbortCommand() *cobra.Command {
	reason := ""
	command := &cobra.Command{
		Use: "abort ID", Short: "Stop a plan and undo what it did, in reverse", Args: cobra.ExactArgs(1),
		Example: "  sluice plan abort restart-cart-k3f9a2 --reason 'wrong service'",
		RunE: func(c *cobra.Command, args []string) error {
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), callTimeout)
			defer cancel()
			request := &sluicev1.AbortPlanRequest{Id: args[0], Reason: reason}
			answer, err := api.AbortPlan(ctx, connect.NewRequest(request))
			if err != nil {
				return apiError(server, err)
			}
			return a.printPlan(answer.Msg.GetPlan(), exitDone)
		},
	}
	command.Flags().StringVar(&reason, "reason", "", "why, for the record")
	return command
}

func (a *app) approveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "approve ID", Short: "Allow a held plan that somebody else proposed", Args: cobra.ExactArgs(1),
		Long: `Allow a held plan. It is checked again first, and whoever proposed it cannot approve it.
Needs the token of an approver: --token-file.`,
		Example: "  sluice plan show restart-cart-k3f9a2\n  sluice approve restart-cart-k3f9a2 --token-file approver.token",
		RunE: func(c *cobra.Command, args []string) error {
			api, server, err := a.connect()
			if err != nil {
				return err
			}
			ctx, cancel := a.within(c.Context(), callTimeout)
			defer cancel()
			answer, err := api.ApprovePlan(ctx, connect.NewRequest(&sluicev1.ApprovePlanRequest{Id: args[0]}))
			if err != nil {
				return apiError(server, err)
			}
			plan := answer.Msg.GetPlan()
			code := exitDone
			if ended(plan) && plan.GetPhase() != "committed" {
				code = planCode(plan)
			}
			return a.printPlan(plan, code)
		},
	}
}

// pauseFlags name what to pause or resume.
type pauseFlags struct {
	all    bool
	reason string
}

func (f *pauseFlags) id(args []string) (string, error) {
	if f.all == (len(args) == 1) {
		return "", usage("name a plan or say --all")
	}
	if f.all {
		return "", nil
	}
	return args[0], nil
}

func (a *app) pauseCommand() *cobra.Command {
	flags := pauseFlags{}
	command := &cobra.Command{
		Use: "pause [ID] [--all]", Short: "Start no new step of a plan, or of any", Args: cobra.MaximumNArgs(1),
		Long:    "Start no new step of a plan, or of any. Traffic that is off is still given back.",
		Example: "  sluice pause --all --reason 'incident 4711'\n  sluice pause restart-cart-k3f9a2",
		RunE: func(c *cobra.Command, args []string) error {
			id, err := flags.id(args)
			if err != nil {
				return err
			}
			return a.steer(c.Context(), "paused", id, func(ctx context.Context, s steering) error {
				_, err := s.Pause(ctx, connect.NewRequest(&sluicev1.PauseRequest{Id: id, Reason: flags.reason}))
				return err
			})
		},
	}
	command.Flags().BoolVar(&flags.all, "all", false, "everything")
	command.Flags().StringVar(&flags.reason, "reason", "", "why, for the record")
	return command
}

func (a *app) resumeCommand() *cobra.Command {
	flags := pauseFlags{}
	command := &cobra.Command{
		Use: "resume [ID] [--all]", Short: "End a pause", Args: cobra.MaximumNArgs(1),
		Long:    "End a pause. With --all and the token of an admin it also clears a freeze.",
		Example: "  sluice resume --all",
		RunE: func(c *cobra.Command, args []string) error {
			id, err := flags.id(args)
			if err != nil {
				return err
			}
			return a.steer(c.Context(), "resumed", id, func(ctx context.Context, s steering) error {
				_, err := s.Resume(ctx, connect.NewRequest(&sluicev1.ResumeRequest{Id: id}))
				return err
			})
		},
	}
	command.Flags().BoolVar(&flags.all, "all", false, "everything")
	return command
}

// steering is the part of the API that pauses and resumes.
type steering interface {
	Pause(context.Context, *connect.Request[sluicev1.PauseRequest]) (*connect.Response[sluicev1.PauseResponse], error)
	Resume(context.Context, *connect.Request[sluicev1.ResumeRequest]) (*connect.Response[sluicev1.ResumeResponse], error)
}

func (a *app) steer(ctx context.Context, state, id string, call func(context.Context, steering) error) error {
	api, server, err := a.connect()
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, callTimeout)
	defer cancel()
	if err := call(ctx, api); err != nil {
		return apiError(server, err)
	}
	view := struct {
		header
		ID    *string `json:"id"`
		State string  `json:"state"`
	}{a.header("pause"), null(id), state}
	return a.print(view, func(w io.Writer) {
		what := "Everything is"
		if id != "" {
			what = "Plan " + id + " is"
		}
		fmt.Fprintf(w, "%s %s.\n", what, state)
	})
}
