package kube

import (
	"context"
	"fmt"
	"math"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicemesh/sluice/mesh"
)

// Owner says who else sets the number of a service's replicas, "" = nobody.
func (c *Cluster) Owner(service mesh.Service) string {
	objects, _ := c.present()
	return objects.ScaleOwner(service)
}

// Scale sets the replicas of a service's one workload and returns what they were. Setting
// what already is is no change. A service with another owner of that number, or with two
// workloads, is a *RefusedError.
func (c *Cluster) Scale(ctx context.Context, service mesh.Service, replicas int) (former int, err error) {
	if replicas < 0 || replicas > math.MaxInt32 {
		return 0, refused(CodeUnsupported, "%d replicas", replicas)
	}
	objects, _ := c.present()
	works := objects.workloadsOf(service)
	if len(works) != 1 {
		return 0, refused(CodeUnsupported, "%s has %d workloads, one is needed to scale it", service, len(works))
	}
	w := &works[0]
	if owner := objects.scaleOwner(w); owner != "" {
		return 0, refused(CodeForeignOwner, "%s sets the replicas of %s %s/%s; there, commit: spec.replicas: %d",
			owner, w.kind, w.meta.Namespace, w.meta.Name, replicas)
	}
	for {
		scale, err := c.getScale(ctx, w)
		if err != nil {
			return 0, fmt.Errorf("scale of %s: %w", service, err)
		}
		former = int(scale.Spec.Replicas)
		if former == replicas {
			return former, nil
		}
		scale.Spec.Replicas = int32(replicas) // with the resource version that was read
		err = c.putScale(ctx, w, scale)
		if apierrors.IsConflict(err) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("scale of %s: %w", service, err)
		}
		return former, nil
	}
}

// getScale reads the scale of the very workload that was listed.
func (c *Cluster) getScale(ctx context.Context, w *workload) (*autoscalingv1.Scale, error) {
	var scale *autoscalingv1.Scale
	var err error
	apps := c.settings.Client.AppsV1()
	if w.kind == KindDeployment {
		scale, err = apps.Deployments(w.meta.Namespace).GetScale(ctx, w.meta.Name, metav1.GetOptions{})
	} else {
		scale, err = apps.StatefulSets(w.meta.Namespace).GetScale(ctx, w.meta.Name, metav1.GetOptions{})
	}
	if err == nil && scale.UID != w.meta.UID {
		return nil, refused(CodeConflict, "%s %s/%s is another than was listed", w.kind, w.meta.Namespace, w.meta.Name)
	}
	return scale, err
}

func (c *Cluster) putScale(ctx context.Context, w *workload, scale *autoscalingv1.Scale) error {
	var err error
	apps, options := c.settings.Client.AppsV1(), metav1.UpdateOptions{FieldManager: FieldManager}
	if w.kind == KindDeployment {
		_, err = apps.Deployments(w.meta.Namespace).UpdateScale(ctx, w.meta.Name, scale, options)
	} else {
		_, err = apps.StatefulSets(w.meta.Namespace).UpdateScale(ctx, w.meta.Name, scale, options)
	}
	return err
}
