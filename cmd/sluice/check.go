package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
)

// checkView is the JSON of `sluice plan check`.
type checkView struct {
	header
	Verdict string      `json:"verdict"`
	Epoch   *string     `json:"epoch"`
	Faults  []faultView `json:"faults"`

	Diff        []proxyChangeView `json:"diff,omitempty"`
	DiffLeftOff int32             `json:"diff_left_off,omitempty"`
}

func (a *app) planCheckCommand() *cobra.Command {
	topology, diff := "", false
	command := &cobra.Command{
		Use: "check FILE|-", Short: "Say what the kernel would say to a plan, and run nothing",
		Long: `Check a plan against the running control plane, or against an exported topology.
Without both, only the plan's own structure is checked.
Exit 0 admit, 1 reject, 2 malformed, 4 hold or throttle.`,
		Args: cobra.ExactArgs(1),
		Example: `  sluice plan check cart.plan
  sluice plan check cart.plan --diff
  sluice plan check cart.plan --topology mesh.json -o json
  sluice plan fmt --to json cart.plan | sluice plan check -`,
		RunE: func(c *cobra.Command, args []string) error { return a.planCheck(c.Context(), args[0], topology, diff) },
	}
	command.Flags().BoolVar(&diff, "diff", false, "show what the proxies would be sent, step by step")
	command.Flags().StringVar(&topology, "topology", "", "check against this export of `sluice topology export`, offline")
	command.MarkFlagsMutuallyExclusive("diff", "topology")
	return command
}

func (a *app) planCheck(ctx context.Context, name, topology string, diff bool) error {
	src, err := a.readProgram(name)
	if err != nil {
		return err
	}
	answer := &sluicev1.CheckPlanResponse{Verdict: "reject", Faults: localFaults(src.faults)}
	switch {
	case len(src.faults) > 0:
	case topology != "":
		answer, err = checkAgainst(src, topology)
	default:
		answer, err = a.checkOnline(ctx, src, diff)
	}
	if err != nil {
		return err
	}
	view := checkView{
		header: a.header("check"), Verdict: answer.GetVerdict(), Epoch: null(answer.GetEpoch()),
		Faults: faultViews(answer.GetFaults()), Diff: changeViews(answer.GetDiff()), DiffLeftOff: answer.GetDiffLeftOff(),
	}
	table := func(w io.Writer) {
		a.checkTable(w, src, answer)
		if diff && answer.GetVerdict() != "reject" {
			a.changes(w, answer.GetDiff(), answer.GetDiffLeftOff())
		}
	}
	if err := a.print(view, table); err != nil {
		return err
	}
	if len(src.faults) > 0 {
		return told(exitUsage)
	}
	return told(verdictCode(answer.GetVerdict()))
}

// checkOnline asks the control plane; if none is up here, only the structure is checked,
// unless what proxies would be sent is asked for.
func (a *app) checkOnline(ctx context.Context, src source, diff bool) (*sluicev1.CheckPlanResponse, error) {
	api, server, err := a.connect()
	if err == nil {
		ctx, cancel := a.within(ctx, callTimeout)
		defer cancel()
		request := &sluicev1.CheckPlanRequest{Program: src.wireProgram(), Diff: diff}
		answer, failed := api.CheckPlan(ctx, connect.NewRequest(request))
		if failed == nil {
			return answer.Msg, nil
		}
		err = apiError(server, failed)
	}
	var exit *exitError
	named := a.server != "" || a.getenv("SLUICE_SERVER") != ""
	if named || diff || !errors.As(err, &exit) || exit.code != exitMissing || ctx.Err() != nil {
		return nil, err
	}
	fmt.Fprintln(a.err, "no control plane is up here: checking the plan's own structure only")
	faults := isa.Validate(src.program, nil)
	src.places.Place(faults)
	return offline(faults, ""), nil
}

// offline is the verdict that static faults stand for.
func offline(faults []isa.Fault, epoch string) *sluicev1.CheckPlanResponse {
	answer := &sluicev1.CheckPlanResponse{Verdict: "admit", Epoch: epoch, Faults: localFaults(faults)}
	if len(faults) == 0 {
		return answer
	}
	answer.Verdict, answer.Code = "hold", string(faults[0].Code)
	for _, fault := range faults {
		if fault.Code != isa.CodeGroupTooLarge && fault.Code != isa.CodeTooSlow {
			answer.Verdict, answer.Code = "reject", string(fault.Code)
			break
		}
	}
	return answer
}

func (a *app) checkTable(w io.Writer, src source, answer *sluicev1.CheckPlanResponse) {
	verdict := verdictText(answer.GetVerdict(), answer.GetCode())
	if len(src.faults) > 0 {
		verdict = "malformed"
	}
	fmt.Fprintf(w, "%s: %s\n", src.name, a.paint(a.terminal, phaseColour(answer.GetVerdict()), verdict))
	faultTable(w, src.name, answer.GetFaults())
	if answer.GetExpanded() != "" && answer.GetVerdict() == "admit" {
		fmt.Fprintf(w, "\nThis would run:\n\n%s", answer.GetExpanded())
	}
}

// verdictCode is the exit code of a verdict on a well-formed plan.
func verdictCode(verdict string) int {
	switch verdict {
	case "admit", "replayed":
		return exitDone
	case "hold", "throttle":
		return exitHeld
	}
	return exitNotAchieved
}
