package kube

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/sluicemesh/sluice/mesh"
)

// controller stands in for the API server's eviction and for the ReplicaSet controller: a
// pod that is evicted is gone, and one that is gone or taken out is brought anew. It obeys
// preconditions as the API server does.
type controller struct {
	t      *testing.T
	shop   *shop
	client *fake.Clientset

	mu       sync.Mutex
	made     int
	evicted  []string
	refusals int // evictions that no budget has room for, before the first
	stale    int // evictions that conflict, before the first
}

func (c *controller) install() {
	c.client.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		if action.GetSubresource() != "eviction" {
			return false, nil, nil
		}
		return true, nil, c.evict(action.(clienttesting.CreateAction).GetObject().(*policyv1.Eviction))
	})
	c.client.PrependReactor("patch", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
		defer c.bring()
		return false, nil, nil // the tracker applies it
	})
}

func (c *controller) evict(e *policyv1.Eviction) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.DeleteOptions == nil || e.DeleteOptions.Preconditions.UID == nil || e.DeleteOptions.Preconditions.ResourceVersion == nil {
		c.t.Errorf("eviction of %s without preconditions", e.Name)
	}
	if c.stale > 0 {
		c.stale--
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, e.Name, errors.New("changed"))
	}
	if c.refusals > 0 {
		c.refusals--
		return apierrors.NewTooManyRequests("budget", 0)
	}
	c.evicted = append(c.evicted, e.Name)
	tracker, pods := c.client.Tracker(), corev1.SchemeGroupVersion.WithResource("pods")
	object, err := tracker.Get(pods, e.Namespace, e.Name)
	if err != nil {
		return err
	}
	if err := tracker.Delete(pods, e.Namespace, e.Name); err != nil {
		return err
	}
	if object.(*corev1.Pod).Labels[labelTemplateHash] != "" {
		go c.bring()
	}
	return nil
}

// bring makes the next pod.
func (c *controller) bring() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	p := c.shop.pod(100 + c.made)
	if err := c.client.Tracker().Add(p); err != nil {
		c.t.Errorf("bring %s: %v", p.Name, err)
	}
}

