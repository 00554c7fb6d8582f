package server

import (
	"context"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

// Kernel is what the API needs of the control plane's kernel.
type Kernel interface {
	Proposals
	Control
	Records
}

// Proposals judges programs. What cannot be judged at all (journal not writable, shut
// down) is an error; a refusal is a verdict.
type Proposals interface {
	// Submit hands a program in for execution and returns the verdict and the record.
	Submit(ctx context.Context, by microkernel.Principal, p isa.Program) (microkernel.Verdict, microkernel.Record, error)
	// Evaluate judges a program without journalling or running it, and returns the
	// verdict and the expanded program.
	Evaluate(by microkernel.Principal, p isa.Program) (microkernel.Verdict, isa.Program, error)
}

// Control steers plans that were handed in. A *driver.Refused carries the code of a
// refusal.
type Control interface {
	Approve(ctx context.Context, by microkernel.Principal, id microkernel.PlanID) (microkernel.Record, error)
	Abort(ctx context.Context, by microkernel.Principal, id microkernel.PlanID, reason string) (microkernel.Record, error)
	Pause(ctx context.Context, by microkernel.Principal, id microkernel.PlanID, reason string) error
	Resume(ctx context.Context, by microkernel.Principal, id microkernel.PlanID) error
}

// Records reads what the kernel remembers.
type Records interface {
	// Record returns one plan's record, false if the kernel does not remember it.
	Record(id microkernel.PlanID) (microkernel.Record, bool)
	// Records returns every record, newest first.
	Records() []microkernel.Record
	// Watch sends the record as it is, then again after changes, until the plan is final
	// or ctx ends; then the channel is closed. An unknown plan is an error.
	Watch(ctx context.Context, id microkernel.PlanID) (<-chan microkernel.Record, error)
	// Status returns the state of the kernel as a whole.
	Status() KernelStatus
}

// KernelStatus is the state of the kernel as a whole.
type KernelStatus struct {
	Mode    microkernel.Mode
	Term    uint64
	Paused  bool
	Frozen  string // why, "" if it is not
	Running int    // plans that are not final
}

// Topology answers questions on the call graph. Answers belong to the caller.
type Topology interface {
	// Graph returns the present graph with its rates.
	Graph() *sluicev1.GetTopologyResponse
	// Group returns the group of a symptom, or of a planned restart. ErrUnknownService
	// if the service is neither in the graph nor in the registry.
	Group(question *sluicev1.GetGroupRequest) (*sluicev1.GetGroupResponse, error)
}

// Symptoms lists the objectives that are broken now.
type Symptoms interface {
	Symptoms() []Symptom
}

// Symptom is a service whose objective is broken.
type Symptom struct {
	Service    mesh.Service
	Onset      time.Time
	Noticed    time.Time
	Evidence   string
	ErrorShare float64
	P99        time.Duration
}

// Proxies lists the Envoys that this control plane configures.
type Proxies interface {
	Proxies() []Proxy
}

// Proxy is one Envoy as the xDS server sees it.
type Proxy struct {
	Node         string
	Service      mesh.Service
	Connected    bool
	Since        time.Time // of the connection, or of its loss
	EnvoyVersion string
	Types        []ProxyType
	Overlays     []mesh.OverlayKey // in force at this proxy
}

// ProxyType is the state of one xDS type at one proxy.
type ProxyType struct {
	Type      string // cds, eds, lds, rds, rtds
	Sent      string // last version
	Acked     string // last version
	Nack      string // Envoy's text, "" if its last answer was an ACK
	At        time.Time
	Resources int
}

// Registry is the world as last observed.
type Registry interface {
	World() *mesh.World
}
