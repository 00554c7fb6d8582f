package kube

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// shop is a namespace with a Service, a Deployment of it with so many pods, ready and with
// sidecars, and what stands between them.
type shop struct {
	service    *corev1.Service
	deployment *appsv1.Deployment
	set        *appsv1.ReplicaSet
	pods       []*corev1.Pod
}

func begin() time.Time { return time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC) }

func newShop(replicas int) *shop {
	labels := map[string]string{"app": "cart"}
	hashed := map[string]string{"app": "cart", labelTemplateHash: "7d9f"}
	s := &shop{
		service: &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"},
			Spec: corev1.ServiceSpec{
				Selector: labels, ClusterIP: "10.96.0.7",
				Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromString("web")}},
			},
		},
		deployment: &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "d-1", ResourceVersion: "5", Generation: 2},
			Spec: appsv1.DeploymentSpec{
				Replicas: ptr(int32(replicas)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
			},
			Status: appsv1.DeploymentStatus{ObservedGeneration: 2},
		},
	}
	s.set = &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "cart-7d9f", UID: "rs-1", Labels: hashed,
			Annotations:     map[string]string{annotationRevision: "3"},
			OwnerReferences: controlledBy("Deployment", "cart", "d-1"),
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: ptr(int32(replicas)),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: hashed}},
		},
		Status: appsv1.ReplicaSetStatus{Replicas: int32(replicas)},
	}
	for i := range replicas {
		s.pods = append(s.pods, s.pod(i))
	}
	return s
}

// pod is the i-th pod of the ReplicaSet.
func (s *shop) pod(i int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: fmt.Sprintf("cart-7d9f-%d", i), UID: types.UID(fmt.Sprintf("p-%d", i)),
			ResourceVersion: "10", CreationTimestamp: metav1.NewTime(begin().Add(time.Duration(i) * time.Minute)),
			Labels:          map[string]string{"app": "cart", labelTemplateHash: "7d9f"},
			Annotations:     map[string]string{AnnotationInbound: "15006"},
			OwnerReferences: controlledBy("ReplicaSet", "cart-7d9f", "rs-1"),
		},
		Spec: corev1.PodSpec{
			NodeName:   "node-1",
			Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: fmt.Sprintf("10.244.0.%d", 10+i),
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func (s *shop) objects() *Objects {
	return &Objects{
		Services: []*corev1.Service{s.service}, Deployments: []*appsv1.Deployment{s.deployment},
		ReplicaSets: []*appsv1.ReplicaSet{s.set}, Pods: s.pods,
	}
}

// all is the same for a clientset.
func (s *shop) all() []runtime.Object {
	out := []runtime.Object{s.service, s.deployment, s.set}
	for _, p := range s.pods {
		out = append(out, p)
	}
	return out
}

func controlledBy(kind, name, uid string) []metav1.OwnerReference {
	return []metav1.OwnerReference{{
		APIVersion: "apps/v1", Kind: kind, Name: name, UID: types.UID(uid), Controller: ptr(true),
	}}
}

func budget(least, most string) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cart"}}},
	}
	if least != "" {
		b.Spec.MinAvailable = ptr(intstr.Parse(least))
	}
	if most != "" {
		b.Spec.MaxUnavailable = ptr(intstr.Parse(most))
	}
	return b
}

func ptr[T any](v T) *T { return &v }
