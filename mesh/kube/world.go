package kube

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/sluicemesh/sluice/mesh"
)

// Problem is something in an object that was passed over, and why: the object serves on as
// if it were not there.
type Problem struct {
	Object string // kind/namespace/name
	Reason string
}

// Labels by which versions and zones are known.
const (
	labelVersion      = "app.kubernetes.io/version"
	labelTemplateHash = "pod-template-hash"
	labelRevision     = "controller-revision-hash"
	labelZone         = "topology.kubernetes.io/zone"
)

// World returns the world that o shows, with version 0, and what of o was passed over.
func World(o *Objects) (*mesh.World, []Problem) {
	b := worldBuilder{
		objects: o, ready: readiness(o), states: map[mesh.Service]*mesh.ServiceState{},
		selecting: map[string][]selecting{}, zones: map[string]string{},
		declared: map[mesh.Service]map[mesh.Service]mesh.Upstream{},
	}
	for _, n := range o.Nodes {
		b.zones[n.Name] = n.Labels[labelZone]
	}
	for _, s := range o.Services {
		b.service(s)
	}
	for _, p := range o.Pods {
		b.pod(p)
	}
	return b.world(), b.problems
}

type worldBuilder struct {
	objects   *Objects
	ready     map[types.UID]bool
	zones     map[string]string      // by node
	selecting map[string][]selecting // by namespace
	states    map[mesh.Service]*mesh.ServiceState
	declared  map[mesh.Service]map[mesh.Service]mesh.Upstream // by caller, then callee
	proxies   []mesh.Proxy
	gateways  []mesh.Gateway
	problems  []Problem
}

// selecting is a Service of the world with its selector made ready.
type selecting struct {
	service  *corev1.Service
	selector labels.Selector
}

func (b *worldBuilder) problem(kind, namespace, name, reason string) {
	b.problems = append(b.problems, Problem{Object: kind + "/" + namespace + "/" + name, Reason: reason})
}

// readiness says which pods the EndpointSlices have as ready; a pod that no slice lists is
// not in it.
func readiness(o *Objects) map[types.UID]bool {
	ready := map[types.UID]bool{}
	for _, slice := range o.Slices {
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
				continue
			}
			// Unknown is to be read as ready, as the API says.
			now := e.Conditions.Ready == nil || *e.Conditions.Ready
			former, listed := ready[e.TargetRef.UID]
			ready[e.TargetRef.UID] = now && (former || !listed)
		}
	}
	return ready
}

// service adds the declaration of one Service; one without a selector has no instances
// that could be restarted, and is left out.
func (b *worldBuilder) service(s *corev1.Service) {
	if len(s.Spec.Selector) == 0 || s.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	name, err := mesh.ParseService(s.Namespace + "/" + s.Name)
	if err != nil {
		b.problem("Service", s.Namespace, s.Name, err.Error())
		return
	}
	state := &mesh.ServiceState{Name: name, Protocol: protocolOf(s)}
	if state.Objective, err = parseObjective(s.Annotations[AnnotationObjective]); err != nil {
		b.problem("Service", s.Namespace, s.Name, AnnotationObjective+": "+err.Error())
	}
	if text := s.Annotations[AnnotationStartup]; text != "" {
		if state.Startup, err = time.ParseDuration(text); err != nil || state.Startup < 0 {
			state.Startup = 0
			b.problem("Service", s.Namespace, s.Name, fmt.Sprintf("%s: %+q is no duration", AnnotationStartup, text))
		}
	}
	if text := s.Annotations[AnnotationQuorum]; text != "" {
		if state.Quorum, err = strconv.Atoi(text); err != nil || state.Quorum < 0 {
			state.Quorum, state.Protected = 0, true
			b.problem("Service", s.Namespace, s.Name,
				fmt.Sprintf("%s: %+q is no number; the service is protected until it is", AnnotationQuorum, text))
		}
	}
	if s.Annotations[AnnotationProtected] == "true" {
		state.Protected = true
	}
	selector := labels.SelectorFromSet(s.Spec.Selector)
	b.selecting[s.Namespace] = append(b.selecting[s.Namespace], selecting{service: s, selector: selector})
	for _, w := range b.objects.workloads(s.Namespace, selector) {
		state.Replicas += w.replicas
		state.MinAvailable += b.objects.floor(&w)
	}
	b.states[name] = state
}

// protocolOf says what a Service speaks: by annotation, else by its first port.
func protocolOf(s *corev1.Service) mesh.Protocol {
	text := s.Annotations[AnnotationProtocol]
	if text == "" && len(s.Spec.Ports) > 0 {
		port := &s.Spec.Ports[0]
		if port.AppProtocol != nil {
			text = *port.AppProtocol
		} else {
			text, _, _ = strings.Cut(port.Name, "-")
		}
	}
	if text == "tcp" || text == "kubernetes.io/tcp" {
		return mesh.TCP
	}
	return mesh.HTTP
}

