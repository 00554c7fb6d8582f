package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sluicemesh/sluice/mesh/kube"
)

// turnedOff is what cannot be done here for want of permissions.
type turnedOff struct {
	without        []kube.Optional
	scale, configs bool
	reasons        []string // for people
}

// want is a permission, and what rests on it.
type want struct {
	verb, group, resource, subresource string
	off                                func(*turnedOff) // nil: nothing works without it
	what                               string
}

func wants() []want {
	without := func(kind kube.Optional) func(*turnedOff) {
		return func(t *turnedOff) { t.without = append(t.without, kind) }
	}
	noScale := func(t *turnedOff) { t.scale = true }
	noConfigs := func(t *turnedOff) { t.configs = true }
	return []want{
		{verb: "list", resource: "services"},
		{verb: "list", resource: "pods"},
		{verb: "list", group: "discovery.k8s.io", resource: "endpointslices"},
		{verb: "list", group: "apps", resource: "replicasets"},
		{verb: "list", group: "apps", resource: "deployments"},
		{verb: "list", group: "apps", resource: "statefulsets"},
		{verb: "list", group: "policy", resource: "poddisruptionbudgets"},
		{verb: "list", resource: "nodes", off: without(kube.Nodes), what: "zones and drains of nodes are not seen"},
		{verb: "list", group: "autoscaling", resource: "horizontalpodautoscalers", what: "Scale is off",
			off: func(t *turnedOff) { without(kube.Autoscalers)(t); noScale(t) }},
		{verb: "list", group: "apps", resource: "controllerrevisions", what: "RollbackConfig of StatefulSets is off",
			off: without(kube.Revisions)},
		{verb: "create", resource: "pods", subresource: "eviction", what: "Restart is refused by the API server",
			off: func(*turnedOff) {}},
		{verb: "patch", resource: "pods", what: "mode replace is refused by the API server", off: func(*turnedOff) {}},
		{verb: "update", group: "apps", resource: "deployments", subresource: "scale", what: "Scale is off", off: noScale},
		{verb: "patch", group: "apps", resource: "deployments", what: "RollbackConfig is off", off: noConfigs},
	}
}

// Of asking again for permissions that are not there.
const (
	patience = 3 * time.Second
	askAgain = 500 * time.Millisecond
)

// settled is permitted, asked again for a while as long as something is missing: whoever
// installs makes roles and pods at the same moment, and the API server learns of roles late.
func settled(ctx context.Context, client kubernetes.Interface, namespace string) (*turnedOff, error) {
	enough, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		found, err := permitted(ctx, client, namespace)
		if err == nil && len(found.reasons) == 0 {
			return found, nil
		}
		select {
		case <-enough.Done():
			return found, err
		case <-time.After(askAgain):
		}
	}
}

// permitted asks the API server what this replica may do in namespace ("" = everywhere).
// A permission without which nothing works is an error with its remedy.
func permitted(ctx context.Context, client kubernetes.Interface, namespace string) (*turnedOff, error) {
	out := &turnedOff{}
	var missing []string
	for _, w := range wants() {
		answer, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx,
			&authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Namespace: namespace, Verb: w.verb, Group: w.group, Resource: w.resource, Subresource: w.subresource,
				},
			}}, metav1.CreateOptions{})
		if err != nil {
			return nil, fmt.Errorf("ask for permissions: %w", err)
		}
		if answer.Status.Allowed {
			continue
		}
		name := strings.TrimSuffix(w.verb+" "+w.resource+"/"+w.subresource, "/")
		if w.off == nil {
			missing = append(missing, name)
			continue
		}
		w.off(out)
		out.reasons = append(out.reasons, "not permitted to "+name+": "+w.what)
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("not permitted to %s; the chart's ClusterRole has the rules", strings.Join(missing, ", "))
	}
	return out, nil
}
