package kube

import (
	"bytes"
	"cmp"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicemesh/sluice/mesh"
)

// FieldManager is the name under which Sluice writes.
const FieldManager = "sluice"

// gitOps are the marks of tools that put an object back to what a repository says.
func gitOps() []struct{ tool, label, manager string } {
	return []struct{ tool, label, manager string }{
		{"Argo CD", "argocd.argoproj.io/instance", "argocd-controller"},
		{"Argo CD", "argocd.argoproj.io/tracking-id", "argocd-controller"},
		{"Flux", "kustomize.toolkit.fluxcd.io/name", "kustomize-controller"},
		{"Flux", "helm.toolkit.fluxcd.io/name", "helm-controller"},
		{"Helm", "meta.helm.sh/release-name", "helm"},
	}
}

// source names the tool that writes an object from elsewhere, "" = none: by the labels and
// annotations that these tools put, or by who manages its fields.
func source(meta *metav1.ObjectMeta) string {
	for _, g := range gitOps() {
		if name := cmp.Or(meta.Labels[g.label], meta.Annotations[g.label]); name != "" {
			return g.tool + " " + name
		}
	}
	for i := range meta.ManagedFields {
		for _, g := range gitOps() {
			if meta.ManagedFields[i].Manager == g.manager {
				return g.tool
			}
		}
	}
	return ""
}

// replicasManager reports whether the managed fields say who set spec.replicas, and who
// of the tools above it was.
func replicasManager(meta *metav1.ObjectMeta) (tool string, known bool) {
	for i := range meta.ManagedFields {
		f := &meta.ManagedFields[i]
		if f.FieldsV1 == nil || !bytes.Contains(f.FieldsV1.GetRawBytes(), []byte(`"f:replicas"`)) ||
			!bytes.Contains(f.FieldsV1.GetRawBytes(), []byte(`"f:spec"`)) || f.Subresource == "status" {
			continue
		}
		known = true
		for _, g := range gitOps() {
			if f.Manager == g.manager {
				return g.tool, true
			}
		}
	}
	return "", known
}

// ScaleOwner says who else sets the number of a service's replicas, "" = nobody: an
// autoscaler of one of its workloads, or a GitOps tool whose source has the number.
func (o *Objects) ScaleOwner(name mesh.Service) string {
	for _, w := range o.workloadsOf(name) {
		if owner := o.scaleOwner(&w); owner != "" {
			return owner
		}
	}
	return ""
}

func (o *Objects) scaleOwner(w *workload) string {
	if h := o.autoscaler(w); h != nil {
		if keda := h.Labels["scaledobject.keda.sh/name"]; keda != "" {
			return "KEDA ScaledObject " + h.Namespace + "/" + keda
		}
		return "HorizontalPodAutoscaler " + h.Namespace + "/" + h.Name
	}
	from := source(w.meta)
	if from == "" {
		return ""
	}
	if tool, known := replicasManager(w.meta); known && tool == "" {
		return "" // the tool writes the object, but not the number
	}
	return from
}

// autoscaler returns the autoscaler of a workload, nil if there is none.
func (o *Objects) autoscaler(w *workload) *autoscalingv2.HorizontalPodAutoscaler {
	for _, h := range o.Autoscalers {
		ref := h.Spec.ScaleTargetRef
		if h.Namespace == w.meta.Namespace && ref.Kind == w.kind && ref.Name == w.meta.Name {
			return h
		}
	}
	return nil
}

// Unsettled says what is under way in a service that a restart must not meet: a rollout,
// an autoscaler at work, a node that is being drained; "" = nothing.
func (o *Objects) Unsettled(name mesh.Service) string {
	for _, w := range o.workloadsOf(name) {
		if why := o.rollout(&w); why != "" {
			return why
		}
		if h := o.autoscaler(&w); h != nil && h.Status.DesiredReplicas != h.Status.CurrentReplicas {
			return fmt.Sprintf("HorizontalPodAutoscaler %s/%s goes from %d to %d replicas", h.Namespace, h.Name,
				h.Status.CurrentReplicas, h.Status.DesiredReplicas)
		}
	}
	world, _ := World(o)
	state := world.Find(name)
	if state == nil {
		return ""
	}
	for i := range state.Instances {
		p := o.pod(state.Instances[i].UID)
		if n := o.node(p.Spec.NodeName); n != nil && leaving(n) {
			return fmt.Sprintf("node %s of pod %s is being drained, or does not answer", n.Name, p.Name)
		}
	}
	return ""
}

func leaving(n *corev1.Node) bool {
	for i := range n.Status.Conditions {
		if c := &n.Status.Conditions[i]; c.Type == corev1.NodeReady && c.Status == corev1.ConditionUnknown {
			return true
		}
	}
	return n.Spec.Unschedulable
}

// rollout says that pods of two templates are meant to be there, "" if not.
func (o *Objects) rollout(w *workload) string {
	switch w.kind {
	case KindDeployment:
		for _, d := range o.Deployments {
			if d.UID == w.meta.UID && (d.Status.ObservedGeneration < d.Generation || o.formerPods(d)) {
				return fmt.Sprintf("rollout of deployment %s/%s is in progress", d.Namespace, d.Name)
			}
		}
	case KindStatefulSet:
		for _, s := range o.StatefulSets {
			moving := s.Status.UpdateRevision != s.Status.CurrentRevision && s.Status.UpdatedReplicas < int32(w.replicas)
			if s.UID == w.meta.UID && (s.Status.ObservedGeneration < s.Generation || moving) {
				return fmt.Sprintf("rollout of statefulset %s/%s is in progress", s.Namespace, s.Name)
			}
		}
	}
	return ""
}

// formerPods reports whether more than one ReplicaSet of d has pods.
func (o *Objects) formerPods(d *appsv1.Deployment) bool {
	n := 0
	for _, rs := range o.ReplicaSets {
		if ref := metav1.GetControllerOf(rs); ref != nil && ref.UID == d.UID && (wanted(rs.Spec.Replicas) > 0 || rs.Status.Replicas > 0) {
			n++
		}
	}
	return n > 1
}
