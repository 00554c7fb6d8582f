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
	Crowded     []mesh.Service // direct callers of what is drained or restarted that have no headroom left, sorted
	Rollback    bool           // configuration can be rolled back here at all
	Objects     []ObjectView   // the objects that the program rolls back and that there are, sorted by name
}

// ObjectView is what the kernel knows of one configuration object while it judges.
type ObjectView struct {
	Name     string         // "kind/namespace/name"
	Services []mesh.Service // that it configures, sorted
	Current  string         // revision in force
	Known    []string       // revisions that were in force and ACKed, and are still kept; sorted
	Denied   []string       // revisions that must not come back; sorted
	Owner    string         // who else writes it (GitOps, a person's tool), "" = nobody
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
	Fixed          bool          // the number of its instances cannot be set here
	Owner          string        // who else sets the number of its instances (an autoscaler, GitOps), "" = nobody
}

// CallEdge is caller -> callee.
type CallEdge struct {
	Caller, Callee mesh.Service
	Calls          uint64
}

// Object returns the view of the object called name, nil if it is not in v. O(n).
func (v *View) Object(name string) *ObjectView {
	for i := range v.Objects {
		if v.Objects[i].Name == name {
			return &v.Objects[i]
		}
	}
	return nil
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
