package xds

import (
	"cmp"
	"slices"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// Planned is an overlay that a step of a program would put on.
type Planned struct {
	Step    isa.StepID
	Overlay mesh.Overlay
}

// Preview lists the overlays that the steps of an expanded program would put on now, in
// the program's order. It decides nothing: the kernel orders overlays by its own rules, of
// which the longest hold is not known here (the default is shown).
func Preview(world *mesh.World, p *isa.Program) []Planned {
	var out []Planned
	add := func(step isa.StepID, key mesh.OverlayKey, o mesh.Overlay) {
		o.Key, o.Plan, o.Step = key, p.ID, string(step)
		out = append(out, Planned{Step: step, Overlay: o})
	}
	for i := range p.Steps {
		step := p.Steps[i].ID
		switch a := p.Steps[i].Action.(type) {
		case isa.Drain:
			key := mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: a.Target.Service}
			add(step, key, mesh.Overlay{Drain: previewDrain(world, &a)})
		case isa.CircuitBreak:
			key := mesh.OverlayKey{Kind: mesh.OverlayBreak, Callee: a.Target.Service, Caller: a.Caller}
			add(step, key, mesh.Overlay{Break: &mesh.BreakOverlay{
				MaxRequests: a.MaxRequests, MaxConnections: a.MaxConnections, MaxPending: a.MaxPending,
				MaxRetries: a.MaxRetries, Consecutive5xx: a.Consecutive5xx,
			}})
		case isa.RateLimit:
			key := mesh.OverlayKey{Kind: mesh.OverlayLimit, Callee: a.Target.Service, Caller: a.Caller}
			add(step, key, mesh.Overlay{Limit: &mesh.LimitOverlay{PerSecond: a.PerSecond, Burst: a.Burst}})
		}
	}
	return out
}

func previewDrain(world *mesh.World, a *isa.Drain) *mesh.DrainOverlay {
	out := &mesh.DrainOverlay{
		Share: cmp.Or(a.Share, fullWeight), To: a.To, OnEmpty: a.OnEmpty, Streams: cmp.Or(a.Streams, mesh.StreamsWait),
	}
	if state := world.Find(a.Target.Service); state != nil {
		for i := range state.Instances {
			if a.Target.Selects(&state.Instances[i]) {
				out.Instances = append(out.Instances, state.Instances[i].UID)
			}
		}
	}
	slices.Sort(out.Instances)
	if a.OnEmpty == mesh.OnEmptyHold {
		out.Hold = MaxHold
	}
	return out
}
