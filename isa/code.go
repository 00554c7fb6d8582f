package isa

import "fmt"

// Code says why a program was not simply admitted. Codes are one enumeration for
// the checker, the microkernel and every surface; they are never renamed.
type Code string

// Codes. Static ones come from decoding and Check, the others from admission.
const (
	CodeDecode               Code = "decode"
	CodeName                 Code = "name"
	CodeTooLarge             Code = "too-large"
	CodeRange                Code = "range"
	CodeCycle                Code = "cycle"
	CodeUnknownTarget        Code = "unknown-target"
	CodeUnknownStep          Code = "unknown-step"
	CodeLinear               Code = "linear" // drain not consumed exactly once, or borrowed after it
	CodeOrder                Code = "order"
	CodeLease                Code = "lease"
	CodeScaleFloor           Code = "scale-floor"
	CodeEquivalentToDrain    Code = "equivalent-to-drain"
	CodeSelf                 Code = "self"
	CodeProtected            Code = "protected"
	CodeProtectedNamespace   Code = "protected-namespace"
	CodeDrainRequired        Code = "drain-required"
	CodeBlastRadius          Code = "blast-radius"
	CodeGroupTooLarge        Code = "group-too-large"
	CodeNoCapacity           Code = "no-capacity"
	CodeTooSlow              Code = "too-slow"
	CodeHoldUnavailable      Code = "hold-unavailable"
	CodeUnsupported          Code = "unsupported"
	CodeNotDrainable         Code = "not-drainable"
	CodeStaleEpoch           Code = "stale-epoch"
	CodeConflict             Code = "conflict"
	CodeIDConflict           Code = "id-conflict"
	CodeExpired              Code = "expired"
	CodeAuthn                Code = "authn"
	CodeAuthz                Code = "authz"
	CodeRestartBudget        Code = "restart-budget"
	CodeAggregateBudget      Code = "aggregate-budget"
	CodeDrainBudget          Code = "drain-budget"
	CodeAgentBudget          Code = "agent-budget"
	CodeRate                 Code = "rate"
	CodeQuorum               Code = "quorum"
	CodeBudget               Code = "budget"
	CodeInsufficientEvidence Code = "insufficient-evidence"
	CodeForeignOwner         Code = "foreign-owner"
	CodeUnknownVersion       Code = "unknown-version"
	CodeDenied               Code = "denied"
	CodeFrozen               Code = "frozen"
	CodePaused               Code = "paused"
	CodeObserve              Code = "observe" // mode Observe: recorded, never run
	CodePropose              Code = "propose" // mode Propose: held for approval
)

