// Package kube is the registry and the restart driver for Kubernetes: it turns what the
// API server lists into a mesh.World, and executes restarts by eviction, scaling by the
// scale subresource and rollbacks of revisions. It is not for decisions: what may be
// restarted, and when, is the microkernel's; this package only does as it is told, and
// refuses what the cluster cannot do.
//
//	Objects     what was listed, of all kinds; functions of it are pure:
//	  World       services, instances, sidecars, gateways, floors
//	  Unsettled   a rollout, a node drain or an autoscaler at work
//	  ScaleOwner  who else sets the number of replicas
//	Cluster     informers, and the writes: Restart, Scale, SetRevision
//
// Every write carries the UID and the resource version of what it was decided on, so that
// one that rests on a stale cache conflicts instead of hitting another pod.
//
// What a pod says about its sidecar is in contract.go, and in docs/kubernetes.md.
package kube
