// Package ports puts the adapters of proxies and evidence into the shape that the kernel's
// driver and the API ask for: the wiring that sluiced and sluice-operator share.
package ports

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/sluicemesh/sluice/api/server"
	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/xds"
	xdsserver "github.com/sluicemesh/sluice/xds/server"
)

// Traffic is the driver's port to the proxies: xds/server's, with what plain Envoy
// cannot do as a refusal with its code.
type Traffic struct{ *xdsserver.Traffic }

// Apply implements driver.Traffic.
func (t Traffic) Apply(ctx context.Context, overlay mesh.Overlay) (mesh.Acks, error) {
	acks, err := t.Traffic.Apply(ctx, overlay)
	if errors.Is(err, xds.ErrUnsupported) {
		err = &driver.Refused{Code: isa.CodeUnsupported, Reason: err.Error()}
	}
	return acks, err
}

// Proxies lists the Envoys for the API.
type Proxies struct{ Server *xdsserver.Server }

// Proxies implements server.Proxies.
func (p Proxies) Proxies() []server.Proxy {
	list := p.Server.Proxies()
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
func (p Proxies) Config(node string) []*sluicev1.ProxyResource {
	resources := p.Server.Config(node)
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
func (p Proxies) Overlaid(node string) []*sluicev1.ProxyChange {
	return changeRows(p.Server.Overlaid(node))
}

// Preview implements server.ProxyConfigs.
func (p Proxies) Preview(program *isa.Program, most int) ([]*sluicev1.ProxyChange, int, error) {
	changes, leftOff, err := p.Server.Preview(program, most)
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
