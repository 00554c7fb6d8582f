package kube

import (
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// floor returns how many pods of a workload must be ready by the disruption budgets that
// are about it: the greatest of them, computed here from their specs, since the status of a
// budget is late and counts pods that are going. A budget that cannot be read keeps all.
func (o *Objects) floor(w *workload) int {
	floor := 0
	for _, b := range o.Budgets {
		if b.Namespace != w.meta.Namespace {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err != nil {
			floor = max(floor, w.replicas)
			continue
		}
		if selector.Matches(labels.Set(w.template.Labels)) {
			floor = max(floor, floorOf(b, w.replicas))
		}
	}
	return floor
}

// floorOf is what one budget leaves of replicas; percentages are rounded up, as the
// disruption controller does.
func floorOf(b *policyv1.PodDisruptionBudget, replicas int) int {
	switch {
	case b.Spec.MinAvailable != nil:
		least, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MinAvailable, replicas, true)
		if err != nil {
			return replicas
		}
		return least
	case b.Spec.MaxUnavailable != nil:
		most, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MaxUnavailable, replicas, true)
		if err != nil {
			return replicas
		}
		return max(0, replicas-most)
	}
	return 0
}
