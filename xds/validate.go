package xds

import (
	"fmt"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Validate reports why o cannot be carried out in world, nil if it can. The error
// wraps ErrUnsupported when no world would do.
func Validate(world *mesh.World, o mesh.Overlay) error {
	if world.Find(o.Key.Callee) == nil {
		return fmt.Errorf("overlay %s on %s: no such service", o.Key.Kind, o.Key.Callee)
	}
	switch {
	case o.Key.Kind == mesh.OverlayDrain && o.Drain != nil:
		return validateDrain(world, o)
	case o.Key.Kind == mesh.OverlayBreak && o.Break != nil:
		if o.Break.Consecutive5xx > 0 {
			return fmt.Errorf("%w: outlier detection on %s would eject parking endpoints", ErrUnsupported, o.Key.Callee)
		}
		return nil
	case o.Key.Kind == mesh.OverlayLimit:
		return fmt.Errorf("%w: rate limit on %s", ErrUnsupported, o.Key.Callee)
	}
	return fmt.Errorf("overlay %q on %s: its kind and its content do not match", o.Key.Kind, o.Key.Callee)
}

func validateDrain(world *mesh.World, o mesh.Overlay) error {
	d, callee := o.Drain, o.Key.Callee
	protocol := ProtocolOf(world, callee)
	switch {
	case d.Share < 1 || d.Share > 100:
		return fmt.Errorf("drain of %s: share is %d, want 1..100", callee, d.Share)
	case protocol == mesh.TCP && d.Share < 100:
		return fmt.Errorf("%w: drain of a share of raw TCP service %s", ErrUnsupported, callee)
	case d.OnEmpty != mesh.OnEmptyNone && d.OnEmpty != mesh.OnEmptyHold && d.OnEmpty != mesh.OnEmptyShed:
		return fmt.Errorf("drain of %s: on-empty %q is unknown", callee, d.OnEmpty)
	case d.OnEmpty == mesh.OnEmptyHold && !HoldCovers(d.Hold):
		return fmt.Errorf("%w: hold of %s for %s, at most %s are covered", ErrUnsupported, callee, d.Hold,
			holdFor(holdRetries).Truncate(100*time.Millisecond))
	case d.To != "" && world.Find(d.To) == nil:
		return fmt.Errorf("drain of %s to %s: no such service", callee, d.To)
	case d.To != "" && ProtocolOf(world, d.To) != protocol:
		return fmt.Errorf("drain of %s to %s: they speak different protocols", callee, d.To)
	}
	return validateParks(world, o)
}

// validateParks checks that each proxy concerned can park requests.
func validateParks(world *mesh.World, o mesh.Overlay) error {
	if o.Drain.OnEmpty == mesh.OnEmptyNone || ProtocolOf(world, o.Key.Callee) == mesh.TCP {
		return nil
	}
	for i := range world.Proxies {
		if p := &world.Proxies[i]; Concerns(o.Key, p) && !p.Park.IsValid() {
			return fmt.Errorf("%w: proxy %s of %s has no parking listener", ErrUnsupported, p.Node, p.Service)
		}
	}
	return nil
}

// Capability returns what overlays can do to service behind our own Envoys.
func Capability(world *mesh.World, service mesh.Service) mesh.Capability {
	state := world.Find(service)
	if state == nil {
		return mesh.Capability{Grade: mesh.GradeD}
	}
	http := ProtocolOf(world, service) == mesh.HTTP
	return mesh.Capability{
		Drain: true, Hold: true, Shed: true, Reroute: true, Break: true,
		InPlace: true, Grade: mesh.GradeA, Lapses: http,
	}
}
