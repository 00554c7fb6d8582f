package microkernel

import (
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// View is everything outside the kernel's own state that a verdict on one program
// rests on. It is gathered by the driver, journalled with the event that carries it,
// and so lets every decision be explained from the record alone. Lists are sorted
// unless an order is their meaning.
type View struct {
	Epoch       string
	GraphSize   int           // services in the call graph
	Services    []ServiceView // every service that the program touches, and the restart set
	RestartSet  []mesh.Service
	DrainOrder  []mesh.Service // callers before callees
	RestartSeq  []mesh.Service // callees before callers
	RestoreSeq  []mesh.Service // callees before callers
	BlastRadius []mesh.Service // all that reach the restart set by calls, gateways too
	Group       []mesh.Service // of the symptom, if the plan answers one
	Requests    uint64         // evidence behind the graph
	Declared    bool           // a declared graph exists
	Sampling    float64        // least share of requests seen, 0..1; 1 = all (mesh metrics, access logs)
	Cut         []CallEdge     // the cheapest cut, when the restart set is above the limit
	Incident    []mesh.Service // services of the blast radius whose objective is broken now
}

// ServiceView is what the kernel knows of one service while it judges.
type ServiceView struct {
	mesh.ServiceState
	Capability     mesh.Capability
	FanIn          int            // distinct direct callers, gateways included
	Callers        []mesh.Service // direct callers
	Component      []mesh.Service // its strongly connected component, itself included
	StickyCallers  []mesh.Service
	RestartP99     time.Duration // own history, else declared; 0 = unknown
	CallerDeadline time.Duration // least deadline of its callers, 0 = unbounded
	Rate           float64       // requests a second, 5-minute p95
	Concurrency    float64       // p99 of concurrent requests
	Utilisation    float64       // share of capacity in use, 0..1; 0 = unknown
	Symptom        bool          // its objective is broken now
	Takes          bool          // it takes inbound traffic at all
	Declares       bool          // its dependencies, or it as one, are declared
	Known          time.Duration // since when there is evidence of its calls, 0 = none
}

// CallEdge is caller -> callee.
type CallEdge struct {
	Caller, Callee mesh.Service
	Calls          uint64
}

// Find returns the view of service, nil if it is not in v. O(n).
func (v *View) Find(service mesh.Service) *ServiceView {
	for i := range v.Services {
		if v.Services[i].Name == service {
			return &v.Services[i]
		}
	}
	return nil
}