// start runs a cluster of so many pods until the test ends.
func start(t *testing.T, s *shop, c *controller, more ...runtime.Object) *Cluster {
	t.Helper()
	client := fake.NewClientset(append(s.all(), more...)...)
	c.t, c.shop, c.client = t, s, client
	c.install()
	cluster := New(Settings{Client: client, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	first, done := make(chan struct{}), make(chan struct{})
	var once sync.Once
	go func() {
		defer close(done)
		_ = cluster.Run(ctx, func(*mesh.World) { once.Do(func() { close(first) }) })
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-first:
	case <-time.After(20 * time.Second):
		t.Fatal("the cluster was not read")
	}
	return cluster
}

func (c *controller) gone() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.evicted
}

func restartIn(t *testing.T, cluster *Cluster, uid mesh.UID, mode string) (mesh.Instance, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return cluster.Restart(ctx, mesh.Ref{Service: "shop/cart", UID: uid, Incarnation: 1}, mode)
}

func TestRollingEvictsAndWaits(t *testing.T) {
	c := &controller{stale: 1, refusals: 1}
	cluster := start(t, newShop(3), c)
	in, err := restartIn(t, cluster, "p-1", modeRolling)
	if err != nil || in.UID != "p-101" || in.State != mesh.Ready {
		t.Fatalf("got %+v, %v, want the pod that came", in, err)
	}
	if got := c.gone(); len(got) != 1 || got[0] != "cart-7d9f-1" {
		t.Errorf("evicted %v", got)
	}
}

// The last pod stays until another is ready: it is taken out of its ReplicaSet first.
func TestRollingOfTheLastSurges(t *testing.T) {
	c := &controller{}
	cluster := start(t, newShop(1), c)
	in, err := restartIn(t, cluster, "p-0", modeRolling)
	if err != nil || in.UID != "p-101" {
		t.Fatalf("got %+v, %v", in, err)
	}
	var order []string
	for _, a := range c.client.Actions() {
		if a.GetResource().Resource == "pods" && (a.GetVerb() == "patch" || a.GetSubresource() == "eviction") {
			order = append(order, a.GetVerb())
		}
	}
	if len(order) != 2 || order[0] != "patch" || order[1] != "create" || len(c.gone()) != 1 {
		t.Errorf("writes %v, evicted %v, want a patch and then one eviction", order, c.gone())
	}
}

func TestBudgetMakesRollingSurge(t *testing.T) {
	c := &controller{}
	cluster := start(t, newShop(2), c, budget("2", ""))
	if _, err := restartIn(t, cluster, "p-0", modeRolling); err != nil {
		t.Fatal(err)
	}
	if c.made != 1 || len(c.gone()) != 1 {
		t.Errorf("made %d, evicted %v", c.made, c.gone())
	}
}

func TestRestartIsIdempotent(t *testing.T) {
	c := &controller{}
	cluster := start(t, newShop(2), c)
	in, err := restartIn(t, cluster, "p-gone", modeRolling)
	if err != nil || in.UID != "p-1" || len(c.gone()) != 0 {
		t.Errorf("of a pod that is gone: got %+v, %v, evicted %v, want the newest and no eviction", in, err, c.gone())
	}
}

func TestWhatCannotBeRestarted(t *testing.T) {
	claim := corev1.Volume{VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}
	for _, c := range []struct {
		name, mode string
		change     func(*shop)
	}{
		{"in place", "in-place", func(*shop) {}},
		{"of nobody", modeRolling, func(s *shop) { s.pods[0].OwnerReferences = nil }},
		{"of a job", modeRolling, func(s *shop) { s.pods[0].OwnerReferences = controlledBy("Job", "cart", "j") }},
		{"replace with a volume", modeReplace, func(s *shop) { s.pods[0].Spec.Volumes = []corev1.Volume{claim} }},
		{"replace with a host port", modeReplace, func(s *shop) { s.pods[0].Spec.Containers[0].Ports[0].HostPort = 80 }},
	} {
		s, fakes := newShop(1), &controller{}
		c.change(s)
		_, err := restartIn(t, start(t, s, fakes), "p-0", c.mode)
		if refused := (*RefusedError)(nil); !errors.As(err, &refused) || refused.Code != CodeUnsupported || len(fakes.gone()) > 0 {
			t.Errorf("%s: got %v, evicted %v, want it refused", c.name, err, fakes.gone())
		}
	}
}

// A stale cache must not hit the pod that took the place of another under its name.
func TestStaleCacheHitsNobody(t *testing.T) {
	c := &controller{}
	s := newShop(2)
	cluster := start(t, s, c)
	stale := s.pods[0].DeepCopy()
	stale.UID = "p-former"
	r := restart{cluster: cluster, ref: mesh.Ref{Service: "shop/cart", UID: "p-former"}, pod: stale}
	if err := r.evict(t.Context()); err != nil || len(c.gone()) > 0 {
		t.Errorf("got %v, evicted %v, want nothing", err, c.gone())
	}
	if err := r.release(t.Context()); err != nil || c.made > 0 {
		t.Errorf("got %v, made %d, want nothing", err, c.made)
	}
}

func TestRestartEndsWithItsContext(t *testing.T) {
	c := &controller{refusals: 1 << 20}
	cluster := start(t, newShop(3), c)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := cluster.Restart(ctx, mesh.Ref{Service: "shop/cart", UID: "p-0", Incarnation: 1}, modeRolling)
	if !errors.Is(err, context.DeadlineExceeded) || !apierrors.IsTooManyRequests(err) {
		t.Errorf("got %v, want the deadline and what was waited for", err)
	}
}

func TestScaleRespectsOwners(t *testing.T) {
	cluster := start(t, newShop(1), &controller{}, autoscalers(nil)[0])
	_, err := cluster.Scale(t.Context(), "shop/cart", 3)
	if refused := (*RefusedError)(nil); !errors.As(err, &refused) || refused.Code != CodeForeignOwner {
		t.Errorf("got %v, want it refused", err)
	}
	if owner := cluster.Owner("shop/cart"); owner == "" {
		t.Error("nobody owns the number")
	}
}

func TestSetRevision(t *testing.T) {
	s := newShop(1)
	former := s.set.DeepCopy()
	former.Name, former.UID, former.Spec.Replicas, former.Status.Replicas = "cart-5c4b", "rs-0", ptr(int32(0)), 0
	former.Labels = map[string]string{"app": "cart", labelTemplateHash: "5c4b"}
	former.Annotations = map[string]string{annotationRevision: "2"}
	former.Spec.Template.Spec.Containers = []corev1.Container{{Name: "app", Image: "cart:1"}}
	cluster := start(t, s, &controller{}, former)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // no controller rolls out here
	defer cancel()
	if _, err := cluster.SetRevision(ctx, "deployment/shop/cart", "5c4b"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want that the rollout is waited for", err)
	}
	got, err := cluster.settings.Client.AppsV1().Deployments("shop").Get(t.Context(), "cart", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if c := got.Spec.Template.Spec.Containers; len(c) != 1 || c[0].Image != "cart:1" || got.Spec.Template.Labels[labelTemplateHash] != "" {
		t.Errorf("template: got %+v", got.Spec.Template)
	}
	for _, revision := range []string{"none", ""} {
		if _, err := cluster.SetRevision(t.Context(), "deployment/shop/cart", revision); err == nil {
			t.Errorf("revision %q is set", revision)
		}
	}
	if former, err := cluster.SetRevision(t.Context(), "deployment/shop/cart", "7d9f"); err != nil || former != "7d9f" {
		t.Errorf("what already is: got %q, %v", former, err)
	}
}
