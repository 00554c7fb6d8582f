package plans

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/tools/cache"

	"github.com/sluicemesh/sluice/api/v1alpha1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
)

// kernel is a kernel that holds what it is handed, and remembers it.
type kernel struct {
	records map[microkernel.PlanID]microkernel.Record
	refused []isa.Fault
	aborted []string
	by      []string
}

func (k *kernel) Submit(_ context.Context, by microkernel.Principal, p isa.Program) (microkernel.Verdict, microkernel.Record, error) {
	id := microkernel.PlanID(p.ID)
	if r, known := k.records[id]; known {
		if r.Proposer == by {
			return r.Verdict, r, nil
		}
		v := microkernel.Verdict{Outcome: microkernel.Reject, Code: isa.CodeIDConflict}
		return v, microkernel.Record{}, nil
	}
	k.by = append(k.by, by.Name)
	v := microkernel.Verdict{Outcome: microkernel.Hold, Code: isa.CodePropose}
	r := microkernel.Record{ID: id, Proposer: by, Hash: "h-" + p.ID, Verdict: v, Phase: microkernel.Held}
	k.records[id] = r
	return v, r, nil
}

func (k *kernel) Refuse(_ context.Context, _ microkernel.Principal, _ []byte, faults []isa.Fault) (microkernel.Verdict, error) {
	k.refused = append(k.refused, faults...)
	return microkernel.Verdict{Outcome: microkernel.Reject, Code: faults[0].Code}, nil
}

func (k *kernel) Approve(_ context.Context, by microkernel.Principal, id microkernel.PlanID,
) (microkernel.Verdict, microkernel.Record, error) {
	r := k.records[id]
	if r.Proposer.Name == by.Name {
		return microkernel.Verdict{}, r, errors.New("authz: it is your own plan")
	}
	r.Approver, r.Phase, r.Verdict = by, microkernel.Committed, microkernel.Verdict{Outcome: microkernel.Admit}
	k.records[id] = r
	return r.Verdict, r, nil
}

func (k *kernel) Abort(_ context.Context, _ microkernel.Principal, id microkernel.PlanID, why string) (microkernel.Record, error) {
	k.aborted = append(k.aborted, string(id)+": "+why)
	r := k.records[id]
	r.Phase = microkernel.Compensated
	k.records[id] = r
	return r, nil
}

func (k *kernel) Record(id microkernel.PlanID) (microkernel.Record, bool) {
	r, known := k.records[id]
	return r, known
}

// bench is a controller with its objects and its kernel; look is called by hand.
type bench struct {
	*Controller
	t       *testing.T
	kernel  *kernel
	indexer map[string]cache.Indexer
}

func begin() time.Time { return time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC) }

func newBench(t *testing.T, proved func(context.Context) (time.Time, error)) *bench {
	t.Helper()
	kinds := map[schema.GroupVersionResource]string{
		v1alpha1.Resources(v1alpha1.KindPlan): "RecoveryPlanList", v1alpha1.Resources(v1alpha1.KindApproval): "RecoveryApprovalList",
	}
	b := &bench{t: t, kernel: &kernel{records: map[microkernel.PlanID]microkernel.Record{}}, indexer: map[string]cache.Indexer{}}
	b.Controller = New(Settings{
		Objects: fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds),
		Kernel:  b.kernel, Log: slog.New(slog.DiscardHandler), Own: "sluice-system", Proved: proved,
	})
	for _, kind := range []string{v1alpha1.KindPlan, v1alpha1.KindApproval} {
		b.indexer[kind] = cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
		b.listers[kind] = cache.NewGenericLister(b.indexer[kind], v1alpha1.Resources(kind).GroupResource())
	}
	return b
}

func proved(context.Context) (time.Time, error) { return begin(), nil }

