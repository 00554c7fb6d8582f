package plans

import (
	"cmp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicemesh/sluice/api/v1alpha1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// maxMessage bounds a message, in bytes.
const maxMessage = 4 << 10

// status is what an object says of a record.
func status(r *microkernel.Record) v1alpha1.RecoveryPlanStatus {
	out := v1alpha1.RecoveryPlanStatus{
		Phase: string(r.Phase), Verdict: string(r.Verdict.Outcome), Code: string(r.Verdict.Code),
		Message: bounded(cmp.Or(r.Reason, reasons(r.Verdict))), Hash: r.Hash, Epoch: r.Verdict.Epoch,
	}
	for i := range r.Steps {
		s := &r.Steps[i]
		out.Steps = append(out.Steps, v1alpha1.StepStatus{
			ID: string(s.Step.ID), Action: actionOf(s), Target: targetOf(s), State: string(s.State), Grade: string(s.Grade),
		})
	}
	out.Conditions = append(out.Conditions, accepted(r.Verdict, out.Message))
	if r.Approver.Name != "" {
		out.Conditions = append(out.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionApproved, Status: metav1.ConditionTrue, Reason: "Approved", Message: "by " + r.Approver.Name,
		})
	}
	done := metav1.Condition{
		Type: v1alpha1.ConditionCompleted, Status: metav1.ConditionUnknown, Reason: word(string(r.Phase)), Message: out.Message,
	}
	switch {
	case r.Phase == microkernel.Committed:
		done.Status = metav1.ConditionTrue
	case r.Phase.Final():
		done.Status = metav1.ConditionFalse
	}
	out.Conditions = append(out.Conditions, done)
	return out
}

// refusal is what an object says of a plan that left no record.
func refusal(v microkernel.Verdict) v1alpha1.RecoveryPlanStatus {
	message := bounded(reasons(v))
	return v1alpha1.RecoveryPlanStatus{
		Phase: string(microkernel.Refused), Verdict: string(v.Outcome), Code: string(v.Code), Message: message, Epoch: v.Epoch,
		Conditions: []metav1.Condition{accepted(v, message)},
	}
}

// unproved is what an object says whose creator may be another than it says.
func unproved(why error) v1alpha1.RecoveryPlanStatus {
	message := "it was created before the ValidatingAdmissionPolicies sluice-proposer and sluice-approver; create it again"
	if why != nil {
		message = "nobody can tell who created it: " + why.Error() + "; the chart installs both policies"
	}
	return v1alpha1.RecoveryPlanStatus{
		Phase: string(microkernel.Refused), Verdict: string(microkernel.Reject), Code: string(isa.CodeAuthn), Message: bounded(message),
		Conditions: []metav1.Condition{{
			Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionFalse, Reason: "IdentityUnproved", Message: bounded(message),
		}},
	}
}

func accepted(v microkernel.Verdict, message string) metav1.Condition {
	out := metav1.Condition{Type: v1alpha1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: word(string(v.Outcome)), Message: message}
	if v.Outcome == microkernel.Reject || v.Outcome == microkernel.Throttle {
		out.Status, out.Reason = metav1.ConditionFalse, word(string(v.Code))
	}
	return out
}

// word is a code as a condition's reason: "drain-required" becomes DrainRequired.
func word(code string) string {
	var out strings.Builder
	for part := range strings.SplitSeq(code, "-") {
		if part != "" {
			out.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return cmp.Or(out.String(), "Unknown")
}

// reasons are the faults of a verdict in one line.
func reasons(v microkernel.Verdict) string {
	parts := make([]string, len(v.Faults))
	for i := range v.Faults {
		parts[i] = v.Faults[i].Error()
	}
	return strings.Join(parts, "; ")
}

func bounded(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage]
	}
	return strings.ToValidUTF8(text, "?")
}

func actionOf(s *microkernel.StepRecord) string {
	if s.Step.Action == nil {
		return ""
	}
	return string(s.Step.Action.Kind())
}

// targetOf is what a step is about, "" if that is another step.
func targetOf(s *microkernel.StepRecord) string {
	switch a := s.Step.Action.(type) {
	case isa.Restart:
		return isa.FormatTarget(a.Target)
	case isa.Drain:
		return isa.FormatTarget(a.Target)
	case isa.CircuitBreak:
		return isa.FormatTarget(a.Target)
	case isa.RateLimit:
		return isa.FormatTarget(a.Target)
	case isa.Scale:
		return isa.FormatTarget(a.Target)
	case isa.RollbackConfig:
		return a.Object
	}
	return ""
}
