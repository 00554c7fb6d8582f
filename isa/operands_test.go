package isa_test

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// What the reference knows of names and limits, by its own lights.
var (
	planName    = regexp.MustCompile(`^[a-z0-9-]{1,64}$`)
	serviceName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	objectName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(/[a-z0-9]([-a-z0-9]*[a-z0-9])?){2}$`)
	zoneName    = regexp.MustCompile(`^[A-Za-z0-9._-]*$`)
)

const day = 24 * time.Hour

func (w *world) facts(service mesh.Service) *isa.ServiceFacts {
	for i := range w.env.Services {
		if w.env.Services[i].Name == service {
			return &w.env.Services[i]
		}
	}
	return nil
}

// selected are the instances of f that t is about.
func selected(f *isa.ServiceFacts, t isa.Target) []mesh.UID {
	var out []mesh.UID
	for _, i := range f.Instances {
		if (t.Instance == "" || t.Instance == i.Name) && (t.UID == "" || t.UID == i.UID) && (t.Zone == "" || t.Zone == i.Zone) {
			out = append(out, i.UID)
		}
	}
	return out
}

func part(t isa.Target) bool { return t.Instance != "" || t.UID != "" || t.Zone != "" }

// the reports code where wrong.
func (r *reference) the(code isa.Code, wrong bool) bool {
	if wrong {
		r.faults[code] = true
	}
	return wrong
}

// operands looks at everything that needs no schedule.
func (r *reference) operands(p *isa.Program) {
	r.the(isa.CodeName, !planName.MatchString(p.ID))
	r.the(isa.CodeRange, p.Deadline < 0 || p.Deadline > day)
	r.the(isa.CodeDecode, len(p.Steps) == 0)
	for _, check := range p.Verify {
		if !r.the(isa.CodeName, !serviceName.MatchString(string(check.Service))) {
			r.the(isa.CodeUnknownTarget, r.world.facts(check.Service) == nil)
		}
		r.the(isa.CodeRange, check.For <= 0 || check.For > day)
	}
	for i, step := range p.Steps {
		if r.the(isa.CodeDecode, step.Action == nil) {
			continue
		}
		r.action(step.Action)
		if t, ok := isa.TargetOf(step.Action); ok && r.target(step.Action, t) {
			r.load(i, step.Action, t)
		}
	}
	r.sizes()
}

// action looks at the operands of one action but its target.
func (r *reference) action(action isa.Action) {
	switch a := action.(type) {
	case isa.Restart:
		r.the(isa.CodeDecode, !slices.Contains([]isa.Mode{"", "rolling", "replace", "in-place"}, a.Mode))
		r.the(isa.CodeDecode, a.NoDrain && a.Drain != "")
		r.the(isa.CodeRange, a.Deadline < 0 || a.Deadline > day)
	case isa.Drain:
		r.drain(a)
	case isa.RestoreTraffic:
		r.the(isa.CodeRange, a.Ramp < 0 || a.Ramp > day)
	case isa.Await:
		r.the(isa.CodeDecode, a.Until != "restore" && a.Until != "lease")
	case isa.CircuitBreak:
		all := []uint32{a.MaxRequests, a.MaxConnections, a.MaxPending, a.MaxRetries, a.Consecutive5xx}
		r.the(isa.CodeEquivalentToDrain, slices.Max(all) == 0 || a.Consecutive5xx == 1 || a.Consecutive5xx == 2)
		r.the(isa.CodeRange, slices.Max(all) > 1<<30)
		r.edge(a.Caller, a.Lease)
	case isa.RateLimit:
		r.the(isa.CodeRange, !(a.PerSecond >= 0 && a.PerSecond <= 1e9) || a.Burst > 1<<30)
		r.the(isa.CodeEquivalentToDrain, a.PerSecond == 0)
		r.edge(a.Caller, a.Lease)
	case isa.Scale:
		r.the(isa.CodeRange, a.Replicas < 0 || a.Replicas > 10_000)
		r.the(isa.CodeScaleFloor, a.Replicas == 0)
	case isa.RollbackConfig:
		r.the(isa.CodeName, a.Revision == "")
		if !r.the(isa.CodeName, !objectName.MatchString(a.Object)) {
			_, service, _ := strings.Cut(a.Object, "/")
			r.guarded(mesh.Service(service), false)
		}
	}
}

func (r *reference) drain(a isa.Drain) {
	r.the(isa.CodeRange, a.Share < 0 || a.Share > 100 || a.Deadline < 0 || a.Deadline > day)
	r.the(isa.CodeDecode, !slices.Contains([]mesh.OnEmpty{"", "hold", "shed"}, a.OnEmpty))
	r.the(isa.CodeDecode, !slices.Contains([]mesh.StreamPolicy{"", "wait", "ask", "cut", "refuse"}, a.Streams))
	r.the(isa.CodeDecode, a.To != "" && a.OnEmpty != "")
	r.the(isa.CodeTooSlow, a.Deadline > 30*time.Second && a.Deadline <= day)
	r.lent(a.Lease)
	r.the(isa.CodeName, a.To != "" && !serviceName.MatchString(string(a.To)))
	r.the(isa.CodeNoCapacity, a.To == a.Target.Service || !part(a.Target) && a.To == "" && a.OnEmpty == "")
}

func (r *reference) edge(caller mesh.Service, lease time.Duration) {
	r.lent(lease)
	r.the(isa.CodeName, caller != "" && !serviceName.MatchString(string(caller)))
}

func (r *reference) lent(lease time.Duration) {
	r.the(isa.CodeRange, lease < 0 || lease > day)
	r.the(isa.CodeTooSlow, lease > 2*time.Minute && lease <= day)
}

// guarded reports whether policy keeps service from everybody; declared is what the
// service says of itself, which hides nothing.
func (r *reference) guarded(service mesh.Service, declared bool) bool {
	switch {
	case service == "sluice/sluiced" || service.Namespace() == "sluice-system":
		return r.the(isa.CodeSelf, true)
	case service.Namespace() == "kube-system":
		return r.the(isa.CodeProtectedNamespace, true)
	}
	r.the(isa.CodeProtected, declared)
	return false
}

// target looks at what an action is about, and whom else it names. It reports whether all
// of it exists and may be acted upon.
func (r *reference) target(action isa.Action, t isa.Target) bool {
	kind := action.Kind()
	whole := kind != isa.KindRestart && kind != isa.KindDrain
	r.the(isa.CodeUnsupported, len(t.Group) > 0 && kind != isa.KindRestart || whole && part(t))
	r.the(isa.CodeName, !zoneName.MatchString(t.Zone))
	good := true
	services := t.Group
	if len(services) == 0 {
		services = []mesh.Service{t.Service}
	}
	for k, service := range services {
		r.the(isa.CodeName, slices.Contains(services[:k], service))
		facts := r.world.facts(service)
		if r.the(isa.CodeName, !serviceName.MatchString(string(service))) {
			continue // as such it is nowhere, and nothing else can be said of it
		}
		if r.guarded(service, facts != nil && facts.Protected) {
			good = false // whether it is there is not for the asker to learn
			continue
		}
		good = !r.the(isa.CodeUnknownTarget, facts == nil) && good
		if facts != nil && part(t) {
			good = !r.the(isa.CodeUnknownTarget, len(selected(facts, t)) == 0) && good
		}
	}
	if !good {
		return false
	}
	return r.others(action)
}

// others looks at the services that an action names besides its target.
func (r *reference) others(action isa.Action) bool {
	var other mesh.Service
	switch a := action.(type) {
	case isa.Drain:
		other = a.To
	case isa.CircuitBreak:
		other = a.Caller
	case isa.RateLimit:
		other = a.Caller
	}
	if other == "" || !serviceName.MatchString(string(other)) || other.Namespace() == "outside" {
		return true
	}
	return !r.the(isa.CodeUnknownTarget, r.world.facts(other) == nil)
}

// load compares operands with what is known of the target.
func (r *reference) load(i int, action isa.Action, t isa.Target) {
	facts := r.world.facts(t.Service)
	if facts == nil {
		return
	}
	switch a := action.(type) {
	case isa.Restart:
		r.the(isa.CodeDrainRequired, r.isMacro(i) && facts.FanIn > 20 || a.Drain == "" && !r.isMacro(i) && facts.Takes)
	case isa.Drain:
		r.the(isa.CodeNoCapacity, part(t) && a.To == "" && a.OnEmpty == "" && len(selected(facts, t)) == len(facts.Instances))
	case isa.CircuitBreak:
		for _, n := range []uint32{a.MaxRequests, a.MaxConnections, a.MaxPending} {
			r.the(isa.CodeEquivalentToDrain, n > 0 && float64(n) < 2*facts.Concurrency)
		}
	case isa.RateLimit:
		r.the(isa.CodeEquivalentToDrain, a.PerSecond > 0 && a.PerSecond < facts.Rate/2)
		r.the(isa.CodeEquivalentToDrain, a.Burst > 0 && float64(a.Burst) < facts.Rate/20)
	case isa.Scale:
		r.the(isa.CodeScaleFloor, a.Replicas > 0 && a.Replicas < max(facts.MinAvailable, facts.Quorum))
	}
}

// sizes counts what is restarted: sets of at most 30, and 25 services beyond the largest
// set in a graph of 100. The only set of the world with more than one service is the ring.
func (r *reference) sizes() {
	restarted := map[mesh.Service]bool{}
	for _, step := range r.steps {
		if a, ok := step.Action.(isa.Restart); ok {
			for _, s := range append([]mesh.Service{a.Target.Service}, a.Target.Group...) {
				restarted[s] = true
			}
		}
	}
	delete(restarted, "")
	inRing := 0
	for _, s := range ring() {
		if restarted[s] {
			inRing++
		}
	}
	r.the(isa.CodeGroupTooLarge, inRing > 0)
	r.the(isa.CodeBlastRadius, len(restarted)-max(inRing, 1)+1 > 25)
}

// named looks at the ids of the steps; without good ones there is no order.
func (r *reference) named() bool {
	ordered := true
	for i, step := range r.steps {
		bad := !planName.MatchString(string(step.ID))
		if r.the(isa.CodeName, bad || r.find(step.ID) != i) {
			ordered = false
		}
		r.the(isa.CodeName, step.ID == "none")
	}
	return ordered
}

// covered: the drain that restart i borrows takes everything off what it restarts.
func (r *reference) covered(i int) {
	a, ok := r.steps[i].Action.(isa.Restart)
	d := r.find(a.Drain)
	if !ok || a.Drain == "" || d < 0 {
		return
	}
	drain, ok := r.steps[d].Action.(isa.Drain)
	if !ok {
		return
	}
	facts := r.world.facts(a.Target.Service)
	left := drain.Target.Service != a.Target.Service || drain.Share != 0 && drain.Share < 100
	if facts != nil && part(drain.Target) {
		taken := selected(facts, drain.Target)
		left = left || !part(a.Target) || slices.ContainsFunc(selected(facts, a.Target), func(uid mesh.UID) bool {
			return !slices.Contains(taken, uid)
		})
	}
	r.the(isa.CodeDrainRequired, left)
}

// sameWrites: no step before step i writes the same but for drains and restarts.
func (r *reference) sameWrites(i int) {
	for _, step := range r.steps[:i] {
		switch a := r.steps[i].Action.(type) {
		case isa.CircuitBreak:
			b, same := step.Action.(isa.CircuitBreak)
			r.the(isa.CodeConflict, same && a.Target.Service == b.Target.Service && a.Caller == b.Caller)
		case isa.RateLimit:
			b, same := step.Action.(isa.RateLimit)
			r.the(isa.CodeConflict, same && a.Target.Service == b.Target.Service && a.Caller == b.Caller)
		case isa.Scale:
			b, same := step.Action.(isa.Scale)
			r.the(isa.CodeConflict, same && a.Target.Service == b.Target.Service)
		case isa.RollbackConfig:
			b, same := step.Action.(isa.RollbackConfig)
			r.the(isa.CodeConflict, same && a.Object == b.Object)
		}
	}
}