// pod adds an instance with its sidecar, or a gateway.
func (b *worldBuilder) pod(p *corev1.Pod) {
	address, err := netip.ParseAddr(p.Status.PodIP)
	if err != nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return // has no address yet, or has ended
	}
	if gateway := p.Annotations[AnnotationGateway]; gateway != "" {
		b.gateway(p, gateway)
		return
	}
	s := b.serviceOf(p)
	if s == nil {
		return
	}
	state := b.states[mesh.Service(s.Namespace+"/"+s.Name)]
	instance := mesh.Instance{
		Ref:  mesh.Ref{Service: state.Name, UID: mesh.UID(p.UID), Incarnation: 1},
		Name: p.Name, Zone: b.zones[p.Spec.NodeName], Version: versionOf(p), State: b.stateOf(p),
	}
	port, err := appPort(p, s)
	if err != nil {
		b.problem("Pod", p.Namespace, p.Name, err.Error())
	} else {
		instance.App = netip.AddrPortFrom(address, port)
		instance.Inbound = instance.App
	}
	if p.Annotations[AnnotationInbound] != "" && err == nil {
		if proxy, err := b.sidecar(p, address, port, state.Name); err != nil {
			b.problem("Pod", p.Namespace, p.Name, err.Error())
		} else {
			instance.Inbound, instance.Proxy = proxy.Inbound, proxy.Node
			b.proxies = append(b.proxies, proxy)
		}
	}
	state.Instances = append(state.Instances, instance)
}

// serviceOf returns the Service that the pod is an instance of, nil if none selects it: the
// one that it names, else the first by name, those with a cluster address before headless ones.
func (b *worldBuilder) serviceOf(p *corev1.Pod) *corev1.Service {
	var found *corev1.Service
	for _, candidate := range b.selecting[p.Namespace] {
		s := candidate.service
		if !candidate.selector.Matches(labels.Set(p.Labels)) {
			continue
		}
		if s.Name == p.Annotations[AnnotationService] {
			return s
		}
		if found == nil || preferred(s, found) {
			found = s
		}
	}
	return found
}

func preferred(s, to *corev1.Service) bool {
	headless, other := s.Spec.ClusterIP == corev1.ClusterIPNone, to.Spec.ClusterIP == corev1.ClusterIPNone
	if headless != other {
		return other
	}
	return s.Name < to.Name
}

func versionOf(p *corev1.Pod) string {
	for _, label := range []string{labelVersion, labelTemplateHash, labelRevision} {
		if v := p.Labels[label]; v != "" {
			return v
		}
	}
	return ""
}

// stateOf is Ready only if the pod says so and no EndpointSlice says otherwise.
func (b *worldBuilder) stateOf(p *corev1.Pod) mesh.InstanceState {
	listed, known := b.ready[p.UID]
	switch {
	case p.DeletionTimestamp != nil:
		return mesh.Unready // it takes nothing new, and what it has it may finish
	case podReady(p) && (listed || !known):
		return mesh.Ready
	case started(p):
		return mesh.Unready
	}
	return mesh.Starting
}

func podReady(p *corev1.Pod) bool {
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// started reports whether every container has been up once.
func started(p *corev1.Pod) bool {
	for i := range p.Status.ContainerStatuses {
		if s := &p.Status.ContainerStatuses[i]; s.RestartCount == 0 && (s.Started == nil || !*s.Started) {
			return false
		}
	}
	return len(p.Status.ContainerStatuses) > 0
}

// appPort is the port at which the application listens.
func appPort(p *corev1.Pod, s *corev1.Service) (uint16, error) {
	if text := p.Annotations[AnnotationApp]; text != "" {
		port, err := parsePort(text)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", AnnotationApp, err)
		}
		return port, nil
	}
	if len(s.Spec.Ports) == 0 {
		return 0, fmt.Errorf("service %s has no port; say %s", s.Name, AnnotationApp)
	}
	target := s.Spec.Ports[0].TargetPort
	if target.Type == intstr.Int {
		if n := cmp.Or(target.IntVal, s.Spec.Ports[0].Port); n > 0 && n <= 65535 {
			return uint16(n), nil
		}
	}
	for i := range p.Spec.Containers {
		for _, port := range p.Spec.Containers[i].Ports {
			if port.Name == target.StrVal && port.ContainerPort > 0 && port.ContainerPort <= 65535 {
				return uint16(port.ContainerPort), nil
			}
		}
	}
	return 0, fmt.Errorf("no container has port %+q of service %s; say %s", target.StrVal, s.Name, AnnotationApp)
}

