// Package v1alpha1 is the Kubernetes API of Sluice, group sluicemesh.io: recovery plans,
// approvals of them, the policy that they are judged by, and the journal. It is not for
// logic: the types say what is stored, the definitions (CRDs) what the API server lets in.
//
//	RecoveryPlan      a program, who proposes it, and what became of it
//	RecoveryApproval  that somebody else lets a plan go on that is held
//	RecoveryPolicy    mode, limits, protected targets, pause
//	RecoveryJournal   internal: the journal of the control plane
//
// Approving is a kind of its own so that RBAC can part it from proposing.
package v1alpha1
