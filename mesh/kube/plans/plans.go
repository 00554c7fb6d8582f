package plans

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"

	"github.com/sluicemesh/sluice/api/v1alpha1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// Kernel is what plans are handed to.
type Kernel interface {
	Submit(ctx context.Context, by microkernel.Principal, p isa.Program) (microkernel.Verdict, microkernel.Record, error)
	Refuse(ctx context.Context, by microkernel.Principal, source []byte, faults []isa.Fault) (microkernel.Verdict, error)
	Approve(ctx context.Context, by microkernel.Principal, id microkernel.PlanID) (microkernel.Verdict, microkernel.Record, error)
	Abort(ctx context.Context, by microkernel.Principal, id microkernel.PlanID, reason string) (microkernel.Record, error)
	Record(id microkernel.PlanID) (microkernel.Record, bool)
}

// Settings are what a Controller works with; all but Watch are needed.
type Settings struct {
	Objects dynamic.Interface
	Kernel  Kernel
	Log     *slog.Logger
	Own     string // namespace of the control plane
	Watch   string // the only namespace to look in, "" = all
	// Proved returns since when the API server lets in only objects that name their creator;
	// zero = it does not, and why.
	Proved func(ctx context.Context) (since time.Time, why error)
}

// finalizer keeps a plan's object until its traffic is restored.
const finalizer = v1alpha1.Group + "/restore"

// Bounds of the controller.
const (
	interval = 500 * time.Millisecond // between looks without an event: the kernel's records change, too
	callIn   = 10 * time.Second
)

// Controller looks at all plans and approvals, again and again: what is to be done follows
// from the objects and the kernel's records alone, so nothing is lost with a missed event or
// a crash between two writes.
type Controller struct {
	settings Settings
	since    time.Time // the identities of objects made after it are proved
	why      error     // why not
	asked    time.Time
	listers  map[string]cache.GenericLister
	dirty    chan struct{}
}

// New returns a controller that does nothing yet.
func New(settings Settings) *Controller {
	return &Controller{settings: settings, listers: map[string]cache.GenericLister{}, dirty: make(chan struct{}, 1)}
}

// Run looks until ctx ends, and returns its error.
func (c *Controller) Run(ctx context.Context) error {
	factory := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c.settings.Objects, 0, c.settings.Watch, nil)
	for _, kind := range []string{v1alpha1.KindPlan, v1alpha1.KindApproval} {
		informer := factory.ForResource(v1alpha1.Resources(kind))
		if _, err := informer.Informer().AddEventHandler(c.notify()); err != nil {
			return fmt.Errorf("watch %s: %w", kind, err)
		}
		c.listers[kind] = informer.Lister()
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	factory.WaitForCacheSync(ctx.Done())
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.settings.Log.Error("plans not looked at", "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.dirty:
		case <-tick.C:
		}
	}
}

func (c *Controller) notify() cache.ResourceEventHandler {
	touch := func() {
		select {
		case c.dirty <- struct{}{}:
		default:
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { touch() }, UpdateFunc: func(any, any) { touch() }, DeleteFunc: func(any) { touch() },
	}
}

// look does what is to be done now for every object.
func (c *Controller) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callIn)
	defer cancel()
	if now := time.Now(); now.Sub(c.asked) > callIn {
		c.since, c.why = c.settings.Proved(ctx)
		c.asked = now
	}
	return errors.Join(c.each(ctx, v1alpha1.KindPlan, c.plan), c.each(ctx, v1alpha1.KindApproval, c.approval))
}