// Fault is one thing that is wrong with a program, with where it stands and what
// to do about it. Line and Column are 1-based, 0 = unknown; Path is a JSON path
// such as "steps[2].drain.share".
type Fault struct {
	Code   Code   `json:"code"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Path   string `json:"path"`
	Reason string `json:"reason"`
	Remedy string `json:"remedy"`
}

// Error implements error.
func (f Fault) Error() string {
	place := f.Path
	if f.Line > 0 {
		place = fmt.Sprintf("%d:%d %s", f.Line, f.Column, f.Path)
	}
	return fmt.Sprintf("%s: %s: %s (%s)", place, f.Code, f.Reason, f.Remedy)
}

// Meaning is one row of the enumeration of codes.
type Meaning struct {
	Code    Code
	Verdict string // as a rule: reject, hold, throttle
	Text    string
}

// Meanings returns every code with the verdict that it comes with as a rule and what it
// says. A hold becomes an admission when another principal approves the plan.
func Meanings() []Meaning {
	return append(staticMeanings(), admissionMeanings()...)
}

// staticMeanings are the codes of decoding and of the static checker.
func staticMeanings() []Meaning {
	return []Meaning{
		{CodeDecode, "reject",
			"the source is malformed: syntax, unknown, duplicate or missing field, wrong type or word"},
		{CodeName, "reject", "a name is not DNS-1123, or an id is malformed or used twice; nothing is repaired"},
		{CodeTooLarge, "reject",
			"more bytes, values, levels or steps than a plan may have; refused before it is parsed"},
		{CodeRange, "reject", "a number or duration outside its range"},
		{CodeCycle, "reject", "steps wait for each other"},
		{CodeUnknownTarget, "reject", "a service or instance does not exist"},
		{CodeUnknownStep, "reject", "a step names a step that does not exist"},
		{CodeLinear, "reject",
			"a drain is not given back exactly once, or used outside the time in which it is in force"},
		{CodeOrder, "reject", "against one of the three orders, or a restart set that is not restarted as a whole"},
		{CodeLease, "reject", "a lease does not cover the deadlines up to the restore"},
		{CodeScaleFloor, "reject",
			"fewer replicas than the service needs: one, its declared least, quorum and load; drained ones do not count"},
		{CodeEquivalentToDrain, "reject", "a limit or breaker so low that it keeps traffic off: a drain in disguise"},
		{CodeSelf, "reject", "the target, or what the object configures, is part of Sluice itself"},
		{CodeProtected, "reject", "the target, or what the object configures, is protected by policy or by its declaration"},
		{CodeProtectedNamespace, "reject",
			"the namespace of the target, or of what the object configures, is protected by policy"},
		{CodeDrainRequired, "reject", "something that takes traffic would be restarted without a drain of all of it"},
		{CodeNoCapacity, "reject", "a drain leaves too little, and nothing is said of the requests"},
		{CodeBlastRadius, "reject", "too many services are restarted beyond the plan's own restart set"},
		{CodeGroupTooLarge, "hold", "a restart set is above the limit"},
		{CodeTooSlow, "hold", "a lease, deadline or hold above the limit, or a restart longer than callers wait"},
	}
}

// admissionMeanings are the codes of the microkernel and of the surfaces.
func admissionMeanings() []Meaning {
	return []Meaning{
		{CodeHoldUnavailable, "reject", "requests to the target cannot be held in this mesh"},
		{CodeUnsupported, "reject", "the action or operand does not fit the target, or cannot be done in this mesh"},
		{CodeNotDrainable, "reject",
			"traffic cannot be taken off the target with a proof of the grade that policy demands"},
		{CodeStaleEpoch, "reject",
			"the topology has changed where it matters to this plan; the answer has the new epoch"},
		{CodeConflict, "reject", "two steps, or another plan within the TTL, hold the same target or overlay"},
		{CodeIDConflict, "reject", "the id was used for another plan"},
		{CodeExpired, "reject", "the plan's time to live is over"},
		{CodeAuthn, "reject", "nobody knows who asks"},
		{CodeAuthz, "reject", "whoever asks may not do this"},
		{CodeRestartBudget, "reject", "the service was restarted too often; asked again with approval: hold"},
		{CodeAggregateBudget, "reject", "too many distinct services are acted on, fleet-wide"},
		{CodeDrainBudget, "throttle", "the target was drained too often; later: hold"},
		{CodeAgentBudget, "throttle", "one agent acts on too many distinct services; later: hold"},
		{CodeRate, "throttle", "too many plans of one principal"},
		{CodeQuorum, "reject", "a member of a quorum would go down while another is down"},
		{CodeBudget, "reject", "the error budget of a service that is not the symptom's is spent"},
		{CodeInsufficientEvidence, "reject", "too little is known of the call graph; too young evidence: hold"},
		{CodeForeignOwner, "reject", "the object has another owner; the change to commit there is printed"},
		{CodeUnknownVersion, "reject", "the revision was never in force, or is past retention"},
		{CodeDenied, "reject", "the revision is on the deny list"},
		{CodeFrozen, "reject", "the kernel or the plan is frozen until a human clears it"},
		{CodePaused, "reject", "everything is paused"},
		{CodeObserve, "reject", "mode Observe: recorded, never run"},
		{CodePropose, "hold", "mode Propose: every plan waits for approval"},
	}
}
