package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/sluicemesh/sluice/mesh"
)

// Settings are what a Cluster works with; Client and Log are needed.
type Settings struct {
	Client    kubernetes.Interface
	Namespace string // only this one; "" = all
	Log       *slog.Logger
	// Without names the kinds that may not be listed here; what rests on them is off.
	Without []Optional
	// Serving reports whether the proxy with the node id has its configuration; a
	// replacement counts as ready only then. nil: as soon as Kubernetes says so.
	Serving func(node string) bool
}

// Optional is a kind of objects without which the rest works.
type Optional string

// Optional kinds, by the plural that RBAC knows them by.
const (
	Nodes       Optional = "nodes"                    // zones, and node drains in progress
	Autoscalers Optional = "horizontalpodautoscalers" // without them nothing is scaled
	Revisions   Optional = "controllerrevisions"      // without them no StatefulSet is rolled back
)

// Cluster is the registry of one cluster and the driver of its restarts. It is safe for
// concurrent use.
type Cluster struct {
	settings Settings
	factory  informers.SharedInformerFactory
	dirty    chan struct{}

	mu       sync.Mutex
	world    *mesh.World
	objects  *Objects
	problems []Problem
	changed  chan struct{} // closed and replaced at every change of objects
}

// breath is the least time between two worlds.
const breath = 20 * time.Millisecond

// New returns a cluster that nothing has been read of yet; see Run.
func New(settings Settings) *Cluster {
	options := []informers.SharedInformerOption{informers.WithTransform(trim)}
	if settings.Namespace != "" {
		options = append(options, informers.WithNamespace(settings.Namespace))
	}
	return &Cluster{
		settings: settings, factory: informers.NewSharedInformerFactoryWithOptions(settings.Client, 0, options...),
		dirty: make(chan struct{}, 1), changed: make(chan struct{}), world: &mesh.World{}, objects: &Objects{},
	}
}

// trim drops what nobody here reads of the many: managed fields count for workloads only.
func trim(object any) (any, error) {
	meta, ok := object.(metav1.Object)
	if !ok {
		return object, nil
	}
	switch kindOf(object) {
	case KindDeployment, KindStatefulSet:
	default:
		meta.SetManagedFields(nil)
	}
	return object, nil
}

func kindOf(object any) string {
	t := reflect.TypeOf(object)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

// Run reads and watches until ctx ends, and calls changed with the first world and after
// every change, in order. It returns ctx's error, or that of a watch that cannot be set up.
func (c *Cluster) Run(ctx context.Context, changed func(*mesh.World)) error {
	for _, informer := range c.informers() {
		if _, err := informer.AddEventHandler(c.notify()); err != nil {
			return fmt.Errorf("watch the cluster: %w", err)
		}
	}
	c.factory.Start(ctx.Done())
	defer c.factory.Shutdown()
	for kind, synced := range c.factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return errors.Join(fmt.Errorf("%s were not listed", kind), ctx.Err())
		}
	}
	c.refresh(changed)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.dirty:
			c.refresh(changed)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(breath):
		}
	}
}

// informers asks the factory for the informer of every kind, which makes it start them.
func (c *Cluster) informers() []cache.SharedIndexInformer {
	f := c.factory
	list := []cache.SharedIndexInformer{
		f.Core().V1().Services().Informer(), f.Core().V1().Pods().Informer(),
		f.Discovery().V1().EndpointSlices().Informer(), f.Apps().V1().ReplicaSets().Informer(),
		f.Apps().V1().Deployments().Informer(), f.Apps().V1().StatefulSets().Informer(),
		f.Policy().V1().PodDisruptionBudgets().Informer(),
	}
	if c.has(Nodes) {
		list = append(list, f.Core().V1().Nodes().Informer())
	}
	if c.has(Autoscalers) {
		list = append(list, f.Autoscaling().V2().HorizontalPodAutoscalers().Informer())
	}
	if c.has(Revisions) {
		list = append(list, f.Apps().V1().ControllerRevisions().Informer())
	}
	return list
}

// has reports whether an optional kind is listed.
func (c *Cluster) has(kind Optional) bool {
	for _, without := range c.settings.Without {
		if without == kind {
			return false
		}
	}
	return true
}

func (c *Cluster) notify() cache.ResourceEventHandler {
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

// refresh makes the world anew and hands it on if it is another.
func (c *Cluster) refresh(changed func(*mesh.World)) {
	objects, err := c.list()
	if err != nil {
		c.settings.Log.Error("cluster not listed", "error", err)
		return
	}
	world, problems := World(objects)
	c.mu.Lock()
	former := c.world
	world.Version = former.Version
	same := former.Version > 0 && reflect.DeepEqual(world, former)
	if !same {
		world.Version++
		c.world = world
	}
	news := problemsNotIn(problems, c.problems)
	c.objects, c.problems = objects, problems
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	for _, p := range news {
		c.settings.Log.Warn("passed over", "object", p.Object, "reason", p.Reason)
	}
	if !same {
		changed(world)
	}
}

func problemsNotIn(list, former []Problem) []Problem {
	known := map[Problem]bool{}
	for _, p := range former {
		known[p] = true
	}
	var news []Problem
	for _, p := range list {
		if !known[p] {
			news = append(news, p)
		}
	}
	return news
}

// list collects what the informers have.
func (c *Cluster) list() (*Objects, error) {
	f, all := c.factory, labels.Everything()
	o := &Objects{}
	var errs [10]error
	o.Services, errs[0] = f.Core().V1().Services().Lister().List(all)
	o.Pods, errs[1] = f.Core().V1().Pods().Lister().List(all)
	o.Slices, errs[2] = f.Discovery().V1().EndpointSlices().Lister().List(all)
	o.ReplicaSets, errs[3] = f.Apps().V1().ReplicaSets().Lister().List(all)
	o.Deployments, errs[4] = f.Apps().V1().Deployments().Lister().List(all)
	o.StatefulSets, errs[5] = f.Apps().V1().StatefulSets().Lister().List(all)
	o.Budgets, errs[6] = f.Policy().V1().PodDisruptionBudgets().Lister().List(all)
	if c.has(Nodes) {
		o.Nodes, errs[7] = f.Core().V1().Nodes().Lister().List(all)
	}
	if c.has(Autoscalers) {
		o.Autoscalers, errs[8] = f.Autoscaling().V2().HorizontalPodAutoscalers().Lister().List(all)
	}
	if c.has(Revisions) {
		o.Revisions, errs[9] = f.Apps().V1().ControllerRevisions().Lister().List(all)
	}
	return o, errors.Join(errs[:]...)
}

// World returns the present world; the caller must not change it.
func (c *Cluster) World() *mesh.World {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.world
}

// Problems returns what is passed over at present, sorted.
func (c *Cluster) Problems() []Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.problems
}

// Unsettled is Objects.Unsettled of now.
func (c *Cluster) Unsettled(service mesh.Service) string {
	objects, _ := c.present()
	return objects.Unsettled(service)
}

// present returns what is listed, and a channel that is closed when that changes.
func (c *Cluster) present() (*Objects, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects, c.changed
}

// await calls done with what is listed, now and after every change, until it returns true,
// an error, or ctx ends. It looks again each second: Serving changes without an object.
func (c *Cluster) await(ctx context.Context, done func(*Objects) (bool, error)) error {
	tick := time.NewTicker(time.Second / 4)
	defer tick.Stop()
	for {
		objects, changed := c.present()
		if ok, err := done(objects); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick.C:
		}
	}
}