// each calls do for a copy of every object of a kind. One that has changed since, or is gone,
// is looked at again.
func (c *Controller) each(ctx context.Context, kind string, do func(context.Context, *unstructured.Unstructured) error) error {
	found, err := c.listers[kind].List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list %s: %w", kind, err)
	}
	var errs []error
	for _, item := range found {
		object, ok := item.DeepCopyObject().(*unstructured.Unstructured)
		if !ok {
			continue
		}
		if err := do(ctx, object); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("%s %s/%s: %w", kind, object.GetNamespace(), object.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

// plan does what is to be done for one plan.
func (c *Controller) plan(ctx context.Context, object *unstructured.Unstructured) error {
	var plan v1alpha1.RecoveryPlan
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &plan); err != nil {
		return err
	}
	id := microkernel.PlanID(plan.Name)
	record, known := c.settings.Kernel.Record(id)
	known = known && plan.Status.Phase != string(microkernel.Refused)
	kept := hasFinalizer(&plan)
	switch {
	case plan.DeletionTimestamp != nil && kept:
		return c.leave(ctx, object, &plan, record, known)
	case plan.DeletionTimestamp != nil:
		return nil
	case plan.Status.Phase == "" && !known && !kept:
		return c.keep(ctx, object) // first, so that nothing runs whose object can vanish
	case plan.Status.Phase == "":
		return c.take(ctx, object, &plan)
	case known:
		return c.tell(ctx, object, &plan, status(&record))
	}
	return nil
}

func hasFinalizer(plan *v1alpha1.RecoveryPlan) bool {
	for _, f := range plan.Finalizers {
		if f == finalizer {
			return true
		}
	}
	return false
}

// keep puts the finalizer.
func (c *Controller) keep(ctx context.Context, object *unstructured.Unstructured) error {
	object.SetFinalizers(append(object.GetFinalizers(), finalizer))
	_, err := c.resource(object, v1alpha1.KindPlan).Update(ctx, object, metav1.UpdateOptions{FieldManager: "sluice"})
	return err
}

// leave aborts a plan whose object is deleted, and lets the object go when it has ended.
func (c *Controller) leave(
	ctx context.Context, object *unstructured.Unstructured, plan *v1alpha1.RecoveryPlan, record microkernel.Record, known bool,
) error {
	if known && !record.Phase.Final() && ours(plan, &record) {
		by := microkernel.Principal{Name: "kubernetes:deleted", Role: microkernel.Admin}
		_, err := c.settings.Kernel.Abort(ctx, by, record.ID, "the RecoveryPlan was deleted")
		return err
	}
	var rest []string
	for _, f := range object.GetFinalizers() {
		if f != finalizer {
			rest = append(rest, f)
		}
	}
	object.SetFinalizers(rest)
	_, err := c.resource(object, v1alpha1.KindPlan).Update(ctx, object, metav1.UpdateOptions{FieldManager: "sluice"})
	return err
}

// ours reports whether a record is of this object: ids are one space for all namespaces.
func ours(plan *v1alpha1.RecoveryPlan, record *microkernel.Record) bool {
	return record.Proposer.Name == plan.Spec.Proposer
}

// take hands a plan in that was not looked at yet. Handing the same in twice, after a crash
// between that and the status, is one plan to the kernel.
func (c *Controller) take(ctx context.Context, object *unstructured.Unstructured, plan *v1alpha1.RecoveryPlan) error {
	if c.since.IsZero() || !plan.CreationTimestamp.After(c.since) {
		return c.tell(ctx, object, plan, unproved(c.why))
	}
	by := microkernel.Principal{Name: plan.Spec.Proposer, Role: microkernel.Proposer}
	program, _, faults := isa.ParseJSON(plan.Spec.Program.Raw)
	if len(faults) == 0 && plan.Namespace != c.settings.Own {
		faults = foreign(&program, plan.Namespace)
	}
	if len(faults) > 0 {
		verdict, err := c.settings.Kernel.Refuse(ctx, by, plan.Spec.Program.Raw, faults)
		if err != nil {
			return err
		}
		if verdict.Outcome != microkernel.Throttle {
			verdict.Faults = faults
		}
		return c.tell(ctx, object, plan, refusal(verdict))
	}
	verdict, record, err := c.settings.Kernel.Submit(ctx, by, program)
	switch {
	case err != nil:
		return err
	case verdict.Outcome == microkernel.Throttle:
		return nil // and asked again
	case record.Phase == "" || verdict.Outcome == microkernel.Reject:
		return c.tell(ctx, object, plan, refusal(verdict))
	}
	return c.tell(ctx, object, plan, status(&record))
}

// tell writes a status, if it says anything new.
func (c *Controller) tell(
	ctx context.Context, object *unstructured.Unstructured, plan *v1alpha1.RecoveryPlan, next v1alpha1.RecoveryPlanStatus,
) error {
	conditions := next.Conditions
	next.Conditions = append([]metav1.Condition(nil), plan.Status.Conditions...)
	for _, condition := range conditions {
		condition.ObservedGeneration = plan.Generation
		meta.SetStatusCondition(&next.Conditions, condition)
	}
	if reflect.DeepEqual(next, plan.Status) {
		return nil
	}
	plan.Status = next
	return c.put(ctx, object, v1alpha1.KindPlan, &next)
}

// put replaces the status of an object, if that is still what was read.
func (c *Controller) put(ctx context.Context, object *unstructured.Unstructured, kind string, status any) error {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(status)
	if err != nil {
		return err
	}
	object.Object["status"] = fields
	_, err = c.resource(object, kind).UpdateStatus(ctx, object, metav1.UpdateOptions{FieldManager: "sluice"})
	return err
}

func (c *Controller) resource(object *unstructured.Unstructured, kind string) dynamic.ResourceInterface {
	return c.settings.Objects.Resource(v1alpha1.Resources(kind)).Namespace(object.GetNamespace())
}

// approval does what is to be done for one approval.
func (c *Controller) approval(ctx context.Context, object *unstructured.Unstructured) error {
	var approval v1alpha1.RecoveryApproval
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &approval); err != nil {
		return err
	}
	if approval.Status.Verdict != "" || approval.DeletionTimestamp != nil {
		return nil
	}
	say := func(verdict, message string) error {
		return c.put(ctx, object, v1alpha1.KindApproval, &v1alpha1.RecoveryApprovalStatus{Verdict: verdict, Message: message})
	}
	if c.since.IsZero() || !approval.CreationTimestamp.After(c.since) {
		return say(string(microkernel.Reject), unproved(c.why).Message)
	}
	_, err := c.resource(object, v1alpha1.KindPlan).Get(ctx, approval.Spec.Plan, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return say(string(microkernel.Reject), "there is no such plan in this namespace")
	}
	if err != nil {
		return err
	}
	record, known := c.settings.Kernel.Record(microkernel.PlanID(approval.Spec.Plan))
	switch {
	case !known:
		return nil // not handed in yet
	case record.Hash != approval.Spec.Hash:
		return say(string(microkernel.Reject), "the plan's hash is "+record.Hash+": look at it again")
	}
	by := microkernel.Principal{Name: approval.Spec.Approver, Role: microkernel.Approver}
	verdict, _, err := c.settings.Kernel.Approve(ctx, by, record.ID)
	if err != nil {
		return say(string(microkernel.Reject), err.Error())
	}
	return say(string(verdict.Outcome), reasons(verdict))
}
