package server

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// service implements sluicev1connect.SluiceServiceHandler.
type service struct {
	config Config
	gate   *gate
}

const (
	maxReason   = 256 // bytes of the reason of an abort or pause
	defaultPage = 100
)

// CheckPlan implements the method of the same name.
func (s *service) CheckPlan(
	ctx context.Context, request *connect.Request[sluicev1.CheckPlanRequest],
) (*connect.Response[sluicev1.CheckPlanResponse], error) {
	program, faults, err := decode(request.Msg.GetProgram())
	if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		return connect.NewResponse(&sluicev1.CheckPlanResponse{
			Verdict: string(microkernel.Reject), Code: string(faults[0].Code), Faults: faultsOut(faults),
		}), nil
	}
	verdict, expanded, err := s.config.Kernel.Evaluate(principal(ctx), program)
	if err != nil {
		return nil, kernelError(err)
	}
	answer := &sluicev1.CheckPlanResponse{
		Verdict: string(verdict.Outcome), Code: string(verdict.Code), Epoch: verdict.Epoch,
		Faults: faultsOut(verdict.Faults), Expanded: spell(expanded),
	}
	if configs, known := s.config.Proxies.(ProxyConfigs); known && request.Msg.GetDiff() && verdict.Outcome != microkernel.Reject {
		changes, leftOff, err := configs.Preview(&expanded, maxChanges)
		if err != nil {
			return nil, connect.NewError(connect.CodeFailedPrecondition, err)
		}
		answer.Diff, answer.DiffLeftOff = changes, int32(min(leftOff, math.MaxInt32))
	}
	return connect.NewResponse(answer), nil
}

// maxChanges bounds the changes that one answer shows.
const maxChanges = 200

// ProposePlan implements the method of the same name. What cannot be decoded is
// answered with verdict reject and the faults, like every other refusal, and journalled.
func (s *service) ProposePlan(
	ctx context.Context, request *connect.Request[sluicev1.ProposePlanRequest],
) (*connect.Response[sluicev1.ProposePlanResponse], error) {
	program, faults, err := decode(request.Msg.GetProgram())
	if err != nil {
		return nil, err
	}
	if len(faults) > 0 {
		verdict, err := s.config.Kernel.Refuse(ctx, principal(ctx), request.Msg.GetProgram().GetSource(), faults)
		if err != nil {
			return nil, kernelError(err)
		}
		if verdict.Outcome != microkernel.Throttle {
			verdict.Faults = faults
		}
		return connect.NewResponse(&sluicev1.ProposePlanResponse{
			Verdict: string(verdict.Outcome), Code: string(verdict.Code), Phase: string(microkernel.Refused),
			RetryAfter: durationOut(verdict), Faults: faultsOut(verdict.Faults),
		}), nil
	}
	verdict, record, err := s.config.Kernel.Submit(ctx, principal(ctx), program)
	if err != nil {
		return nil, kernelError(err)
	}
	return connect.NewResponse(&sluicev1.ProposePlanResponse{
		Id: program.ID, Verdict: string(verdict.Outcome), Code: string(verdict.Code),
		Phase: string(phaseOf(verdict, record)), Epoch: verdict.Epoch,
		RetryAfter: durationOut(verdict), Faults: faultsOut(verdict.Faults),
	}), nil
}

// phaseOf is the record's phase; a plan that left no record was refused.
func phaseOf(verdict microkernel.Verdict, record microkernel.Record) microkernel.Phase {
	refused := verdict.Outcome == microkernel.Reject || verdict.Outcome == microkernel.Throttle
	if record.Phase == "" && refused {
		return microkernel.Refused
	}
	return record.Phase
}

func durationOut(verdict microkernel.Verdict) *durationpb.Duration {
	if verdict.RetryAfter <= 0 {
		return nil
	}
	return durationpb.New(verdict.RetryAfter)
}

