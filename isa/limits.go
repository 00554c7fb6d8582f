package isa

import (
	"cmp"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// ownNamespace is where a cluster runs Sluice: everything in it is Sluice's own.
const ownNamespace = "sluice-system"

// DefaultLimits returns the documented defaults of RecoveryPolicy.
func DefaultLimits() Limits { return Limits{}.complete() }

// complete returns l with the default for every limit that is zero.
func (l Limits) complete() Limits {
	l.MaxGroupSize = cmp.Or(l.MaxGroupSize, 30)
	l.FanInMustDrain = cmp.Or(l.FanInMustDrain, 20)
	l.MaxPlanServices = cmp.Or(l.MaxPlanServices, 8)
	l.MaxPlanShare = cmp.Or(l.MaxPlanShare, 0.25)
	l.MaxPlanCeiling = cmp.Or(l.MaxPlanCeiling, 30)
	l.LimitShareOfLoad = cmp.Or(l.LimitShareOfLoad, 0.5)
	l.BreakConcurrency = cmp.Or(l.BreakConcurrency, 2)
	l.MaxLease = cmp.Or(l.MaxLease, 120*time.Second)
	l.MaxDrainDeadline = cmp.Or(l.MaxDrainDeadline, 30*time.Second)
	if l.ProtectedNamespaces == nil {
		l.ProtectedNamespaces = protectedNamespaces()
	}
	if l.Self == nil {
		l.Self = ownServices()
	}
	return l
}

func protectedNamespaces() []string {
	return []string{
		"calico-system", "cert-manager", "istio-cni", "istio-system", "kube-flannel", "kube-node-lease",
		"kube-public", "kube-system", "linkerd", "linkerd-cni", "linkerd-viz", "observability",
		"opentelemetry-operator-system", ownNamespace, "tigera-operator",
	}
}

func ownServices() []mesh.Service {
	return []mesh.Service{"sluice/agents", "sluice/sluiced", ownNamespace + "/sluice"}
}

// budget is how many services a plan may restart beyond its own group's restart set.
func (l *Limits) budget(graph int) int {
	share := l.MaxPlanShare * float64(graph)
	whole := int(share)
	if float64(whole) < share {
		whole++
	}
	return min(max(l.MaxPlanServices, whole), l.MaxPlanCeiling)
}

// Guard returns the code that keeps service from being acted upon, "" if none does; declared
// is whether service itself says that it is protected. The zero value of a limit means the
// documented default.
func (l Limits) Guard(service mesh.Service, declared bool) Code {
	l = l.complete()
	return l.guard(service, declared)
}

// guard returns the code that protects service from being a target, "" if none does.
func (l *Limits) guard(service mesh.Service, declared bool) Code {
	switch {
	case service.Namespace() == ownNamespace || slices.Contains(l.Self, service):
		return CodeSelf
	case slices.Contains(l.ProtectedNamespaces, service.Namespace()):
		return CodeProtectedNamespace
	case declared || slices.Contains(l.ProtectedServices, service):
		return CodeProtected
	}
	return ""
}
