package xds

import (
	"fmt"
	"math"
	"time"

	"github.com/sluicemesh/sluice/mesh"
)

// Validate reports why o cannot be carried out in world, nil if it can. The error
// wraps ErrUnsupported when no world would do.
func Validate(world *mesh.World, o mesh.Overlay) error {
	if world.Find(o.Key.Callee) == nil {
		return fmt.Errorf("overlay %s on %s: no such service", o.Key.Kind, o.Key.Callee)
	}
	if err := validateProxyless(world, o); err != nil {
		return err
	}
	switch {
	case o.Key.Kind == mesh.OverlayDrain && o.Drain != nil:
		return validateDrain(world, o)
	case o.Key.Kind == mesh.OverlayBreak && o.Break != nil:
		return validateBreak(world, o)
	case o.Key.Kind == mesh.OverlayLimit && o.Limit != nil:
		return validateLimit(world, o)
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
	if err := validateStreams(o, protocol); err != nil {
		return err
	}
	return validateParks(world, o)
}

func validateStreams(o mesh.Overlay, protocol mesh.Protocol) error {
	switch o.Drain.Streams {
	case "", mesh.StreamsWait, mesh.StreamsCut, mesh.StreamsRefuse:
	case mesh.StreamsAsk:
		if protocol == mesh.TCP {
			return fmt.Errorf("%w: sessions of raw TCP service %s cannot be asked to end, only cut", ErrUnsupported,
				o.Key.Callee)
		}
	default:
		return fmt.Errorf("drain of %s: stream policy %q is unknown", o.Key.Callee, o.Drain.Streams)
	}
	return nil
}

// validateBreak refuses thresholds that nothing would obey.
func validateBreak(world *mesh.World, o mesh.Overlay) error {
	b := o.Break
	if ProtocolOf(world, o.Key.Callee) == mesh.TCP && b.MaxRequests|b.MaxRetries|b.Consecutive5xx > 0 {
		return fmt.Errorf("%w: raw TCP service %s has connections, no requests: only connections and pending ones "+
			"can be bounded", ErrUnsupported, o.Key.Callee)
	}
	return validateCallers(world, o.Key)
}

func validateLimit(world *mesh.World, o mesh.Overlay) error {
	callee, rate := o.Key.Callee, o.Limit.PerSecond
	switch {
	case !(rate > 0) || math.IsInf(rate, 0): // NaN too
		return fmt.Errorf("rate limit on %s: %g a second, want more than 0", callee, rate)
	case ProtocolOf(world, callee) == mesh.TCP:
		return fmt.Errorf("%w: rate limit on raw TCP service %s", ErrUnsupported, callee)
	case o.Key.Caller == "" && !sidecars(world.Find(callee)):
		return fmt.Errorf("%w: rate limit on %s, which has an instance without a sidecar: limit one caller",
			ErrUnsupported, callee)
	}
	return validateCallers(world, o.Key)
}

// validateCallers demands that the caller of an edge calls the callee.
func validateCallers(world *mesh.World, key mesh.OverlayKey) error {
	if key.Caller == "" {
		return nil
	}
	for i := range world.Proxies {
		if Concerns(key, &world.Proxies[i]) {
			return nil
		}
	}
	return fmt.Errorf("overlay %s on %s: no proxy of %s calls it", key.Kind, key.Callee, key.Caller)
}

// sidecars reports whether every instance has one.
func sidecars(state *mesh.ServiceState) bool {
	for i := range state.Instances {
		if state.Instances[i].Proxy == "" {
			return false
		}
	}
	return len(state.Instances) > 0
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

// Capability returns what overlays can do to a service behind our own Envoys: the
// capability matrix. One with an instance that has no sidecar can only be restarted.
func Capability(state *mesh.ServiceState) mesh.Capability {
	switch {
	case state == nil:
		return mesh.Capability{Grade: mesh.GradeD}
	case !sidecars(state):
		return mesh.Capability{InPlace: true, Grade: mesh.GradeD}
	case state.Protocol == mesh.TCP:
		return mesh.Capability{Drain: true, Hold: true, Break: true, InPlace: true, Grade: mesh.GradeA}
	}
	return mesh.Capability{
		Drain: true, Hold: true, Shed: true, Reroute: true, Limit: true, Break: true,
		InPlace: true, Grade: mesh.GradeA, Lapses: true,
	}
}
