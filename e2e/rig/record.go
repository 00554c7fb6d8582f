package rig

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// Envoy returns the version that the proxies reported, "" if none has.
func (r *Rig) Envoy(ctx context.Context) (string, error) {
	api, err := r.API(ctx)
	if err != nil {
		return "", err
	}
	answer, err := api.GetStatus(ctx, connect.NewRequest(&sluicev1.GetStatusRequest{}))
	if err != nil {
		return "", fmt.Errorf("status: %w", err)
	}
	return answer.Msg.GetEnvoyVersion(), nil
}

// Plans lists the newest hundred plans of those that were admitted, oldest first.
func (r *Rig) Plans(ctx context.Context) ([]*sluicev1.Plan, error) { return r.Recent(ctx, 100) }

// Recent lists those of the newest most plans that were admitted, oldest first.
func (r *Rig) Recent(ctx context.Context, most int32) ([]*sluicev1.Plan, error) {
	api, err := r.API(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := api.ListPlans(ctx, connect.NewRequest(&sluicev1.ListPlansRequest{PageSize: most}))
	if err != nil {
		return nil, fmt.Errorf("plans: %w", err)
	}
	var plans []*sluicev1.Plan
	for _, plan := range answer.Msg.GetPlans() {
		if plan.GetVerdict() == "admit" || len(plan.GetSteps()) > 0 && plan.GetSteps()[0].GetStarted() != nil {
			plans = append([]*sluicev1.Plan{plan}, plans...)
		}
	}
	return plans, nil
}

// Symptoms lists the present symptoms.
func (r *Rig) Symptoms(ctx context.Context) ([]*sluicev1.Symptom, error) {
	api, err := r.API(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := api.ListSymptoms(ctx, connect.NewRequest(&sluicev1.ListSymptomsRequest{}))
	if err != nil {
		return nil, fmt.Errorf("symptoms: %w", err)
	}
	return answer.Msg.GetSymptoms(), nil
}

// Group asks for the recovery group of a symptom.
func (r *Rig) Group(ctx context.Context, service string) (*sluicev1.GetGroupResponse, error) {
	api, err := r.API(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := api.GetGroup(ctx, connect.NewRequest(&sluicev1.GetGroupRequest{Service: service}))
	if err != nil {
		return nil, fmt.Errorf("group of %s: %w", service, err)
	}
	return answer.Msg, nil
}

// Final reports whether a plan has come to its end.
func Final(plan *sluicev1.Plan) bool {
	switch plan.GetPhase() {
	case "committed", "compensated", "frozen", "refused":
		return true
	}
	return plan.GetEnded() != nil
}

// Effects returns when a plan had its first effect and when that first step was
// confirmed by all ACKs; nil = not yet.
func Effects(plan *sluicev1.Plan) (first, confirmed *time.Time) {
	var step *sluicev1.PlanStep
	for _, s := range plan.GetSteps() {
		if s.GetStarted() != nil && (step == nil || s.GetStarted().AsTime().Before(step.GetStarted().AsTime())) {
			step = s
		}
	}
	if step == nil {
		return nil, nil
	}
	confirmed = At(step.GetAcked())
	if confirmed == nil {
		confirmed = At(step.GetEnded())
	}
	return At(step.GetStarted()), confirmed
}

// Restarts lists the services that a plan restarts, in the order in which it does.
func Restarts(plan *sluicev1.Plan) []string {
	var order []string
	for _, step := range plan.GetSteps() {
		for _, service := range RestartOf(step.GetAction(), step.GetTarget()) {
			if !slices.Contains(order, service) {
				order = append(order, service)
			}
		}
	}
	return order
}

// RestartOf is the service that a step restarts; none if it does something else.
func RestartOf(action, target string) []string {
	if !strings.EqualFold(action, "restart") {
		return nil
	}
	return []string{serviceOf(target)}
}

// serviceOf returns NAMESPACE/NAME of a target as plans print it: the service, then
// perhaps an instance.
func serviceOf(target string) string {
	target, _, _ = strings.Cut(target, " ")
	for _, mark := range []string{"@", "#", ":"} {
		target, _, _ = strings.Cut(target, mark)
	}
	parts := strings.SplitN(target, "/", 3)
	return strings.Join(parts[:min(len(parts), 2)], "/")
}

// At converts a time of the API, nil stays nil.
func At(stamp *timestamppb.Timestamp) *time.Time {
	if stamp == nil {
		return nil
	}
	at := stamp.AsTime()
	return &at
}
