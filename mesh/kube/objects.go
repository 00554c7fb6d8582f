package kube

import (
	"cmp"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicemesh/sluice/mesh"
)

// Objects is what the API server listed at about one moment; nothing of it is changed.
type Objects struct {
	Services     []*corev1.Service
	Slices       []*discoveryv1.EndpointSlice
	Pods         []*corev1.Pod
	ReplicaSets  []*appsv1.ReplicaSet
	Deployments  []*appsv1.Deployment
	StatefulSets []*appsv1.StatefulSet
	Revisions    []*appsv1.ControllerRevision
	Budgets      []*policyv1.PodDisruptionBudget
	Autoscalers  []*autoscalingv2.HorizontalPodAutoscaler
	Nodes        []*corev1.Node
}

// Kinds of workloads, in the spelling of the API.
const (
	KindDeployment  = "Deployment"
	KindStatefulSet = "StatefulSet"
	kindReplicaSet  = "ReplicaSet"
)

// workload is what brings pods of a service back.
type workload struct {
	kind     string
	meta     *metav1.ObjectMeta
	replicas int
	template *corev1.PodTemplateSpec
}

// workloads lists the Deployments and StatefulSets of a namespace whose pods a selector
// matches, by kind and name.
func (o *Objects) workloads(namespace string, selector labels.Selector) []workload {
	var out []workload
	for _, d := range o.Deployments {
		if d.Namespace == namespace && selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			out = append(out, deployment(d))
		}
	}
	for _, s := range o.StatefulSets {
		if s.Namespace == namespace && selector.Matches(labels.Set(s.Spec.Template.Labels)) {
			out = append(out, statefulSet(s))
		}
	}
	slices.SortFunc(out, func(a, b workload) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.meta.Name, b.meta.Name))
	})
	return out
}

func deployment(d *appsv1.Deployment) workload {
	return workload{kind: KindDeployment, meta: &d.ObjectMeta, replicas: wanted(d.Spec.Replicas), template: &d.Spec.Template}
}

func statefulSet(s *appsv1.StatefulSet) workload {
	return workload{kind: KindStatefulSet, meta: &s.ObjectMeta, replicas: wanted(s.Spec.Replicas), template: &s.Spec.Template}
}

// wanted is the number of replicas that a spec asks for; the API's default is 1.
func wanted(replicas *int32) int {
	if replicas == nil {
		return 1
	}
	return int(*replicas)
}

// owner returns the workload that brings pod back, false if none does that is known: a
// pod that was taken out of its ReplicaSet, or is a DaemonSet's, a Job's or nobody's.
func (o *Objects) owner(pod *corev1.Pod) (workload, bool) {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return workload{}, false
	}
	switch ref.Kind {
	case kindReplicaSet:
		for _, rs := range o.ReplicaSets {
			if rs.UID == ref.UID {
				return o.deploymentOf(rs)
			}
		}
	case KindStatefulSet:
		for _, s := range o.StatefulSets {
			if s.UID == ref.UID {
				return statefulSet(s), true
			}
		}
	}
	return workload{}, false
}

func (o *Objects) deploymentOf(rs *appsv1.ReplicaSet) (workload, bool) {
	ref := metav1.GetControllerOf(rs)
	for _, d := range o.Deployments {
		if ref != nil && d.UID == ref.UID {
			return deployment(d), true
		}
	}
	return workload{}, false
}

// service returns the Service called name, nil if there is none.
func (o *Objects) service(name mesh.Service) *corev1.Service {
	for _, s := range o.Services {
		if s.Namespace == name.Namespace() && s.Name == name.Name() {
			return s
		}
	}
	return nil
}

// workloadsOf lists the workloads of a service.
func (o *Objects) workloadsOf(name mesh.Service) []workload {
	s := o.service(name)
	if s == nil || len(s.Spec.Selector) == 0 {
		return nil
	}
	return o.workloads(s.Namespace, labels.SelectorFromSet(s.Spec.Selector))
}

// pod returns the pod with the UID, nil if there is none.
func (o *Objects) pod(uid mesh.UID) *corev1.Pod {
	for _, p := range o.Pods {
		if p.UID == types.UID(uid) {
			return p
		}
	}
	return nil
}

// node returns the node called name, nil if it is not known.
func (o *Objects) node(name string) *corev1.Node {
	for _, n := range o.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}
