package sim

import (
	"fmt"
	"slices"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// checkApply is I3 in the world, at the moment at which a drain is pushed.
func (r *run) checkApply(e microkernel.Apply) {
	drain := e.Overlay.Drain
	s := r.world.find(e.Overlay.Key.Callee)
	r.counts.Invariants["I3"]++
	if s == nil {
		r.violate(fmt.Sprintf("I1: overlay on %s, which does not exist", e.Overlay.Key.Callee))
		return
	}
	r.counts.Invariants["I1"]++
	if drain == nil {
		return
	}
	left := 0
	for _, p := range s.instances {
		if p.up <= r.world.now && !slices.Contains(drain.Instances, p.ref.UID) {
			left++
		}
	}
	if left == 0 && drain.OnEmpty == mesh.OnEmptyNone && drain.To == "" && !r.sickened(s) {
		r.violate(fmt.Sprintf("I3: a drain leaves nothing of %s and neither holds, sheds nor reroutes", s.name))
	}
	if drain.To != "" {
		if to := r.world.find(drain.To); to == nil || to.ready(r.world.now) == 0 && !r.sickened(to) {
			r.violate(fmt.Sprintf("I3: traffic of %s is sent to %s, which is not ready", s.name, drain.To))
		}
	}
}

// sickened reports whether an instance of s did not come back from a restart: then the
// world is worse than any view that was taken before.
func (r *run) sickened(s *service) bool {
	return slices.ContainsFunc(s.instances, func(p *process) bool { return p.sick && p.up != never || p.up > r.world.now && p.ref.Incarnation > 1 })
}

// checkReboot is I2 in the world, and exactly-once: nothing is in flight on what is
// about to be restarted, and no step restarts twice.
func (r *run) checkReboot(e microkernel.Reboot, p *process) {
	r.counts.Invariants["I2"]++
	if r.world.busy(e.Ref.UID) {
		r.violate(fmt.Sprintf("I2: %s is restarted with requests in flight", e.Ref.UID))
	}
	if s := r.world.find(p.ref.Service); s.quorum > 0 && p.up <= r.world.now && s.ready(r.world.now)-1 < s.quorum && !r.sickened(s) {
		r.violate(fmt.Sprintf("I3: %s falls below its quorum", s.name))
	}
	step := string(e.Plan) + "/" + string(e.Step)
	if r.world.done[step]++; r.world.done[step] > 1 {
		r.violate(fmt.Sprintf("I6: step %s restarts a second time", step))
	}
}

// checkWorld looks at the world after the effects of an event: an overlay that any proxy
// obeys has an owner that knows of it.
func (r *run) checkWorld() {
	for key, in := range r.world.overlays {
		if in.leaseEnd <= r.world.now || !slices.ContainsFunc(in.proxies, func(p proxy) bool { return p.obeys(r.world.now) }) {
			continue
		}
		if !slices.ContainsFunc(r.state.Overlays(), func(o mesh.Overlay) bool { return o.Key == key }) {
			r.violate(fmt.Sprintf("I5: %s %s is in force, and nobody owns it", key.Kind, key.Callee))
			return
		}
	}
	for _, name := range []string{"I4", "I5", "I7", "I8", "I9"} {
		r.counts.Invariants[name]++ // by microkernel.Check, after every event
	}
}

// settled reports whether every plan has ended and the world's own actions are over.
func (r *run) settled() bool {
	return r.state.Term() > 0 && !r.state.Recovering() && r.state.Open() == 0 && r.noFrozen() && len(r.world.overlays) == 0
}

func (r *run) noFrozen() bool {
	for _, rec := range r.state.Records() {
		if rec.Phase == microkernel.Frozen {
			return false
		}
	}
	return true
}

// checkEnd is I5 in the world, I6 for the whole run, and I8 for every plan.
func (r *run) checkEnd() {
	r.counts.Invariants["I6"]++
	if n := len(r.world.inForce()); n > 0 {
		r.violate(fmt.Sprintf("I5: %d overlays are left when every plan has ended", n))
	}
	if again := r.disk.replay(); microkernel.Hash(again) != microkernel.Hash(r.state) {
		r.violate("I6: replay of the whole journal does not yield the live state")
	}
	for _, rec := range r.state.Records() {
		if !rec.Phase.Final() {
			r.violate(fmt.Sprintf("I5: plan %s is still %s", rec.ID, rec.Phase))
		}
	}
}
