package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicemesh/sluice/mesh"
)

// Object is a workload whose template can be returned to a former revision.
type Object struct {
	Name     string         // "deployment/namespace/name" or "statefulset/namespace/name"
	Services []mesh.Service // whose pods it makes, sorted
	Current  string
	Known    []string // sorted; that can be returned to
	Owner    string   // who writes it from elsewhere, "" = nobody
}

// Object describes the object called "kind/namespace/name", false if there is none.
//
// A revision is the pod-template-hash of a Deployment's ReplicaSet, or the name of a
// StatefulSet's ControllerRevision: the revision numbers of a Deployment change when it is
// rolled back.
func (c *Cluster) Object(name string) (Object, bool) {
	objects, _ := c.present()
	return objects.Object(name)
}

// Object is Cluster.Object of what was listed.
func (o *Objects) Object(name string) (Object, bool) {
	w, found := o.named(name)
	if !found {
		return Object{}, false
	}
	object := Object{Name: name, Owner: source(w.meta)}
	for _, s := range o.Services {
		if s.Namespace == w.meta.Namespace && len(s.Spec.Selector) > 0 &&
			labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(w.template.Labels)) {
			object.Services = append(object.Services, mesh.Service(s.Namespace+"/"+s.Name))
		}
	}
	slices.Sort(object.Services)
	if w.kind == KindDeployment {
		object.Current, object.Known = o.setRevisions(w.meta.UID)
	} else {
		object.Current, object.Known = o.controllerRevisions(w.meta.UID)
	}
	return object, true
}

// named finds a workload by "kind/namespace/name".
func (o *Objects) named(name string) (workload, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 3 {
		return workload{}, false
	}
	for _, d := range o.Deployments {
		if parts[0] == "deployment" && d.Namespace == parts[1] && d.Name == parts[2] {
			return deployment(d), true
		}
	}
	for _, s := range o.StatefulSets {
		if parts[0] == "statefulset" && s.Namespace == parts[1] && s.Name == parts[2] {
			return statefulSet(s), true
		}
	}
	return workload{}, false
}

const annotationRevision = "deployment.kubernetes.io/revision"

// setRevisions lists the template hashes of a Deployment's ReplicaSets; the current one is
// that of the greatest revision number.
func (o *Objects) setRevisions(deployment types.UID) (current string, known []string) {
	greatest := -1
	for _, rs := range o.ReplicaSets {
		if ref := metav1.GetControllerOf(rs); ref == nil || ref.UID != deployment {
			continue
		}
		hash := rs.Labels[labelTemplateHash]
		known = append(known, hash)
		number := 0
		if _, err := fmt.Sscan(rs.Annotations[annotationRevision], &number); err == nil && number > greatest {
			current, greatest = hash, number
		}
	}
	slices.Sort(known)
	return current, known
}

func (o *Objects) controllerRevisions(set types.UID) (current string, known []string) {
	for _, r := range o.Revisions {
		if ref := metav1.GetControllerOf(r); ref != nil && ref.UID == set {
			known = append(known, r.Name)
		}
	}
	slices.Sort(known)
	for _, s := range o.StatefulSets {
		if s.UID == set {
			current = s.Status.UpdateRevision
		}
	}
	return current, known
}

