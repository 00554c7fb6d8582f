package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluicemesh/sluice/api/client"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// planView is a plan in JSON: the plan object of reports.
type planView struct {
	header
	ID           string      `json:"id"`
	Phase        string      `json:"phase"`
	Verdict      *string     `json:"verdict"`
	Code         *string     `json:"code"`
	Epoch        *string     `json:"epoch"`
	Proposer     *string     `json:"proposer"`
	Approver     *string     `json:"approver"`
	Proposed     *string     `json:"proposed"`
	EndedS       *float64    `json:"ended_s"`
	Reason       *string     `json:"reason"`
	Waiting      *string     `json:"waiting"`
	Harm         *string     `json:"harm"`
	HarmEvidence *string     `json:"harm_evidence"`
	RestartSet   []string    `json:"restart_set"`
	BlastRadius  []string    `json:"blast_radius"`
	Program      *string     `json:"program"`
	Faults       []faultView `json:"faults"`
	Steps        []stepView  `json:"steps"`
}

type stepView struct {
	ID             string   `json:"id"`
	Action         string   `json:"action"`
	Target         string   `json:"target"`
	State          string   `json:"state"`
	StartedS       *float64 `json:"started_s"`
	AckedS         *float64 `json:"acked_s"`
	EndedS         *float64 `json:"ended_s"`
	Acks           *int32   `json:"acks"`
	Required       *int32   `json:"required"`
	InFlightAtGate *int32   `json:"in_flight_at_gate"`
	ProofGrade     *string  `json:"proof_grade"`
	Cut            int32    `json:"cut"`
}

func newPlanView(h header, p *sluicev1.Plan) planView {
	view := planView{
		header: h, ID: p.GetId(), Phase: p.GetPhase(), Verdict: null(p.GetVerdict()), Code: null(p.GetCode()),
		Epoch: null(p.GetEpoch()), Proposer: null(p.GetProposer()), Approver: null(p.GetApprover()),
		Proposed: stamp(p.GetProposed()), EndedS: seconds(p, p.GetEnded()), Reason: null(p.GetReason()),
		Waiting: null(p.GetWaiting()), Harm: null(p.GetHarm()), HarmEvidence: null(p.GetHarmEvidence()),
		RestartSet: list(p.GetRestartSet()), BlastRadius: list(p.GetBlastRadius()), Program: null(p.GetProgram()),
		Faults: faultViews(p.GetFaults()), Steps: []stepView{},
	}
	for _, s := range p.GetSteps() {
		step := stepView{
			ID: s.GetId(), Action: s.GetAction(), Target: s.GetTarget(), State: s.GetState(),
			StartedS: seconds(p, s.GetStarted()), AckedS: seconds(p, s.GetAcked()), EndedS: seconds(p, s.GetEnded()),
			ProofGrade: null(s.GetProofGrade()), Cut: s.GetCut(),
		}
		if s.GetRequired() > 0 || s.GetAcked() != nil {
			step.Acks, step.Required = &s.Acks, &s.Required
		}
		if s.GetProofGrade() != "" {
			step.InFlightAtGate = &s.InFlightAtGate
		}
		view.Steps = append(view.Steps, step)
	}
	return view
}

// seconds is the time from the proposal to at, nil if it has not come.
func seconds(p *sluicev1.Plan, at *timestamppb.Timestamp) *float64 {
	if at == nil || p.GetProposed() == nil {
		return nil
	}
	s := round(at.AsTime().Sub(p.GetProposed().AsTime()).Seconds())
	return &s
}

func (a *app) planCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "plan", Short: "Check, propose, list, show, watch, abort and format plans",
		Example: "  sluice plan check cart.plan\n  sluice plan propose cart.plan --wait\n  sluice plan list",
	}
	command.AddCommand(a.planCheckCommand(), a.planProposeCommand(), a.planListCommand(), a.planShowCommand(), a.planReportCommand(),
		a.planWatchCommand(), a.planAbortCommand(), a.planFmtCommand())
	return command
}

// printPlan writes a plan and ends with the code that it stands for.
func (a *app) printPlan(plan *sluicev1.Plan, code int) error {
	err := a.print(newPlanView(a.header("plan"), plan), func(w io.Writer) { a.planTable(w, plan) })
	if err != nil {
		return err
	}
	return told(code)
}

// planCode is the exit code of a plan that somebody waited for.
func planCode(plan *sluicev1.Plan) int {
	switch plan.GetPhase() {
	case "committed":
		if plan.GetHarm() == "harm" || plan.GetHarm() == "not-recovered" {
			return exitNotAchieved
		}
		return exitDone
	case "held":
		return exitHeld
	case "refused":
		return verdictCode(plan.GetVerdict())
	}
	return exitNotAchieved
}

func (a *app) planTable(w io.Writer, p *sluicev1.Plan) {
	fmt.Fprintf(w, "Plan %s: %s", p.GetId(), a.paint(a.terminal, phaseColour(p.GetPhase()), dash(p.GetPhase())))
	if p.GetEnded() != nil {
		fmt.Fprintf(w, " after %s", since(p, p.GetEnded()))
	}
	fmt.Fprintf(w, "\nProposed by %s, verdict %s", dash(p.GetProposer()), dash(verdictText(p.GetVerdict(), p.GetCode())))
	if p.GetApprover() != "" {
		fmt.Fprintf(w, ", approved by %s", p.GetApprover())
	}
	fmt.Fprintf(w, ", epoch %s\n", shortEpoch(p.GetEpoch()))
	for _, line := range []struct{ name, text string }{
		{"Reason", p.GetReason()}, {"Waiting", p.GetWaiting()}, {"Harm", p.GetHarm()}, {"Evidence", p.GetHarmEvidence()},
	} {
		if line.text != "" {
			fmt.Fprintf(w, "%s: %s\n", line.name, oneLine(line.text))
		}
	}
	faultTable(w, p.GetId(), p.GetFaults())
	if len(p.GetSteps()) > 0 {
		fmt.Fprintln(w)
		table(w, func(w io.Writer) { stepRows(w, p) })
	}
	if p.GetPhase() == "held" {
		fmt.Fprintf(w, "\nHeld for approval by another principal: sluice approve %s\n", p.GetId())
	}
}