// ApprovePlan implements the method of the same name.
func (s *service) ApprovePlan(
	ctx context.Context, request *connect.Request[sluicev1.ApprovePlanRequest],
) (*connect.Response[sluicev1.ApprovePlanResponse], error) {
	id, err := s.known(request.Msg.GetId())
	if err != nil {
		return nil, err
	}
	verdict, record, err := s.config.Kernel.Approve(ctx, principal(ctx), id)
	if err != nil {
		return nil, kernelError(err)
	}
	if record.Phase == microkernel.Held || verdict.Outcome == microkernel.Reject && verdict.Code == isa.CodeAuthz {
		return nil, refusedBy(verdict)
	}
	return connect.NewResponse(&sluicev1.ApprovePlanResponse{Plan: planOut(record)}), nil
}

// AbortPlan implements the method of the same name.
func (s *service) AbortPlan(
	ctx context.Context, request *connect.Request[sluicev1.AbortPlanRequest],
) (*connect.Response[sluicev1.AbortPlanResponse], error) {
	id, err := s.known(request.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if err := checkReason(request.Msg.GetReason()); err != nil {
		return nil, err
	}
	before, _ := s.config.Kernel.Record(id)
	if before.Phase.Final() {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("plan %s has ended: %s", id, before.Phase))
	}
	record, err := s.config.Kernel.Abort(ctx, principal(ctx), id, request.Msg.GetReason())
	if err != nil {
		return nil, kernelError(err)
	}
	if record.Phase == before.Phase && record.Phase != microkernel.Compensating {
		return nil, connect.NewError(connect.CodePermissionDenied,
			fmt.Errorf("authz: %s may not abort plan %s of %s", principal(ctx).Name, id, before.Proposer.Name))
	}
	return connect.NewResponse(&sluicev1.AbortPlanResponse{Plan: planOut(record)}), nil
}

// Pause implements the method of the same name.
func (s *service) Pause(
	ctx context.Context, request *connect.Request[sluicev1.PauseRequest],
) (*connect.Response[sluicev1.PauseResponse], error) {
	id, err := s.knownOrAll(request.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if err := checkReason(request.Msg.GetReason()); err != nil {
		return nil, err
	}
	if err := s.config.Kernel.Pause(ctx, principal(ctx), id, request.Msg.GetReason()); err != nil {
		return nil, kernelError(err)
	}
	return connect.NewResponse(&sluicev1.PauseResponse{}), nil
}

// Resume implements the method of the same name.
func (s *service) Resume(
	ctx context.Context, request *connect.Request[sluicev1.ResumeRequest],
) (*connect.Response[sluicev1.ResumeResponse], error) {
	id, err := s.knownOrAll(request.Msg.GetId())
	if err != nil {
		return nil, err
	}
	if err := s.config.Kernel.Resume(ctx, principal(ctx), id); err != nil {
		return nil, kernelError(err)
	}
	return connect.NewResponse(&sluicev1.ResumeResponse{}), nil
}

// GetPlan implements the method of the same name.
func (s *service) GetPlan(
	_ context.Context, request *connect.Request[sluicev1.GetPlanRequest],
) (*connect.Response[sluicev1.GetPlanResponse], error) {
	id, err := planID(request.Msg.GetId())
	if err != nil {
		return nil, err
	}
	record, found := s.config.Kernel.Record(id)
	if !found {
		return nil, unknownPlan(id)
	}
	return connect.NewResponse(&sluicev1.GetPlanResponse{Plan: planOut(record)}), nil
}

// ListPlans implements the method of the same name. The page token is the id of the
// last plan of the page before, so pages stay whole while plans are added.
func (s *service) ListPlans(
	_ context.Context, request *connect.Request[sluicev1.ListPlansRequest],
) (*connect.Response[sluicev1.ListPlansResponse], error) {
	size := int(request.Msg.GetPageSize())
	if size < 0 || size > MaxPage {
		return nil, invalid("page_size", "%d is not between 0 (the default, %d) and %d", size, defaultPage, MaxPage)
	}
	if size == 0 {
		size = defaultPage
	}
	records := s.config.Kernel.Records()
	if token := request.Msg.GetPageToken(); token != "" {
		at := indexAfter(records, token)
		if at < 0 {
			return nil, invalid("page_token", "%+q names no plan that is still remembered: begin anew", cut(token))
		}
		records = records[at:]
	}
	answer := &sluicev1.ListPlansResponse{}
	for i := range records[:min(size, len(records))] {
		answer.Plans = append(answer.Plans, planOut(records[i]))
	}
	if len(records) > size {
		answer.NextPageToken = string(records[size-1].ID)
	}
	return connect.NewResponse(answer), nil
}

// indexAfter returns the index behind the record with id, -1 if there is none.
func indexAfter(records []microkernel.Record, id string) int {
	for i := range records {
		if string(records[i].ID) == id {
			return i + 1
		}
	}
	return -1
}

// WatchPlan implements the method of the same name.
func (s *service) WatchPlan(
	ctx context.Context, request *connect.Request[sluicev1.WatchPlanRequest],
	stream *connect.ServerStream[sluicev1.WatchPlanResponse],
) error {
	id, err := s.known(request.Msg.GetId())
	if err != nil {
		return err
	}
	records, cancel := s.config.Kernel.Watch(id)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return kernelError(ctx.Err())
		case record, open := <-records:
			if !open {
				return nil
			}
			if err := stream.Send(&sluicev1.WatchPlanResponse{Plan: planOut(record)}); err != nil {
				return fmt.Errorf("send plan %s: %w", id, err)
			}
		}
	}
}

