// Package plans hands RecoveryPlans and RecoveryApprovals, as objects of the Kubernetes API,
// to the kernel, and writes what becomes of them into their status. It is one more surface:
// it decides nothing that the kernel decides.
//
// Who proposes or approves is what the object says (spec.proposer, spec.approver), because
// the API server does not tell afterwards who created an object. That is believed only while
// the ValidatingAdmissionPolicies sluice-proposer and sluice-approver are in force, and of
// objects made after them: they let in no other name than the creator's own.
//
// A plan in a namespace may name services of that namespace only, because that is what the
// right to create one there is worth; plans in the control plane's namespace may name all.
package plans
