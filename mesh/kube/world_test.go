package kube

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluicemesh/sluice/mesh"
)

func TestWorldOfADeployment(t *testing.T) {
	s := newShop(2)
	s.service.Annotations = map[string]string{AnnotationObjective: "p99=100ms,errors=0.1%", AnnotationStartup: "5s"}
	db := s.service.DeepCopy()
	db.Name, db.Spec.Selector = "db", map[string]string{"app": "db"}
	s.pods[0].Annotations[AnnotationUpstreams] = `[{"service":"shop/db","listen":"127.1.0.1:5432","sticky":true}]`
	o := s.objects()
	o.Services = append(o.Services, db)
	o.Budgets = []*policyv1.PodDisruptionBudget{budget("50%", "")}
	o.Nodes = []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{labelZone: "a"}}}}
	world, problems := World(o)
	if len(problems) > 0 {
		t.Fatalf("problems: %v", problems)
	}
	cart := world.Find("shop/cart")
	if cart == nil || cart.Replicas != 2 || cart.MinAvailable != 1 || cart.Startup != 5*time.Second ||
		cart.Objective != (mesh.Objective{P99: 100 * time.Millisecond, Errors: 0.001}) {
		t.Fatalf("got %+v", cart)
	}
	want := mesh.Instance{
		Ref:  mesh.Ref{Service: "shop/cart", UID: "p-0", Incarnation: 1},
		Name: "cart-7d9f-0", Zone: "a", Version: "7d9f", State: mesh.Ready,
		App: netip.MustParseAddrPort("10.244.0.10:8080"), Inbound: netip.MustParseAddrPort("10.244.0.10:15006"),
		Proxy: "shop/cart-7d9f-0/p-0",
	}
	if !reflect.DeepEqual(cart.Instances[0], want) {
		t.Errorf("got %+v\nwant %+v", cart.Instances[0], want)
	}
	up := []mesh.Upstream{{Service: "shop/db", Timeout: mesh.DefaultUpstreamTimeout, Sticky: true}}
	if !reflect.DeepEqual(cart.Upstreams, up) {
		t.Errorf("upstreams: got %v, want %v", cart.Upstreams, up)
	}
	p := world.Proxies[0]
	if p.Node != want.Proxy || p.App != netip.MustParseAddrPort("127.0.0.1:8080") || p.Inbound != want.Inbound ||
		p.Park != netip.MustParseAddrPort(DefaultPark) || len(p.Outbound) != 1 || p.Outbound[0].Service != "shop/db" {
		t.Errorf("got proxy %+v", p)
	}
}

