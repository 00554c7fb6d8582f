package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The group and the kinds.
const (
	Group        = "sluicemesh.io"
	Version      = "v1alpha1"
	GroupVersion = Group + "/" + Version

	KindPlan     = "RecoveryPlan"
	KindApproval = "RecoveryApproval"
	KindPolicy   = "RecoveryPolicy"
	KindJournal  = "RecoveryJournal"
)

// Resources returns the plural of a kind for clients; "" for one that is none of ours.
func Resources(kind string) schema.GroupVersionResource {
	plural := map[string]string{
		KindPlan: "recoveryplans", KindApproval: "recoveryapprovals",
		KindPolicy: "recoverypolicies", KindJournal: "recoveryjournals",
	}[kind]
	return schema.GroupVersionResource{Group: Group, Version: Version, Resource: plural}
}

// RecoveryPlan asks for a recovery.
type RecoveryPlan struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              RecoveryPlanSpec   `json:"spec"`
	Status            RecoveryPlanStatus `json:"status,omitzero"`
}

// RecoveryPlanSpec is immutable.
type RecoveryPlanSpec struct {
	// Program is the plan as the instruction set has it in JSON (docs/isa.md); its id must be
	// the object's name. It is decoded by the control plane alone, as strictly as everywhere.
	Program runtime.RawExtension `json:"program"`
	// Proposer is the user name of whoever creates the object; the API server lets in no
	// other (ValidatingAdmissionPolicy sluice-identity).
	Proposer string `json:"proposer"`
}

// RecoveryPlanStatus is what the control plane says of a plan.
type RecoveryPlanStatus struct {
	Phase      string             `json:"phase,omitempty"` // as in the record; "" = not looked at
	Verdict    string             `json:"verdict,omitempty"`
	Code       string             `json:"code,omitempty"`
	Message    string             `json:"message,omitempty"`
	Hash       string             `json:"hash,omitempty"` // of the expanded program; what an approval names
	Epoch      string             `json:"epoch,omitempty"`
	Steps      []StepStatus       `json:"steps,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// StepStatus is one step of the expanded program.
type StepStatus struct {
	ID     string `json:"id"`
	Action string `json:"action"`
	Target string `json:"target,omitempty"`
	State  string `json:"state"`
	Grade  string `json:"grade,omitempty"`
}

// Conditions of a plan.
const (
	ConditionAccepted  = "Accepted"  // it was read and judged admissible, or is held
	ConditionApproved  = "Approved"  // somebody else let it go on
	ConditionCompleted = "Completed" // it has ended, True = committed
)

// RecoveryApproval lets a held plan go on.
type RecoveryApproval struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              RecoveryApprovalSpec   `json:"spec"`
	Status            RecoveryApprovalStatus `json:"status,omitzero"`
}

// RecoveryApprovalSpec is immutable.
type RecoveryApprovalSpec struct {
	Plan     string `json:"plan"`     // name of the RecoveryPlan in the same namespace
	Hash     string `json:"hash"`     // status.hash of the plan that was looked at
	Approver string `json:"approver"` // user name of whoever creates the object
}

// RecoveryApprovalStatus says what came of an approval.
type RecoveryApprovalStatus struct {
	Verdict string `json:"verdict,omitempty"` // of the plan, after the approval
	Message string `json:"message,omitempty"`
}

// RecoveryPolicy is what plans are judged by. The one called "default" in the namespace of
// the control plane counts.
type RecoveryPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              RecoveryPolicySpec `json:"spec"`
}

// RecoveryPolicySpec sets limits; what it leaves out is as documented.
type RecoveryPolicySpec struct {
	Mode                string   `json:"mode,omitempty"`       // Observe, Propose, Enforce
	LeastGrade          string   `json:"leastGrade,omitempty"` // A, B, C
	ProtectedNamespaces []string `json:"protectedNamespaces,omitempty"`
	ProtectedServices   []string `json:"protectedServices,omitempty"` // NAMESPACE/NAME
	RestartsPerService  int      `json:"restartsPerService,omitempty"`
	MaxPlanServices     int      `json:"maxPlanServices,omitempty"`
	EvidenceAge         string   `json:"evidenceAge,omitempty"` // duration
	Scopes              []Scope  `json:"scopes,omitempty"`
}

// Scope confines a principal to namespaces.
type Scope struct {
	Principal string   `json:"principal"`
	Allow     []string `json:"allow,omitempty"`
	Deny      []string `json:"deny,omitempty"`
}

// RecoveryJournal is internal: see mesh/kube/disk.
type RecoveryJournal struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              RecoveryJournalSpec `json:"spec"`
}

// RecoveryJournalSpec is the directory of a journal.
type RecoveryJournalSpec struct {
	Holder   string        `json:"holder,omitempty"` // replica that wrote last
	Files    []JournalFile `json:"files,omitempty"`
	Archived []string      `json:"archived,omitempty"` // names of files in objects of their own, oldest first
}

// JournalFile is one file: Size bytes, of which Data is the gzip up to the last one that
// is not zero.
type JournalFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	Data []byte `json:"data,omitempty"`
}