// create makes an object as somebody would.
func (b *bench) create(kind, namespace, name string, spec map[string]any) {
	b.t.Helper()
	object := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": v1alpha1.GroupVersion, "kind": kind, "spec": spec,
		"metadata": map[string]any{
			"name": name, "namespace": namespace, "creationTimestamp": begin().Add(time.Hour).Format(time.RFC3339),
		},
	}}
	if _, err := b.settings.Objects.Resource(v1alpha1.Resources(kind)).Namespace(namespace).
		Create(b.t.Context(), object, metav1.CreateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// program is a restart of a service, as an object has it.
func program(t *testing.T, id, service string) map[string]any {
	t.Helper()
	var out map[string]any
	text := fmt.Sprintf(`{"id":%q,"deadline":"120s","steps":[{"id":"r1","restart":{"target":{"service":%q},"mode":"rolling"}}]}`, id, service)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// turns brings the cache up to the objects, and looks, so many times.
func (b *bench) turns(n int) {
	b.t.Helper()
	for range n {
		for kind, indexer := range b.indexer {
			list, err := b.settings.Objects.Resource(v1alpha1.Resources(kind)).List(b.t.Context(), metav1.ListOptions{})
			if err != nil {
				b.t.Fatal(err)
			}
			items := make([]any, len(list.Items))
			for i := range list.Items {
				items[i] = &list.Items[i]
			}
			if err := indexer.Replace(items, ""); err != nil {
				b.t.Fatal(err)
			}
		}
		if err := b.look(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bench) plan(namespace, name string) (out v1alpha1.RecoveryPlan) {
	b.t.Helper()
	b.get(v1alpha1.KindPlan, namespace, name, &out)
	return out
}

func (b *bench) get(kind, namespace, name string, into any) {
	b.t.Helper()
	object, err := b.settings.Objects.Resource(v1alpha1.Resources(kind)).Namespace(namespace).Get(b.t.Context(), name, metav1.GetOptions{})
	if err == nil {
		err = runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, into)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestPlanIsHandedInApprovedAndEnds(t *testing.T) {
	b := newBench(t, proved)
	b.create(v1alpha1.KindPlan, "shop", "cart-1", map[string]any{"proposer": "ann", "program": program(t, "cart-1", "shop/cart")})
	b.turns(1)
	if p := b.plan("shop", "cart-1"); len(p.Finalizers) != 1 || len(b.kernel.by) != 0 {
		t.Fatalf("finalizers %v, handed in %v, want the finalizer first", p.Finalizers, b.kernel.by)
	}
	b.turns(3)
	p := b.plan("shop", "cart-1")
	if p.Status.Phase != "held" || p.Status.Hash != "h-cart-1" || len(b.kernel.by) != 1 || b.kernel.by[0] != "ann" {
		t.Fatalf("status %+v, handed in by %v, want it held, handed in once", p.Status, b.kernel.by)
	}
	approval := map[string]any{"plan": "cart-1", "hash": "h-cart-1", "approver": "bob"}
	b.create(v1alpha1.KindApproval, "shop", "ok", approval)
	b.create(v1alpha1.KindApproval, "other", "elsewhere", approval)
	b.create(v1alpha1.KindApproval, "shop", "stale", map[string]any{"plan": "cart-1", "hash": "h-before", "approver": "bob"})
	b.turns(3)
	for name, want := range map[string]string{"shop/ok": "admit", "other/elsewhere": "reject", "shop/stale": "reject"} {
		namespace, name, _ := strings.Cut(name, "/")
		var a v1alpha1.RecoveryApproval
		b.get(v1alpha1.KindApproval, namespace, name, &a)
		if a.Status.Verdict != want {
			t.Errorf("approval %s: %+v, want %s", name, a.Status, want)
		}
	}
	p = b.plan("shop", "cart-1")
	if !meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionCompleted) ||
		!meta.IsStatusConditionTrue(p.Status.Conditions, v1alpha1.ConditionApproved) {
		t.Errorf("conditions %+v", p.Status.Conditions)
	}
}

func TestNobodyApprovesTheirOwn(t *testing.T) {
	b := newBench(t, proved)
	b.create(v1alpha1.KindPlan, "shop", "cart-1", map[string]any{"proposer": "ann", "program": program(t, "cart-1", "shop/cart")})
	b.create(v1alpha1.KindApproval, "shop", "own", map[string]any{"plan": "cart-1", "hash": "h-cart-1", "approver": "ann"})
	b.turns(4)
	var a v1alpha1.RecoveryApproval
	b.get(v1alpha1.KindApproval, "shop", "own", &a)
	if a.Status.Verdict != "reject" || b.kernel.records["cart-1"].Phase != microkernel.Held {
		t.Errorf("got %+v, plan %s", a.Status, b.kernel.records["cart-1"].Phase)
	}
}

func TestWhatIsRefused(t *testing.T) {
	unknown := program(t, "x", "shop/cart")
	unknown["force"] = true
	never := func(context.Context) (time.Time, error) { return time.Time{}, errors.New("policy not found") }
	later := func(context.Context) (time.Time, error) { return begin().Add(2 * time.Hour), nil }
	for _, c := range []struct {
		name, namespace string
		program         map[string]any
		proved          func(context.Context) (time.Time, error)
		code            isa.Code
	}{
		{"an unknown field", "shop", unknown, proved, isa.CodeDecode},
		{"another namespace", "shop", program(t, "x", "bank/ledger"), proved, isa.CodeAuthz},
		{"no policy", "shop", program(t, "x", "shop/cart"), never, isa.CodeAuthn},
		{"older than the policy", "shop", program(t, "x", "shop/cart"), later, isa.CodeAuthn},
		{"all may be named from here", "sluice-system", program(t, "x", "bank/ledger"), proved, isa.CodePropose},
	} {
		b := newBench(t, c.proved)
		b.create(v1alpha1.KindPlan, c.namespace, "x", map[string]any{"proposer": "ann", "program": c.program})
		b.turns(3)
		p := b.plan(c.namespace, "x")
		if p.Status.Code != string(c.code) {
			t.Errorf("%s: got %+v, want %s", c.name, p.Status, c.code)
		}
		if refused := p.Status.Phase == string(microkernel.Refused); refused != (c.code != isa.CodePropose) || refused != (len(b.kernel.by) == 0) {
			t.Errorf("%s: phase %s, handed in by %v", c.name, p.Status.Phase, b.kernel.by)
		}
	}
}

func TestIdsAreOneSpace(t *testing.T) {
	b := newBench(t, proved)
	b.create(v1alpha1.KindPlan, "shop", "x", map[string]any{"proposer": "ann", "program": program(t, "x", "shop/cart")})
	b.turns(3)
	b.create(v1alpha1.KindPlan, "bank", "x", map[string]any{"proposer": "eve", "program": program(t, "x", "bank/ledger")})
	b.turns(4)
	if p := b.plan("bank", "x"); p.Status.Code != string(isa.CodeIDConflict) || p.Status.Hash != "" {
		t.Errorf("the second of an id: %+v", p.Status)
	}
	if p := b.plan("shop", "x"); p.Status.Phase != "held" {
		t.Errorf("the first: %+v", p.Status)
	}
}

func TestDeletedPlanIsAborted(t *testing.T) {
	b := newBench(t, proved)
	b.create(v1alpha1.KindPlan, "shop", "x", map[string]any{"proposer": "ann", "program": program(t, "x", "shop/cart")})
	b.turns(3)
	plans := b.settings.Objects.Resource(v1alpha1.Resources(v1alpha1.KindPlan)).Namespace("shop")
	object, err := plans.Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	now := metav1.NewTime(begin().Add(2 * time.Hour))
	object.SetDeletionTimestamp(&now) // as the API server does of an object with a finalizer
	if _, err := plans.Update(t.Context(), object, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	b.turns(1)
	if p := b.plan("shop", "x"); len(b.kernel.aborted) != 1 || len(p.Finalizers) != 1 {
		t.Fatalf("aborted %v, finalizers %v, want it to stay until it has ended", b.kernel.aborted, p.Finalizers)
	}
	b.turns(2)
	if p := b.plan("shop", "x"); len(b.kernel.aborted) != 1 || len(p.Finalizers) != 0 {
		t.Errorf("aborted %v, finalizers %v, want it to go", b.kernel.aborted, p.Finalizers)
	}
}

func TestWords(t *testing.T) {
	for code, want := range map[string]string{"drain-required": "DrainRequired", "hold": "Hold", "": "Unknown"} {
		if got := word(code); got != want {
			t.Errorf("%q: got %q, want %q", code, got, want)
		}
	}
}
