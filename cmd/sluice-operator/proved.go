package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// proved returns since when both policies that let in only objects which name their creator
// are in force. What it checks is what the chart installs, word for word: a policy that was
// softened proves nothing.
func (o *operator) proved(ctx context.Context) (time.Time, error) {
	latest := time.Time{}
	for _, field := range []string{"proposer", "approver"} {
		since, err := o.enforced(ctx, field)
		if err != nil {
			return time.Time{}, err
		}
		if since.After(latest) {
			latest = since
		}
	}
	return latest, nil
}

// enforced returns since when the API server demands that spec.FIELD is the creator's name.
func (o *operator) enforced(ctx context.Context, field string) (time.Time, error) {
	name := "sluice-" + field
	policies := o.client.AdmissionregistrationV1()
	policy, err := policies.ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return time.Time{}, err
	}
	binding, err := policies.ValidatingAdmissionPolicyBindings().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return time.Time{}, err
	}
	spec := &policy.Spec
	strict := (spec.FailurePolicy == nil || *spec.FailurePolicy == admissionv1.Fail) && len(spec.MatchConditions) == 0 &&
		slices.ContainsFunc(spec.Validations, func(v admissionv1.Validation) bool {
			return v.Expression == "object.spec."+field+" == request.userInfo.username"
		})
	bound := binding.Spec.PolicyName == name && binding.Spec.MatchResources == nil &&
		slices.Contains(binding.Spec.ValidationActions, admissionv1.Deny)
	if !strict || !bound {
		return time.Time{}, fmt.Errorf("the policy %s, or its binding, is not the chart's", name)
	}
	if policy.CreationTimestamp.After(binding.CreationTimestamp.Time) {
		return policy.CreationTimestamp.Time, nil
	}
	return binding.CreationTimestamp.Time, nil
}
