package driver

import (
	"context"
	"fmt"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
	"github.com/sluicemesh/sluice/topology"
)

// Traffic puts overlays on the mesh and proves what they did. All methods are safe for
// concurrent use. Apply and Withdraw of one key never run at the same time: the driver
// ends the one (by its context) before it starts the other.
type Traffic interface {
	// Apply pushes overlay and returns when every required proxy has ACKed its
	// generation. Applying the same generation again is no new change. A NACK, a
	// foreign writer or what the mesh cannot do is a *Refused; when ctx ends first, the
	// error is ctx's and the overlay stays as it is until Withdraw.
	Apply(ctx context.Context, overlay mesh.Overlay) (mesh.Acks, error)
	// Prove calls report with what is known of the overlay's target at once, and again
	// each time the picture changes, until ctx ends (it then returns nil) or the overlay
	// of that generation is no longer there (an error). Calls of report do not overlap;
	// report may block.
	Prove(ctx context.Context, key mesh.OverlayKey, generation uint64, report func(mesh.Proof)) error
	// Extend lets the overlay stay for lease from now on. An overlay that has lapsed,
	// or that has another generation, is an error.
	Extend(ctx context.Context, key mesh.OverlayKey, generation uint64, lease time.Duration) error
	// Withdraw removes the overlay of any generation, giving traffic back over ramp,
	// and returns when every required proxy has ACKed that. An absent overlay is no
	// error.
	Withdraw(ctx context.Context, key mesh.OverlayKey, ramp time.Duration) error
	// Installed returns the overlays that are believed in force, sorted by key: those of
	// this process and those that proxies or the mesh still hold from one before it.
	Installed() []mesh.Overlay
}

// Processes executes restarts and knows the registry. All methods are safe for
// concurrent use.
type Processes interface {
	// Restart restarts the incarnation that ref names and returns when the instance is
	// Ready as a later one. It is idempotent: if the registry already lists a later
	// incarnation, it waits for that to be ready and restarts nothing. When ctx ends
	// first the error is ctx's and the restart under way goes on. What the platform
	// refuses is a *Refused.
	Restart(ctx context.Context, ref mesh.Ref, mode isa.Mode) (mesh.Instance, error)
	// World returns the registry as it is now; the caller must not change it.
	World() *mesh.World
}

// Scaler sets the number of wanted instances; nil where the platform cannot.
type Scaler interface {
	// Scale sets it and returns what it was before. Setting what already is is no change.
	Scale(ctx context.Context, service mesh.Service, replicas int) (former int, err error)
	// Owner says who else sets it (an autoscaler, GitOps), "" = nobody.
	Owner(service mesh.Service) string
}

// Configs returns configuration objects to former revisions; nil where the platform cannot.
type Configs interface {
	// Object describes the object called "kind/namespace/name"; false if there is none.
	Object(name string) (microkernel.ObjectView, bool)
	// SetRevision returns it to a revision and says which was in force before. Setting what
	// already is is no change; over another writer it is a *Refused of CodeForeignOwner.
	SetRevision(ctx context.Context, object, revision string) (former string, err error)
}

// Monitor watches services for harm; Watcher in this package implements it.
type Monitor interface {
	// Watch watches as order says until ctx ends (it then returns ctx's error) or there
	// is a verdict.
	Watch(ctx context.Context, order microkernel.Watch) (microkernel.HarmVerdict, error)
}

// Measurer is a Monitor whose baselines can be journalled, so that the next leader goes on
// with the same ones instead of what the fault, or the plan, has made of the services since.
type Measurer interface {
	// Baselines freezes and returns the baselines of order's plan; those in order stand.
	Baselines(order microkernel.Watch) []microkernel.Baseline
}

// Pager calls a human.
type Pager interface {
	Page(ctx context.Context, plan microkernel.PlanID, reason string) error
}

// Refused is the error of a port (or of the driver's own API) that will not do what it
// was asked, with the code that the plan's record shows.
type Refused struct {
	Code   isa.Code // "" = no code fits
	Reason string
}

// Error implements error.
func (r *Refused) Error() string {
	if r.Code == "" {
		return r.Reason
	}
	return fmt.Sprintf("%s: %s", r.Code, r.Reason)
}

// Topology gives the call graph as it is now.
type Topology interface {
	Snapshot() *topology.Snapshot
}

// Symptoms lists the services whose objective is broken now; nil = none is known.
type Symptoms interface {
	Symptoms() []topology.Symptom
}

// Loads measures services; nil = nothing is known.
type Loads interface {
	Load(service mesh.Service) Load
}

// Load is how much a service has to do; zero fields are unknown.
type Load struct {
	Rate        float64 // requests a second, p95 of the last 5 minutes
	Concurrency float64 // p99 of requests under way at once
	Utilisation float64 // share of capacity in use, 0..1
}

// Utilisations are Loads that know how much of a service's capacity is in use, 0..1, and
// say so cheaply: it is asked of every direct caller. 0 = unknown.
type Utilisations interface {
	Utilisation(service mesh.Service) float64
}

// Journal is where events are written before they count; journal.Log and
// journal.Memory are such. The driver's goroutine alone uses it.
type Journal interface {
	// Replay calls visit for every event, oldest first.
	Replay(visit func(journal.Entry) error) error
	// Append returns when the events are durable. After a *journal.FullError or a
	// *journal.EncodeError nothing was written; any other error is final.
	Append(events ...microkernel.Event) (journal.Seq, error)
	// AppendReserved is Append that may use space kept for restoring.
	AppendReserved(events ...microkernel.Event) (journal.Seq, error)
	Close() error
}

// Compactor is a Journal that can begin anew with the state; journal.Log is one. A journal
// that is none grows for ever.
type Compactor interface {
	// Size is the bytes that a replay reads.
	Size() int64
	// Compact writes ev, which holds the state after all events so far, as the first of
	// those that a replay reads. After a *journal.FullError or a *journal.EncodeError nothing
	// was written; after a *journal.SyncError the journal is gone; any other error is of tidying.
	Compact(ev microkernel.Compacted) (journal.Seq, error)
}