// sidecar is the proxy beside an application.
func (b *worldBuilder) sidecar(p *corev1.Pod, address netip.Addr, app uint16, service mesh.Service) (mesh.Proxy, error) {
	port, err := parsePort(p.Annotations[AnnotationInbound])
	if err != nil {
		return mesh.Proxy{}, fmt.Errorf("%s: %w", AnnotationInbound, err)
	}
	park, err := netip.ParseAddrPort(cmp.Or(p.Annotations[AnnotationPark], DefaultPark))
	if err != nil {
		return mesh.Proxy{}, fmt.Errorf("%s: not ADDRESS:PORT", AnnotationPark)
	}
	proxy := mesh.Proxy{
		Node:    Node(p.Namespace, p.Name, string(p.UID)),
		Service: service, Instance: mesh.UID(p.UID),
		Inbound: netip.AddrPortFrom(address, port),
		App:     netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), app),
		Park:    park,
	}
	if proxy.Outbound, err = b.outbound(p, service); err != nil {
		return mesh.Proxy{}, fmt.Errorf("%s: %w", AnnotationUpstreams, err)
	}
	return proxy, nil
}

// outbound reads the upstreams of a pod and notes that its service declares them.
func (b *worldBuilder) outbound(p *corev1.Pod, service mesh.Service) ([]mesh.Outbound, error) {
	list, err := parseUpstreams(p.Annotations[AnnotationUpstreams])
	if err != nil {
		return nil, err
	}
	if b.declared[service] == nil {
		b.declared[service] = map[mesh.Service]mesh.Upstream{}
	}
	var out []mesh.Outbound
	for _, o := range list {
		if b.states[o.Service] == nil {
			b.problem("Pod", p.Namespace, p.Name, fmt.Sprintf("%s: %s is no service", AnnotationUpstreams, o.Service))
			continue
		}
		out = append(out, o.Outbound)
		// Of the pods of two templates, the one that waits longest and is sticky counts.
		former, twice := b.declared[service][o.Service]
		up := mesh.Upstream{Service: o.Service, Timeout: o.Timeout, Sticky: o.sticky || former.Sticky}
		if twice && (former.Timeout == 0 || up.Timeout != 0 && former.Timeout > up.Timeout) {
			up.Timeout = former.Timeout
		}
		b.declared[service][o.Service] = up
	}
	slices.SortFunc(out, func(x, y mesh.Outbound) int { return cmp.Compare(x.Service, y.Service) })
	return out, nil
}

// gateway adds a pod by which load enters.
func (b *worldBuilder) gateway(p *corev1.Pod, name string) {
	service, err := mesh.ParseService(mesh.OutsideNamespace + "/" + name)
	if err != nil {
		b.problem("Pod", p.Namespace, p.Name, AnnotationGateway+": "+err.Error())
		return
	}
	park, err := netip.ParseAddrPort(cmp.Or(p.Annotations[AnnotationPark], DefaultPark))
	if err != nil {
		b.problem("Pod", p.Namespace, p.Name, AnnotationPark+": not ADDRESS:PORT")
		return
	}
	proxy := mesh.Proxy{Node: Node(p.Namespace, p.Name, string(p.UID)), Service: service, Park: park}
	if proxy.Outbound, err = b.outbound(p, service); err != nil {
		b.problem("Pod", p.Namespace, p.Name, AnnotationUpstreams+": "+err.Error())
		return
	}
	b.proxies = append(b.proxies, proxy)
	for _, o := range proxy.Outbound {
		b.gateways = append(b.gateways, mesh.Gateway{Name: service, Service: o.Service, Proxy: proxy.Node})
	}
}

// world puts everything in its order.
func (b *worldBuilder) world() *mesh.World {
	w := &mesh.World{Proxies: b.proxies, Gateways: b.gateways}
	for name, state := range b.states {
		for _, up := range b.declared[name] {
			state.Upstreams = append(state.Upstreams, up)
		}
		slices.SortFunc(state.Upstreams, func(x, y mesh.Upstream) int { return cmp.Compare(x.Service, y.Service) })
		slices.SortFunc(state.Instances, func(x, y mesh.Instance) int { return cmp.Compare(x.Name, y.Name) })
		w.Services = append(w.Services, *state)
	}
	slices.SortFunc(w.Services, func(x, y mesh.ServiceState) int { return cmp.Compare(x.Name, y.Name) })
	slices.SortFunc(w.Proxies, func(x, y mesh.Proxy) int { return cmp.Compare(x.Node, y.Node) })
	slices.SortFunc(w.Gateways, func(x, y mesh.Gateway) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Service, y.Service), cmp.Compare(x.Proxy, y.Proxy))
	})
	slices.SortFunc(b.problems, func(x, y Problem) int {
		return cmp.Or(cmp.Compare(x.Object, y.Object), cmp.Compare(x.Reason, y.Reason))
	})
	return w
}
