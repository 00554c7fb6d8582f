package isa

import (
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Env is what the checks that need the world rest on: plain data, gathered by the
// caller for one program. Facts about a service that is not listed are unknown, and
// a target that is not listed does not exist. Validate and Expand only read it.
type Env struct {
	GraphSize    int            // services in the call graph
	Services     []ServiceFacts // sorted by name: all that the program touches, and the restart set
	RestartSet   []mesh.Service // the union over what the program restarts
	DrainOrder   []mesh.Service // callers before callees
	RestartOrder []mesh.Service // callees before callers
	RestoreOrder []mesh.Service // callees before callers
	Limits       Limits         // the zero value of a limit means the documented default
}

// ServiceFacts is what is known of one service.
type ServiceFacts struct {
	mesh.ServiceState
	FanIn         int            // distinct direct callers, gateways included
	Callers       []mesh.Service // direct callers
	Component     []mesh.Service // its strongly connected component, itself included
	StickyCallers []mesh.Service
	Rate          float64 // requests a second, 5-minute p95; 0 = unknown
	Concurrency   float64 // p99 of concurrent requests; 0 = unknown
	Takes         bool    // it takes inbound traffic at all
}

// Limits are the limits of RecoveryPolicy that the static checks know.
type Limits struct {
	MaxGroupSize        int           // services in one restart set
	FanInMustDrain      int           // above this a restart needs a drain of its own
	MaxPlanServices     int           // restarted beyond the group's own restart set ...
	MaxPlanShare        float64       // ... or this share of the graph, whichever is greater ...
	MaxPlanCeiling      int           // ... but never more than this
	LimitShareOfLoad    float64       // least RateLimit as a share of Rate
	BreakConcurrency    float64       // least CircuitBreak as a multiple of Concurrency
	MaxLease            time.Duration // without approval
	MaxDrainDeadline    time.Duration // without approval
	ProtectedNamespaces []string
	ProtectedServices   []mesh.Service
	Self                []mesh.Service // the control plane's own parts
}

// Find returns the facts about service, nil if it is not listed. O(log n).
func (e *Env) Find(service mesh.Service) *ServiceFacts {
	if i := e.position(service); i >= 0 {
		return &e.Services[i]
	}
	return nil
}

// position returns where service stands in e.Services, -1 if it is not listed. O(log n).
func (e *Env) position(service mesh.Service) int {
	low, high := 0, len(e.Services) // by hand: slices.BinarySearchFunc copies the facts at each step
	for low < high {
		switch i := int(uint(low+high) / 2); strings.Compare(string(e.Services[i].Name), string(service)) {
		case 0:
			return i
		case -1:
			low = i + 1
		default:
			high = i
		}
	}
	return -1
}

// Selects reports whether t is about instance i. A target without instance, UID or
// subset is about every instance of its service, a group about those of its members.
func (t *Target) Selects(i *mesh.Instance) bool {
	if len(t.Group) > 0 {
		return slices.Contains(t.Group, i.Service)
	}
	return t.Service == i.Service &&
		(t.Instance == "" || t.Instance == i.Name) &&
		(t.UID == "" || t.UID == i.UID) &&
		(t.Zone == "" || t.Zone == i.Zone) &&
		(t.Version == "" || t.Version == i.Version) &&
		(len(t.UIDs) == 0 || slices.Contains(t.UIDs, i.UID))
}
