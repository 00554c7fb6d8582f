package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluicemesh/sluice/mesh"
)

// Codes of refusals, as the instruction set spells them.
const (
	CodeUnsupported  = "unsupported"
	CodeConflict     = "conflict"
	CodeForeignOwner = "foreign-owner"
	CodeNoCapacity   = "no-capacity"
)

// RefusedError says what the cluster will not do, by which code, and why.
type RefusedError struct {
	Code   string
	Reason string
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Code + ": " + e.Reason }

func refused(code, format string, args ...any) error {
	return &RefusedError{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// Modes of a restart, as the instruction set spells them.
const (
	modeRolling = "rolling"
	modeReplace = "replace"
)

// AnnotationReplaced marks a pod that was taken out of its ReplicaSet so that another is
// brought while it still serves; its value is the name of that ReplicaSet.
const AnnotationReplaced = Prefix + "replaced"

// retry is the pause after an answer that another attempt may change.
const retry = 250 * time.Millisecond

// Restart has the pod of ref replaced and returns the instance that took its place, once
// that is Ready. It is idempotent: of a pod that is gone, or going, it waits for the
// replacement. Modes:
//
//   - rolling: the pod is evicted; where it is the last one that is ready, or the budget
//     leaves no room, as replace if that can be.
//   - replace: the pod is taken out of its ReplicaSet, which brings another while the former
//     still serves; when that is Ready, the former is evicted.
//
// Other modes, and pods that nothing would bring back, are a *RefusedError. When ctx ends
// first the error is ctx's, with what was waited for.
func (c *Cluster) Restart(ctx context.Context, ref mesh.Ref, mode string) (mesh.Instance, error) {
	if mode != "" && mode != modeRolling && mode != modeReplace {
		return mesh.Instance{}, refused(CodeUnsupported, "a pod cannot be restarted %s", mode)
	}
	objects, _ := c.present()
	pod := objects.pod(ref.UID)
	r := restart{cluster: c, ref: ref, pod: pod}
	if pod == nil || pod.DeletionTimestamp != nil {
		return r.replacement(ctx)
	}
	if pod.Annotations[AnnotationReplaced] != "" {
		return r.finish(ctx) // an earlier attempt went as far
	}
	owner, owned := objects.owner(pod)
	if !owned {
		return mesh.Instance{}, refused(CodeUnsupported,
			"pod %s/%s is of no Deployment or StatefulSet: nothing would bring it back", pod.Namespace, pod.Name)
	}
	r.owner, r.before = owner, instancesOf(objects, ref.Service)
	return r.run(ctx, objects, mode)
}

// restart is one under way.
type restart struct {
	cluster *Cluster
	ref     mesh.Ref
	pod     *corev1.Pod // as it was listed at first, nil = it was gone
	owner   workload
	before  map[mesh.UID]bool // the instances of the service at first; nil = an attempt went before
}

// instancesOf returns the UIDs of a service's instances.
func instancesOf(o *Objects, service mesh.Service) map[mesh.UID]bool {
	world, _ := World(o)
	out := map[mesh.UID]bool{}
	if state := world.Find(service); state != nil {
		for i := range state.Instances {
			out[state.Instances[i].UID] = true
		}
	}
	return out
}

func (r *restart) run(ctx context.Context, objects *Objects, mode string) (mesh.Instance, error) {
	surge := mode == modeReplace || r.tight(objects)
	if why := irreplaceable(r.pod, &r.owner); why != "" && surge {
		if mode == modeReplace {
			return mesh.Instance{}, refused(CodeUnsupported, "pod %s/%s cannot be replaced: %s",
				r.pod.Namespace, r.pod.Name, why)
		}
		surge = false
	}
	if surge {
		if err := r.release(ctx); err != nil {
			return mesh.Instance{}, err
		}
		return r.finish(ctx)
	}
	if err := r.evict(ctx); err != nil {
		return mesh.Instance{}, err
	}
	return r.replacement(ctx)
}

// tight reports whether without the pod fewer would be ready than one, or than the budgets
// of the workload ask for. That is counted here, not read from a budget's status.
func (r *restart) tight(objects *Objects) bool {
	world, _ := World(objects)
	state := world.Find(r.ref.Service)
	if state == nil {
		return true
	}
	others := 0
	for i := range state.Instances {
		if in := &state.Instances[i]; in.State == mesh.Ready && in.UID != r.ref.UID {
			others++
		}
	}
	return others < max(1, objects.floor(&r.owner))
}

// irreplaceable says why two pods of a template cannot stand beside each other, "" if they
// can.
func irreplaceable(p *corev1.Pod, owner *workload) string {
	if owner.kind != KindDeployment {
		return "it is of a " + owner.kind + ", whose pods have identities"
	}
	for i := range p.Spec.Volumes {
		if claim := p.Spec.Volumes[i].PersistentVolumeClaim; claim != nil && !claim.ReadOnly {
			return "it has the volume claim " + claim.ClaimName
		}
	}
	for i := range p.Spec.Containers {
		for _, port := range p.Spec.Containers[i].Ports {
			if port.HostPort > 0 {
				return fmt.Sprintf("it has the host port %d", port.HostPort)
			}
		}
	}
	return ""
}

// release takes the pod out of its ReplicaSet: without the label that tells templates
// apart, and with all others, so that services and policies still bind it.
func (r *restart) release(ctx context.Context) error {
	return r.precisely(ctx, func(live *corev1.Pod) error {
		if live.Annotations[AnnotationReplaced] != "" {
			return nil
		}
		set := metav1.GetControllerOf(live)
		if set == nil || live.Labels[labelTemplateHash] == "" {
			return refused(CodeConflict, "pod %s/%s was taken out of its ReplicaSet by somebody else", live.Namespace, live.Name)
		}
		patch := fmt.Appendf(nil,
			`{"metadata":{"uid":%q,"resourceVersion":%q,"labels":{%q:null},"annotations":{%q:%q}}}`,
			live.UID, live.ResourceVersion, labelTemplateHash, AnnotationReplaced, set.Name)
		_, err := r.cluster.settings.Client.CoreV1().Pods(live.Namespace).Patch(ctx, live.Name,
			types.MergePatchType, patch, metav1.PatchOptions{FieldManager: FieldManager})
		return err
	})
}

// finish waits for the pod that takes the place of one that was taken out, and evicts that.
func (r *restart) finish(ctx context.Context) (mesh.Instance, error) {
	instance, err := r.replacement(ctx)
	if err != nil {
		return instance, err
	}
	return instance, r.evict(ctx)
}

// evict asks for the pod to be evicted until that is granted, or the pod is gone.
func (r *restart) evict(ctx context.Context) error {
	return r.precisely(ctx, func(live *corev1.Pod) error {
		if live.DeletionTimestamp != nil {
			return nil
		}
		uid, version := live.UID, live.ResourceVersion
		err := r.cluster.settings.Client.PolicyV1().Evictions(live.Namespace).Evict(ctx, &policyv1.Eviction{
			ObjectMeta: metav1.ObjectMeta{Namespace: live.Namespace, Name: live.Name},
			DeleteOptions: &metav1.DeleteOptions{
				Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
			},
		})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// precisely calls write with the pod as the API server has it at this moment, again when
// that has changed meanwhile or a budget has no room, until ctx ends. A pod that is gone
// needs no write.
func (r *restart) precisely(ctx context.Context, write func(live *corev1.Pod) error) error {
	pods := r.cluster.settings.Client.CoreV1().Pods(r.pod.Namespace)
	for {
		live, err := pods.Get(ctx, r.pod.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && live.UID != r.pod.UID {
			return nil
		}
		if err == nil {
			err = write(live)
		}
		if !passing(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s/%s: %w: %w", r.pod.Namespace, r.pod.Name, err, ctx.Err())
		case <-time.After(retry):
		}
	}
}

// passing reports whether another attempt can do better: what was written had changed, a
// budget has no room now, or the API server does not answer.
func passing(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsTimeout(err) || apierrors.IsInternalError(err) || apierrors.IsServiceUnavailable(err)
}

// replacement waits for the instance that takes the pod's place, whose sidecar serves: one
// that was not there before, or, if an earlier attempt may have brought it, the one that was
// made last as soon as all that are wanted are ready without the pod.
func (r *restart) replacement(ctx context.Context) (mesh.Instance, error) {
	var found mesh.Instance
	err := r.cluster.await(ctx, func(o *Objects) (bool, error) {
		world, _ := World(o)
		state := world.Find(r.ref.Service)
		if state == nil {
			return false, refused(CodeConflict, "service %s is gone", r.ref.Service)
		}
		var ready int
		found, ready = r.newest(o, state)
		return found.UID != "" && (r.before != nil || ready >= state.Replicas), nil
	})
	if err != nil {
		return mesh.Instance{}, fmt.Errorf("wait for a ready instance of %s: %w", r.ref.Service, err)
	}
	return found, nil
}

// newest returns the instance made last of those that can have taken the pod's place, and
// how many there are.
func (r *restart) newest(o *Objects, state *mesh.ServiceState) (mesh.Instance, int) {
	var found mesh.Instance
	made, n := time.Time{}, 0
	for i := range state.Instances {
		in := &state.Instances[i]
		if in.State != mesh.Ready || in.UID == r.ref.UID || r.before[in.UID] || !r.cluster.serves(in) {
			continue
		}
		n++
		if created := o.pod(in.UID).CreationTimestamp.Time; !created.Before(made) {
			found, made = *in, created
		}
	}
	return found, n
}

// serves reports whether the sidecar of an instance, if it has one, has its configuration.
func (c *Cluster) serves(in *mesh.Instance) bool {
	return in.Proxy == "" || c.settings.Serving == nil || c.settings.Serving(in.Proxy)
}
