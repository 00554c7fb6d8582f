package main

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/sluicemesh/sluice/api/server"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/mesh/kube"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/feed"
	"github.com/sluicemesh/sluice/topology/symptom"
	"github.com/sluicemesh/sluice/xds"
	xdsserver "github.com/sluicemesh/sluice/xds/server"
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

// traffic is the driver's port to the proxies: xds/server's, with what plain Envoy cannot
// do as a refusal with its code, and no drain of what something else is moving.
type traffic struct {
	*xdsserver.Traffic
	cluster *kube.Cluster
}

// Apply implements driver.Traffic.
func (t traffic) Apply(ctx context.Context, overlay mesh.Overlay) (mesh.Acks, error) {
	if overlay.Drain != nil {
		if why := t.cluster.Unsettled(overlay.Key.Callee); why != "" {
			return mesh.Acks{}, &driver.Refused{Code: isa.CodeConflict, Reason: why}
		}
	}
	acks, err := t.Traffic.Apply(ctx, overlay)
	if errors.Is(err, xds.ErrUnsupported) {
		err = &driver.Refused{Code: isa.CodeUnsupported, Reason: err.Error()}
	}
	return acks, err
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

// proxies lists the Envoys for the API.
type proxies struct{ server *xdsserver.Server }

// Proxies implements server.Proxies.
func (p proxies) Proxies() []server.Proxy {
	list := p.server.Proxies()
	rows := make([]server.Proxy, len(list))
	for i, status := range list {
		rows[i] = server.Proxy{
			Node: status.Node, Service: status.Service, Connected: !status.Connected.IsZero(),
			Since: status.Connected, EnvoyVersion: status.Envoy, Overlays: status.Overlays,
		}
		for _, t := range status.Types {
			rows[i].Types = append(rows[i].Types, typeRow(t))
		}
	}
	return rows
}

// Config implements server.ProxyConfigs.
func (p proxies) Config(node string) []*sluicev1.ProxyResource {
	resources := p.server.Config(node)
	var rows []*sluicev1.ProxyResource
	for _, t := range xds.Types() {
		for _, r := range resources.Of(t) {
			rows = append(rows, &sluicev1.ProxyResource{
				Type: strings.ToLower(t.Short()), Name: r.Name, Version: r.Version, Body: r.JSON(),
			})
		}
	}
	return rows
}

// Overlaid implements server.ProxyConfigs.
func (p proxies) Overlaid(node string) []*sluicev1.ProxyChange {
	return changeRows(p.server.Overlaid(node))
}

// Preview implements server.ProxyConfigs.
func (p proxies) Preview(program *isa.Program, most int) ([]*sluicev1.ProxyChange, int, error) {
	changes, leftOff, err := p.server.Preview(program, most)
	return changeRows(changes), leftOff, err
}

func changeRows(changes []xdsserver.ProxyChange) []*sluicev1.ProxyChange {
	rows := make([]*sluicev1.ProxyChange, len(changes))
	for i, c := range changes {
		rows[i] = &sluicev1.ProxyChange{
			Step: string(c.Step), Node: c.Node, Type: strings.ToLower(c.Type.Short()), Name: c.Name,
			Change: c.Kind, Diff: c.Diff,
		}
	}
	return rows
}

func typeRow(t xdsserver.TypeStatus) server.ProxyType {
	row := server.ProxyType{
		Type: strings.ToLower(t.Type), Sent: number(t.Sent), Acked: number(t.Acked),
		Nack: t.Nack, At: t.AckedAt, Resources: t.Resources,
	}
	if t.NackedAt.After(row.At) {
		row.At = t.NackedAt
	}
	return row
}

// number spells a version, "" for none.
func number(version uint64) string {
	if version == 0 {
		return ""
	}
	return strconv.FormatUint(version, 10)
}

// symptoms lists the broken objectives.
type symptoms struct{ feed *feed.Feed }

// Symptoms implements server.Symptoms.
func (s symptoms) Symptoms() []symptom.Symptom { return s.feed.Present() }

// onsets lists them as the kernel wants them.
type onsets struct{ feed *feed.Feed }

// Symptoms implements driver.Symptoms.
func (o onsets) Symptoms() []topology.Symptom {
	present := o.feed.Present()
	names := make([]mesh.Service, len(present))
	for i := range present {
		names[i] = present[i].Service
	}
	list := make([]topology.Symptom, len(present))
	for i := range present {
		list[i] = topology.Symptom{Service: present[i].Service, Onset: present[i].Onset, Others: names}
	}
	return list
}