// SetRevision returns an object to a revision, waits until its rollout is complete, and says
// which revision was in force before. Setting what already is is no change. Over a tool that
// writes the object from elsewhere it is a *RefusedError with what to do there instead.
func (c *Cluster) SetRevision(ctx context.Context, name, revision string) (former string, err error) {
	objects, _ := c.present()
	object, found := objects.Object(name)
	switch {
	case !found:
		return "", refused(CodeUnsupported, "there is no %s", name)
	case object.Owner != "":
		return "", refused(CodeForeignOwner,
			"%s writes %s: revert there the commit that brought revision %s", object.Owner, name, object.Current)
	case object.Current == revision:
		return revision, nil
	case !slices.Contains(object.Known, revision):
		return "", refused(CodeUnsupported, "%s has no revision %s; it has %s", name, revision, strings.Join(object.Known, ", "))
	}
	w, _ := objects.named(name)
	patch, kind, err := objects.reverting(&w, revision)
	if err != nil {
		return "", fmt.Errorf("revision %s of %s: %w", revision, name, err)
	}
	options := metav1.PatchOptions{FieldManager: FieldManager}
	if w.kind == KindDeployment {
		_, err = c.settings.Client.AppsV1().Deployments(w.meta.Namespace).Patch(ctx, w.meta.Name, kind, patch, options)
	} else {
		_, err = c.settings.Client.AppsV1().StatefulSets(w.meta.Namespace).Patch(ctx, w.meta.Name, kind, patch, options)
	}
	if apierrors.IsConflict(err) {
		return "", refused(CodeConflict, "%s was changed meanwhile", name)
	}
	if err != nil {
		return "", fmt.Errorf("set revision of %s: %w", name, err)
	}
	return object.Current, c.rolledOut(ctx, name, revision)
}

// reverting is the patch that gives a workload the template of a revision, if it is still
// what was listed.
func (o *Objects) reverting(w *workload, revision string) ([]byte, types.PatchType, error) {
	if w.kind == KindStatefulSet {
		return o.revertingSet(w, revision)
	}
	for _, rs := range o.ReplicaSets {
		ref := metav1.GetControllerOf(rs)
		if ref == nil || ref.UID != w.meta.UID || rs.Labels[labelTemplateHash] != revision {
			continue
		}
		template := rs.Spec.Template.DeepCopy()
		delete(template.Labels, labelTemplateHash)
		patch, err := json.Marshal([]map[string]any{
			{"op": "test", "path": "/metadata/uid", "value": w.meta.UID},
			{"op": "test", "path": "/metadata/resourceVersion", "value": w.meta.ResourceVersion},
			{"op": "replace", "path": "/spec/template", "value": template},
		})
		return patch, types.JSONPatchType, err
	}
	return nil, "", refused(CodeConflict, "its ReplicaSet is gone")
}

func (o *Objects) revertingSet(w *workload, revision string) ([]byte, types.PatchType, error) {
	at := slices.IndexFunc(o.Revisions, func(r *appsv1.ControllerRevision) bool {
		return r.Namespace == w.meta.Namespace && r.Name == revision
	})
	if at < 0 {
		return nil, "", refused(CodeConflict, "it is gone")
	}
	var patch map[string]any
	if err := json.Unmarshal(o.Revisions[at].Data.Raw, &patch); err != nil {
		return nil, "", err
	}
	patch["metadata"] = map[string]any{"uid": w.meta.UID, "resourceVersion": w.meta.ResourceVersion}
	out, err := json.Marshal(patch)
	return out, types.StrategicMergePatchType, err
}

// rolledOut waits until all pods of an object are of a revision and ready.
func (c *Cluster) rolledOut(ctx context.Context, name, revision string) error {
	err := c.await(ctx, func(o *Objects) (bool, error) {
		w, found := o.named(name)
		if !found {
			return false, refused(CodeConflict, "%s is gone", name)
		}
		object, _ := o.Object(name)
		return object.Current == revision && o.rollout(&w) == "" && o.available(&w), nil
	})
	if err != nil {
		return fmt.Errorf("rollout of %s: %w", name, err)
	}
	return nil
}

// available reports whether all replicas of a workload are updated and ready.
func (o *Objects) available(w *workload) bool {
	for _, d := range o.Deployments {
		if d.UID == w.meta.UID {
			n := int32(w.replicas)
			return d.Status.UpdatedReplicas == n && d.Status.AvailableReplicas == n && d.Status.Replicas == n
		}
	}
	for _, s := range o.StatefulSets {
		if s.UID == w.meta.UID {
			return s.Status.UpdatedReplicas == int32(w.replicas) && s.Status.ReadyReplicas == int32(w.replicas)
		}
	}
	return false
}