func TestStatesOfPods(t *testing.T) {
	now := metav1.NewTime(begin())
	for _, c := range []struct {
		name   string
		change func(*corev1.Pod, *Objects)
		want   mesh.InstanceState // "" = no instance
	}{
		{"ready", func(*corev1.Pod, *Objects) {}, mesh.Ready},
		{"going", func(p *corev1.Pod, _ *Objects) { p.DeletionTimestamp = &now }, mesh.Unready},
		{"ended", func(p *corev1.Pod, _ *Objects) { p.Status.Phase = corev1.PodFailed }, ""},
		{"without an address", func(p *corev1.Pod, _ *Objects) { p.Status.PodIP = "" }, ""},
		{"of no service", func(p *corev1.Pod, _ *Objects) { p.Labels["app"] = "other" }, ""},
		{"not ready", func(p *corev1.Pod, _ *Objects) { p.Status.Conditions = nil }, mesh.Starting},
		{"not ready any more", func(p *corev1.Pod, _ *Objects) {
			p.Status.Conditions = nil
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Started: ptr(true)}}
		}, mesh.Unready},
		{"crashed", func(p *corev1.Pod, _ *Objects) {
			p.Status.Conditions = nil
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 1}}
		}, mesh.Unready},
		{"ready, its slice not yet", func(p *corev1.Pod, o *Objects) {
			o.Slices = []*discoveryv1.EndpointSlice{slice(p, false)}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Started: ptr(true)}}
		}, mesh.Unready},
		{"ready, its slice too", func(p *corev1.Pod, o *Objects) {
			o.Slices = []*discoveryv1.EndpointSlice{slice(p, true)}
		}, mesh.Ready},
	} {
		s := newShop(1)
		o := s.objects()
		c.change(s.pods[0], o)
		world, _ := World(o)
		got := mesh.InstanceState("")
		if list := world.Find("shop/cart").Instances; len(list) > 0 {
			got = list[0].State
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func slice(p *corev1.Pod, ready bool) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{Endpoints: []discoveryv1.Endpoint{{
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", UID: p.UID},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready},
	}}}
}

// A wrong annotation takes away what it is about, never the service.
func TestWrongAnnotations(t *testing.T) {
	for _, c := range []struct {
		key, value, says string
		sidecar          bool
	}{
		{AnnotationInbound, "0", "no port", false},
		{AnnotationInbound, "http", "no port", false},
		{AnnotationApp, "99999", "no port", false},
		{AnnotationPark, "here", "ADDRESS:PORT", false},
		{AnnotationUpstreams, `[{"service":"shop/db","listen":"127.1.0.1:1","oops":1}]`, "oops", false},
		{AnnotationUpstreams, `[{"service":"db","listen":"127.1.0.1:1"}]`, "NAMESPACE/NAME", false},
		{AnnotationUpstreams, `[{"service":"shop/db","listen":"db:1"}]`, "ADDRESS:PORT", false},
		{AnnotationUpstreams, `[{"service":"shop/db","listen":"127.1.0.1:1","timeout":"-1s"}]`, "duration", false},
		{AnnotationUpstreams, `[] []`, "after the list", false},
		{AnnotationUpstreams, `[{"service":"shop/db","listen":"127.1.0.1:1"}]`, "no service", true},
	} {
		s := newShop(1)
		s.pods[0].Annotations[c.key] = c.value
		world, problems := World(s.objects())
		if len(problems) != 1 || problems[0].Object != "Pod/shop/cart-7d9f-0" || !strings.Contains(problems[0].Reason, c.says) {
			t.Errorf("%s %s: problems %v, want one with %q", c.key, c.value, problems, c.says)
		}
		if in := world.Find("shop/cart").Instances; len(in) != 1 || (in[0].Proxy != "") != c.sidecar {
			t.Errorf("%s %s: got %+v", c.key, c.value, in)
		}
	}
}

func TestPodsOfSeveralServices(t *testing.T) {
	s := newShop(1)
	headless := s.service.DeepCopy()
	headless.Name, headless.Spec.ClusterIP = "a-headless", corev1.ClusterIPNone
	other := s.service.DeepCopy()
	other.Name = "other"
	o := s.objects()
	o.Services = []*corev1.Service{other, headless, s.service}
	for _, c := range []struct {
		says string
		want mesh.Service
	}{{"", "shop/cart"}, {"other", "shop/other"}, {"a-headless", "shop/a-headless"}, {"none", "shop/cart"}} {
		s.pods[0].Annotations[AnnotationService] = c.says
		world, _ := World(o)
		if state, _ := world.Instance("p-0"); state == nil || state.Name != c.want {
			t.Errorf("%q: got %+v, want %s", c.says, state, c.want)
		}
	}
}

func TestGatewayPod(t *testing.T) {
	s := newShop(1)
	gate := s.pod(7)
	gate.Name, gate.Labels = "web-1", map[string]string{"app": "web"}
	gate.Annotations = map[string]string{
		AnnotationGateway: "web", AnnotationUpstreams: `[{"service":"shop/cart","listen":"0.0.0.0:8080"}]`,
	}
	s.pods = append(s.pods, gate)
	world, problems := World(s.objects())
	want := []mesh.Gateway{{Name: "outside/web", Service: "shop/cart", Proxy: "shop/web-1/p-7"}}
	if len(problems) > 0 || !reflect.DeepEqual(world.Gateways, want) || len(world.Proxies) != 2 || world.Proxies[1].Inbound.IsValid() {
		t.Errorf("got %+v, %+v, %v", world.Gateways, world.Proxies, problems)
	}
}

func TestFloors(t *testing.T) {
	for _, c := range []struct {
		least, most string
		replicas    int
		want        int
	}{
		{"2", "", 3, 2}, {"50%", "", 3, 2}, {"100%", "", 3, 3}, {"0", "", 3, 0},
		{"", "1", 3, 2}, {"", "50%", 3, 1}, {"", "0", 3, 3}, {"", "5", 3, 0}, {"many", "", 3, 3},
	} {
		o := newShop(c.replicas).objects()
		o.Budgets = []*policyv1.PodDisruptionBudget{budget(c.least, c.most)}
		world, _ := World(o)
		if got := world.Find("shop/cart").MinAvailable; got != c.want {
			t.Errorf("least %q most %q of %d: got %d, want %d", c.least, c.most, c.replicas, got, c.want)
		}
	}
	other := newShop(3).objects()
	other.Budgets = []*policyv1.PodDisruptionBudget{budget("2", "")}
	other.Budgets[0].Spec.Selector.MatchLabels["app"] = "db"
	if world, _ := World(other); world.Find("shop/cart").MinAvailable != 0 {
		t.Error("the budget of another workload counts")
	}
}

func TestWhoElseScales(t *testing.T) {
	owned := func(manager string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`)}
	}
	for _, c := range []struct {
		name   string
		change func(*Objects)
		want   string
	}{
		{"nobody", func(*Objects) {}, ""},
		{"a person", func(o *Objects) {
			o.Deployments[0].ManagedFields = []metav1.ManagedFieldsEntry{owned("kubectl")}
		}, ""},
		{"an autoscaler", func(o *Objects) { o.Autoscalers = autoscalers(nil) }, "HorizontalPodAutoscaler shop/cart"},
		{"KEDA", func(o *Objects) { o.Autoscalers = autoscalers(map[string]string{"scaledobject.keda.sh/name": "cart"}) },
			"KEDA ScaledObject shop/cart"},
		{"Argo CD", func(o *Objects) {
			o.Deployments[0].Labels = map[string]string{"argocd.argoproj.io/instance": "shop"}
		}, "Argo CD shop"},
		{"Argo CD, but for the number", func(o *Objects) {
			o.Deployments[0].Labels = map[string]string{"argocd.argoproj.io/instance": "shop"}
			o.Deployments[0].ManagedFields = []metav1.ManagedFieldsEntry{owned("kubectl")}
		}, ""},
		{"Flux by its fields", func(o *Objects) {
			o.Deployments[0].ManagedFields = []metav1.ManagedFieldsEntry{owned("kustomize-controller")}
		}, "Flux"},
		{"Helm", func(o *Objects) {
			o.Deployments[0].Annotations = map[string]string{"meta.helm.sh/release-name": "shop"}
		}, "Helm shop"},
	} {
		o := newShop(1).objects()
		c.change(o)
		if got := o.ScaleOwner("shop/cart"); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func autoscalers(labels map[string]string) []*autoscalingv2.HorizontalPodAutoscaler {
	return []*autoscalingv2.HorizontalPodAutoscaler{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", Labels: labels},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: KindDeployment, Name: "cart"},
		},
	}}
}

func TestWhatMustNotBeMet(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Objects)
		want   string
	}{
		{"nothing", func(*Objects) {}, ""},
		{"a spec that was not looked at", func(o *Objects) { o.Deployments[0].Generation = 3 }, "rollout of deployment shop/cart"},
		{"a former template", func(o *Objects) {
			former := o.ReplicaSets[0].DeepCopy()
			former.Name, former.UID = "cart-old", "rs-0"
			o.ReplicaSets = append(o.ReplicaSets, former)
		}, "rollout of deployment shop/cart"},
		{"a former template without pods", func(o *Objects) {
			former := o.ReplicaSets[0].DeepCopy()
			former.UID, former.Spec.Replicas, former.Status.Replicas = "rs-0", ptr(int32(0)), 0
			o.ReplicaSets = append(o.ReplicaSets, former)
		}, ""},
		{"an autoscaler at work", func(o *Objects) {
			o.Autoscalers = autoscalers(nil)
			o.Autoscalers[0].Status.DesiredReplicas = 3
		}, "goes from 0 to 3"},
		{"a node that is drained", func(o *Objects) {
			o.Nodes = []*corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Spec: corev1.NodeSpec{Unschedulable: true}}}
		}, "node node-1"},
	} {
		o := newShop(1).objects()
		c.change(o)
		got := o.Unsettled("shop/cart")
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestRevisions(t *testing.T) {
	s := newShop(1)
	former := s.set.DeepCopy()
	former.UID, former.Labels[labelTemplateHash], former.Annotations[annotationRevision] = "rs-0", "5c4b", "2"
	o := s.objects()
	o.ReplicaSets = append(o.ReplicaSets, former)
	got, found := o.Object("deployment/shop/cart")
	want := Object{
		Name: "deployment/shop/cart", Services: []mesh.Service{"shop/cart"}, Current: "7d9f", Known: []string{"5c4b", "7d9f"},
	}
	if !found || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, name := range []string{"deployment/shop/none", "cart", "daemonset/shop/cart", "deployment/shop/cart/x"} {
		if _, found := o.Object(name); found {
			t.Errorf("%s is found", name)
		}
	}
}

// Nothing that a pod says makes the world panic, and a port is never made up.
func FuzzParseUpstreams(f *testing.F) {
	for _, seed := range []string{"", "[]", `[{"service":"shop/db","listen":"127.1.0.1:5432","timeout":"0s"}]`, `[{`, `[null]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseUpstreams(text)
		if err != nil {
			return
		}
		for _, o := range list {
			if _, err := mesh.ParseService(string(o.Service)); err != nil || o.Listen.Port() == 0 || o.Timeout < 0 {
				t.Errorf("%q gives %+v", text, o)
			}
		}
	})
}

func FuzzParseObjective(f *testing.F) {
	for _, seed := range []string{"", "p99=100ms", "errors=0.1%", "p99=1s,errors=5%", "errors=NaN%", "p99="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseObjective(text)
		if err == nil && (o.P99 < 0 || !(o.Errors >= 0 && o.Errors <= 1)) {
			t.Errorf("%q gives %+v", text, o)
		}
	})
}

func TestStatefulSetIsAWorkload(t *testing.T) {
	s := newShop(1)
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "s-1"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr(int32(3)), Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "cart"}}},
		},
	}
	s.pods[0].OwnerReferences = controlledBy("StatefulSet", "cart", "s-1")
	o := s.objects()
	o.Deployments, o.StatefulSets = nil, []*appsv1.StatefulSet{set}
	o.Services[0].Spec.Ports[0].TargetPort = intstr.FromInt32(0)
	world, problems := World(o)
	if state := world.Find("shop/cart"); state.Replicas != 3 || state.Instances[0].App.Port() != 80 || len(problems) > 0 {
		t.Errorf("got %+v, %v", state, problems)
	}
	if w, owned := o.owner(s.pods[0]); !owned || w.kind != KindStatefulSet {
		t.Errorf("owner: got %+v, %v", w, owned)
	}
	if why := irreplaceable(s.pods[0], &workload{kind: KindStatefulSet}); why == "" {
		t.Error("a StatefulSet's pod is replaced")
	}
}
