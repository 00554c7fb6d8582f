package main

import (
	"context"
	"errors"

	"github.com/sluicemesh/sluice/cmd/internal/ports"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/kube"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/topology/feed"
)

// processes is the driver's port to the cluster.
type processes struct {
	cluster *kube.Cluster
	feed    *feed.Feed
}

// Restart implements driver.Processes.
func (p processes) Restart(ctx context.Context, ref mesh.Ref, mode isa.Mode) (mesh.Instance, error) {
	instance, err := p.cluster.Restart(ctx, ref, string(mode))
	return instance, portError(err)
}

// World implements driver.Processes.
func (p processes) World() *mesh.World { return p.feed.World() }

// portError makes a refusal of the cluster one of the driver's.
func portError(err error) error {
	if refused := (*kube.RefusedError)(nil); errors.As(err, &refused) {
		return &driver.Refused{Code: isa.Code(refused.Code), Reason: refused.Reason}
	}
	return err
}

// scaler is the driver's port to the scale of workloads.
type scaler struct{ cluster *kube.Cluster }

// Scale implements driver.Scaler.
func (s scaler) Scale(ctx context.Context, service mesh.Service, replicas int) (int, error) {
	former, err := s.cluster.Scale(ctx, service, replicas)
	return former, portError(err)
}

// Owner implements driver.Scaler.
func (s scaler) Owner(service mesh.Service) string { return s.cluster.Owner(service) }

// configs is the driver's port to the revisions of workloads.
type configs struct{ cluster *kube.Cluster }

// Object implements driver.Configs.
func (c configs) Object(name string) (microkernel.ObjectView, bool) {
	o, found := c.cluster.Object(name)
	return microkernel.ObjectView{
		Name: o.Name, Services: o.Services, Current: o.Current, Known: o.Known, Owner: o.Owner,
	}, found
}

// SetRevision implements driver.Configs.
func (c configs) SetRevision(ctx context.Context, object, revision string) (string, error) {
	former, err := c.cluster.SetRevision(ctx, object, revision)
	return former, portError(err)
}

// traffic is the driver's port to the proxies, with no drain of what something else is
// moving.
type traffic struct {
	ports.Traffic
	cluster *kube.Cluster
}

// Apply implements driver.Traffic.
func (t traffic) Apply(ctx context.Context, overlay mesh.Overlay) (mesh.Acks, error) {
	if overlay.Drain != nil {
		if why := t.cluster.Unsettled(overlay.Key.Callee); why != "" {
			return mesh.Acks{}, &driver.Refused{Code: isa.CodeConflict, Reason: why}
		}
	}
	return t.Traffic.Apply(ctx, overlay)
}

// capability is what can be done to a service behind our sidecars in a cluster: a pod is
// never restarted in place.
func capability(of func(*mesh.ServiceState) mesh.Capability) func(*mesh.ServiceState) mesh.Capability {
	return func(state *mesh.ServiceState) mesh.Capability {
		c := of(state)
		c.InPlace = false
		return c
	}
}
