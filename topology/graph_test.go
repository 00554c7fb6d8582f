package topology

import (
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

func TestPlannedRestartOfAStoreTakesItsStickyCaller(t *testing.T) {
	g := NewGraph()
	g.RegisterNames([]mesh.Service{"outside/ingress", "hotel/frontend", "hotel/profile", "hotel/memcached-profile"})
	g.Declare("outside/ingress", "hotel/frontend", false)
	g.Declare("hotel/frontend", "hotel/profile", false)
	g.Declare("hotel/profile", "hotel/memcached-profile", true)
	group := g.Snapshot(time.Unix(1000, 0)).Planned([]mesh.Service{"hotel/memcached-profile"})
	want := []mesh.Service{"hotel/profile", "hotel/memcached-profile"}
	if !slices.Equal(group.DrainOrder, want) {
		t.Errorf("drain order %v, want %v", group.DrainOrder, want)
	}
	if want := []mesh.Service{"hotel/frontend", "outside/ingress"}; !slices.Equal(group.BlastRadius, want) {
		t.Errorf("blast radius %v, want %v", group.BlastRadius, want)
	}
}