func stepRows(w io.Writer, p *sluicev1.Plan) {
	row(w, "STEP", "ACTION", "TARGET", "STATE", "START", "END", "ACKS", "IN FLIGHT", "GRADE", "CUT")
	for _, s := range p.GetSteps() {
		acks, inFlight := "-", "-"
		if s.GetRequired() > 0 {
			acks = fmt.Sprintf("%d/%d", s.GetAcks(), s.GetRequired())
		}
		if s.GetProofGrade() != "" {
			inFlight = fmt.Sprint(s.GetInFlightAtGate())
		}
		row(w, s.GetId(), s.GetAction(), dash(s.GetTarget()), s.GetState(), since(p, s.GetStarted()), since(p, s.GetEnded()),
			acks, inFlight, dash(s.GetProofGrade()), fmt.Sprint(s.GetCut()))
	}
}

// proposeView is the JSON of `sluice plan propose`.
type proposeView struct {
	header
	ID         *string     `json:"id"`
	Verdict    string      `json:"verdict"`
	Code       *string     `json:"code"`
	Phase      *string     `json:"phase"`
	Epoch      *string     `json:"epoch"`
	RetryAfter *float64    `json:"retry_after_s"`
	Faults     []faultView `json:"faults"`
}

func (a *app) planProposeCommand() *cobra.Command {
	wait := false
	command := &cobra.Command{
		Use: "propose FILE|-", Short: "Hand a plan in; it runs if the kernel admits it", Args: cobra.ExactArgs(1),
		Example: "  sluice plan propose cart.plan --wait\n  sluice plan propose - -o json < cart.json",
		RunE:    func(c *cobra.Command, args []string) error { return a.planPropose(c.Context(), args[0], wait) },
	}
	command.Flags().BoolVar(&wait, "wait", false, "wait until the plan has ended")
	return command
}

func (a *app) planPropose(ctx context.Context, name string, wait bool) error {
	src, err := a.readProgram(name)
	if err != nil {
		return err
	}
	if len(src.faults) > 0 {
		answer := &sluicev1.ProposePlanResponse{
			Verdict: "reject", Code: string(src.faults[0].Code), Phase: "refused", Faults: localFaults(src.faults),
		}
		return a.printProposal(answer, src.name, exitUsage)
	}
	api, server, err := a.connect()
	if err != nil {
		return err
	}
	ctx, cancel := a.within(ctx, followTimeout)
	defer cancel()
	answer, err := a.propose(ctx, api, src.wireProgram())
	if err != nil {
		return apiError(server, err)
	}
	code := verdictCode(answer.GetVerdict())
	if wait && code == exitDone {
		follow := follower{app: a, api: api, server: server}
		plan, err := follow.follow(ctx, answer.GetId())
		if err != nil {
			return err
		}
		answer.Phase, code = plan.GetPhase(), planCode(plan)
	}
	return a.printProposal(answer, src.name, code)
}

func (a *app) printProposal(p *sluicev1.ProposePlanResponse, name string, code int) error {
	view := proposeView{
		header: a.header("propose"), ID: null(p.GetId()), Verdict: p.GetVerdict(), Code: null(p.GetCode()),
		Phase: null(p.GetPhase()), Epoch: null(p.GetEpoch()), Faults: faultViews(p.GetFaults()),
	}
	if p.GetRetryAfter() != nil {
		view.RetryAfter = positive(p.GetRetryAfter().AsDuration().Seconds())
	}
	err := a.print(view, func(w io.Writer) {
		verdict := a.paint(a.terminal, phaseColour(p.GetVerdict()), verdictText(p.GetVerdict(), p.GetCode()))
		fmt.Fprintf(w, "Plan %s: %s, %s\n", dash(p.GetId()), verdict, dash(p.GetPhase()))
		faultTable(w, name, p.GetFaults())
		if p.GetPhase() == "held" {
			fmt.Fprintf(w, "Held for approval by another principal: sluice approve %s\n", p.GetId())
		}
		if view.RetryAfter != nil {
			fmt.Fprintf(w, "Try again after %.0f s.\n", *view.RetryAfter)
		}
	})
	if err != nil {
		return err
	}
	return told(code)
}

// propose hands a program in. While the control plane starts again it tries again for a
// short time: a plan is identified by its bytes, so that this cannot run it twice.
func (a *app) propose(
	ctx context.Context, api client.Client, program *sluicev1.Program,
) (*sluicev1.ProposePlanResponse, error) {
	patience, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		answer, err := api.ProposePlan(ctx, connect.NewRequest(&sluicev1.ProposePlanRequest{Program: program}))
		if err == nil {
			return answer.Msg, nil
		}
		if connect.CodeOf(err) != connect.CodeUnavailable {
			return nil, err
		}
		select {
		case <-patience.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}
