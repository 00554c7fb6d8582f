package kube

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/identity"
)

// Speaks is an identity.Rule: the holder of the SPIFFE path /ns/NAMESPACE/sa/ACCOUNT may
// speak as the proxies in pods that run under that service account, gateways among them.
func (c *Cluster) Speaks(path string, p *mesh.Proxy) error {
	objects, _ := c.present()
	pod := objects.podOfNode(p.Node)
	if pod == nil {
		return fmt.Errorf("no pod has the proxy %q: %w", p.Node, identity.ErrForeign)
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	if want := "/ns/" + pod.Namespace + "/sa/" + account; path != want {
		return fmt.Errorf("its path is %q, that of the pod's service account is %q: %w", path, want, identity.ErrForeign)
	}
	return nil
}

// podOfNode returns the pod whose proxy has a node id, nil if there is none.
func (o *Objects) podOfNode(node string) *corev1.Pod {
	for _, p := range o.Pods {
		if Node(p.Namespace, p.Name, string(p.UID)) == node {
			return p
		}
	}
	return nil
}
