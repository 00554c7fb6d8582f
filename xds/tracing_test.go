package xds_test

import (
	"strings"
	"testing"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/xds"
)

// TestTracingIsOptIn builds the proxies of a world without, with, and with boosted
// tracing: the boost is one runtime key and touches nothing else.
func TestTracingIsOptIn(t *testing.T) {
	world := shop()
	for i := range world.Proxies {
		p := &world.Proxies[i]
		if p.Kind == mesh.Proxyless {
			continue
		}
		plain, _ := xds.Scene{World: world}.Build(p.Node)
		traced, _ := xds.Scene{World: world, Tracing: &xds.Tracing{Cluster: "sluice_xds", Percent: 1}}.Build(p.Node)
		boosted, _ := xds.Scene{World: world, Tracing: &xds.Tracing{
			Cluster: "sluice_xds", Percent: 1, Boosted: map[mesh.Service]bool{p.Service: true},
		}}.Build(p.Node)
		for _, r := range []xds.Resources{plain, traced, boosted} {
			if err := r.Check(); err != nil {
				t.Fatalf("%s: %v", p.Node, err)
			}
		}
		for j, l := range plain.Of(xds.ListenerType) {
			other := traced.Of(xds.ListenerType)[j]
			if got := other.JSON(); strings.Contains(got, "opentelemetry") != strings.Contains(got, "access_loggers.http_grpc") {
				t.Errorf("%s: listener %s is traced, or not, against what it logs", p.Node, l.Name)
			}
			if other.Version != boosted.Of(xds.ListenerType)[j].Version {
				t.Errorf("%s: the boost replaces listener %s", p.Node, l.Name)
			}
		}
		if plain.Armed() || traced.Armed() || !boosted.Armed() {
			t.Errorf("%s: armed %v, traced %v, boosted %v", p.Node, plain.Armed(), traced.Armed(), boosted.Armed())
		}
	}
}