// planID checks the spelling of a plan's id.
func planID(text string) (microkernel.PlanID, error) {
	if text == "" || len(text) > 64 {
		return "", invalid("id", "is %d bytes long, between 1 and 64 are allowed", len(text))
	}
	for i := range len(text) {
		c := text[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return "", invalid("id", "has byte %s at offset %d; allowed are a-z, 0-9 and '-'",
				strconv.QuoteToASCII(text[i:i+1]), i)
		}
	}
	return microkernel.PlanID(text), nil
}

// known checks that id is one that the kernel remembers.
func (s *service) known(text string) (microkernel.PlanID, error) {
	id, err := planID(text)
	if err != nil {
		return "", err
	}
	if _, found := s.config.Kernel.Record(id); !found {
		return "", unknownPlan(id)
	}
	return id, nil
}

func (s *service) knownOrAll(text string) (microkernel.PlanID, error) {
	if text == "" {
		return "", nil
	}
	return s.known(text)
}

func checkReason(reason string) error {
	if len(reason) > maxReason || !utf8.ValidString(reason) {
		return invalid("reason", "must be UTF-8 text of at most %d bytes", maxReason)
	}
	return nil
}

func cut(text string) string { return text[:min(80, len(text))] }

// decode reads a program; what is wrong with the message itself is an error, what is
// wrong with the program are faults.
func decode(program *sluicev1.Program) (isa.Program, []isa.Fault, error) {
	if len(program.GetSource()) == 0 {
		return isa.Program{}, nil, invalid("program.source", "is empty")
	}
	if len(program.GetSource()) > MaxProgram {
		return isa.Program{}, []isa.Fault{{
			Code: isa.CodeTooLarge, Path: "program.source",
			Reason: fmt.Sprintf("the program is %d bytes long, at most %d are allowed", len(program.GetSource()), MaxProgram),
			Remedy: "split it into several plans",
		}}, nil
	}
	if _, known := sluicev1.Program_Format_name[int32(program.GetFormat())]; !known {
		return isa.Program{}, nil, invalid("program.format", "%d is no format", program.GetFormat())
	}
	p, faults := decodeSource(program)
	return p, faults, nil
}
