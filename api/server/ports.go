package server

import (
	"context"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/topology/symptom"
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
	// Refuse records that by handed in what cannot be read, and returns the verdict.
	Refuse(ctx context.Context, by microkernel.Principal, source []byte, faults []isa.Fault) (microkernel.Verdict, error)
	// Evaluate judges a program without journalling or running it, and returns the
	// verdict and the expanded program.
	Evaluate(by microkernel.Principal, p isa.Program) (microkernel.Verdict, isa.Program, error)
}

// Control steers plans that were handed in. A *driver.Refused carries the code of a
// refusal.
type Control interface {
	// Approve lets a held plan go on and returns the verdict on that.
	Approve(
		ctx context.Context, by microkernel.Principal, id microkernel.PlanID,
	) (microkernel.Verdict, microkernel.Record, error)
	// Abort stops a plan. A record that did not change says that by may not.
	Abort(ctx context.Context, by microkernel.Principal, id microkernel.PlanID, reason string) (microkernel.Record, error)
	// Pause stops new effects of a plan, "" = of all.
	Pause(ctx context.Context, by microkernel.Principal, id microkernel.PlanID, reason string) error
	// Resume ends a pause; an admin's also clears a freeze.
	Resume(ctx context.Context, by microkernel.Principal, id microkernel.PlanID) error
}

// Records reads what the kernel remembers.
type Records interface {
	// Record returns one plan's record, false if the kernel does not remember it.
	Record(id microkernel.PlanID) (microkernel.Record, bool)
	// Records returns every record, newest first.
	Records() []microkernel.Record
	// Watch sends the record as it is, then again after changes; the channel is closed
	// after that of a final phase, by cancel, and when the kernel ends.
	Watch(id microkernel.PlanID) (records <-chan microkernel.Record, cancel func())
	// Status returns the state of the kernel as a whole.
	Status() driver.Status
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
type Symptom = symptom.Symptom

// Proxies lists the Envoys that this control plane configures.
type Proxies interface {
	Proxies() []Proxy
}

// ProxyConfigs is what a Proxies may know besides: what the Envoys are sent.
type ProxyConfigs interface {
	// Config lists the resources that a proxy is offered now.
	Config(node string) []*sluicev1.ProxyResource
	// Overlaid lists what the overlays in force change of them.
	Overlaid(node string) []*sluicev1.ProxyChange
	// Preview lists what the steps of an expanded program would change at the proxies, at
	// most so many changes, and how many are left off.
	Preview(p *isa.Program, most int) (changes []*sluicev1.ProxyChange, leftOff int, err error)
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
