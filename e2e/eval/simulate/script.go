package simulate

import (
	"cmp"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/e2e/eval/oracle"
	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// scripted says what an expanded program does, in the judge's words. Restarts of several
// instances of one service that wait for the same steps run side by side.
func (f *facts) scripted(p *isa.Program, gated bool) oracle.Script {
	script := oracle.Script{Watched: f.off != NoMonitor}
	drains := map[isa.StepID]oracle.Act{}
	var last *isa.Step
	for i := range p.Steps {
		step := &p.Steps[i]
		act, does := f.act(step, drains, gated)
		if !does {
			continue
		}
		n := len(script.Acts)
		if last != nil && act.Kind == oracle.Reboot && n > 0 && script.Acts[n-1].Kind == oracle.Reboot &&
			script.Acts[n-1].Service == act.Service && slices.Equal(last.After, step.After) {
			script.Acts[n-1].Instances = append(script.Acts[n-1].Instances, act.Instances...)
			continue
		}
		script.Acts, last = append(script.Acts, act), step
	}
	for i := range script.Acts { // a drain that is never given back lasts until its lease ends
		if act := &script.Acts[i]; act.Kind == oracle.TakeOff && slices.ContainsFunc(script.Acts, func(a oracle.Act) bool {
			return a.Kind == oracle.GiveBack && a.Service == act.Service
		}) {
			act.Lasts = 0
		}
	}
	return script
}

// act turns one step into an act; false if it does nothing.
func (f *facts) act(step *isa.Step, drains map[isa.StepID]oracle.Act, gated bool) (oracle.Act, bool) {
	switch a := step.Action.(type) {
	case isa.Drain:
		act := oracle.Act{
			Kind: oracle.TakeOff, Service: f.l.number[a.Target.Service], Instances: f.instances(&a.Target),
			Deadline: cmp.Or(a.Deadline, isa.DefaultDrainDeadline).Seconds(),
			Lasts:    cmp.Or(a.Lease, isa.DefaultLease).Seconds(),
		}
		switch {
		case a.To != "":
			act.Empty = oracle.Astray
		case a.OnEmpty == mesh.OnEmptyHold:
			act.Empty = oracle.Hold
		case a.OnEmpty == mesh.OnEmptyShed:
			act.Empty = oracle.Shed
		}
		drains[step.ID] = act
		return act, true
	case isa.Restart:
		return oracle.Act{
			Kind: oracle.Reboot, Service: f.l.number[a.Target.Service], Instances: f.instances(&a.Target),
			Gated: gated && a.Drain != "",
		}, true
	case isa.RestoreTraffic:
		act := drains[a.Drain]
		return oracle.Act{Kind: oracle.GiveBack, Service: act.Service, Instances: act.Instances}, true
	case isa.RateLimit:
		load := f.trueRate(a.Target.Service)
		return oracle.Act{Kind: oracle.Limit, Service: f.l.number[a.Target.Service], Share: min(1, a.PerSecond/load)}, load > 0
	case isa.CircuitBreak:
		load := f.trueRate(a.Target.Service) * inFlight
		return oracle.Act{
			Kind: oracle.Limit, Service: f.l.number[a.Target.Service], Share: min(1, float64(a.MaxRequests)/load),
		}, load > 0 && a.MaxRequests > 0
	case isa.Scale:
		return oracle.Act{Kind: oracle.Scale, Service: f.l.number[a.Target.Service], Replicas: a.Replicas}, true
	}
	return oracle.Act{}, false
}

// inFlight is how many seconds a request takes, at p99: so many of a second's requests are
// under way at once.
const inFlight = 0.05

// trueRate is the load of a service, requests a second.
func (f *facts) trueRate(service mesh.Service) float64 {
	sum, v := 0.0, f.l.number[service]
	for i, e := range f.l.t.graph.Edges {
		if e.Callee == v {
			sum += f.l.t.rate[i] / 60
		}
	}
	return sum
}

// instances returns the numbers of the instances that t is about, nil for all.
func (f *facts) instances(t *isa.Target) []int {
	if t.Instance == "" && t.UID == "" && t.Zone == "" && t.Version == "" && len(t.UIDs) == 0 {
		return nil
	}
	var out []int
	state := &f.states[f.l.number[t.Service]]
	for i := range state.Instances {
		if t.Selects(&state.Instances[i]) {
			out = append(out, instanceOf(state.Instances[i].UID))
		}
	}
	return out
}

// rollouts is what raw commands do: services one after another, or all at once; gently as
// a rollout, or by deletion of all instances.
func (f *facts) rollouts(services []mesh.Service, together bool, as reading) oracle.Script {
	script := oracle.Script{}
	for i, name := range services {
		v, known := f.l.number[name]
		if !known {
			continue
		}
		act := oracle.Act{Kind: oracle.Rollout, Service: v, Together: together && i > 0}
		if as == abrupt {
			act.Kind = oracle.Reboot
		}
		script.Acts = append(script.Acts, act)
	}
	return script
}

// settle is long enough for a diagnosis to be proposed.
const settle = 10 * time.Second
