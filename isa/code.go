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
