package sim

import (
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// holds counts one evaluation of an invariant, and notes it as broken if why says how.
func (r *run) holds(name, why string) {
	r.counts.Invariants[name]++
	if why != "" {
		r.violate(why)
	}
}

// checkState asks the kernel's own invariants of its state, each by itself, and I8 of
// what the event made known.
func (r *run) checkState(ev microkernel.Event, effects []microkernel.Effect) {
	if led, ok := ev.(microkernel.Led); ok && r.state.Term() != led.Term {
		r.violate(fmt.Sprintf("I7: leader of term %d, the kernel goes on in term %d", led.Term, r.state.Term()))
	}
	if r.options.extra != nil {
		r.holds("I0", r.options.extra(&r.state))
	}
	for i := range r.rules {
		r.holds(r.rules[i].Name, r.rules[i].Broken(&r.state))
	}
	if seen, ok := ev.(microkernel.Probed); ok {
		r.holds("I5", r.strays(seen, effects))
	}
	for _, e := range effects {
		r.checkLook(e)
		switch e := e.(type) {
		case microkernel.Answer:
			r.holds("I8", r.explainedAnswer(e))
			if r.seed%renameEvery == 0 {
				r.verdicts = append(r.verdicts, verdict(e))
			}
		case microkernel.Finish:
			r.holds("I8", r.explainedEnd(e))
		}
	}
}

// explainedAnswer is I8 of a verdict: whoever is refused learns why and what to do.
func (r *run) explainedAnswer(e microkernel.Answer) string {
	v := &e.Verdict
	if v.Outcome == microkernel.Admit || v.Outcome == microkernel.Replayed {
		return ""
	}
	if v.Code == "" || len(v.Faults) == 0 || v.Faults[0].Reason == "" || v.Faults[0].Remedy == "" {
		return fmt.Sprintf("I8: verdict %s on %s says nothing", v.Outcome, e.Plan)
	}
	if v.Outcome == microkernel.Throttle && v.RetryAfter <= 0 {
		return fmt.Sprintf("I8: %s is throttled and not told for how long", e.Plan)
	}
	return ""
}

// explainedEnd is I8 of a plan that ended: its record says what the world saw done, on
// which proof, and why it went no further.
func (r *run) explainedEnd(e microkernel.Finish) string {
	rec, found := r.state.Record(e.Plan)
	if !found {
		return fmt.Sprintf("I8: plan %s ended without a record", e.Plan)
	}
	if rec.Ended == 0 || rec.Phase != microkernel.Committed && rec.Reason == "" {
		return fmt.Sprintf("I8: plan %s is %s, and its record does not say when or why", e.Plan, e.Phase)
	}
	if e.Phase != microkernel.Refused && rec.Hash != isa.Hash(rec.Expanded, rec.Proposer.Name) {
		return fmt.Sprintf("I8: plan %s ran another program than the record shows", e.Plan)
	}
	for i := range rec.Steps {
		s := &rec.Steps[i]
		a, restart := s.Step.Action.(isa.Restart)
		if !restart {
			continue
		}
		ref, done := r.world.done[stepID{e.Plan, s.Step.ID}]
		switch {
		case done && s.Old != ref:
			return fmt.Sprintf("I8: %s/%s restarted %v, the record says %v", e.Plan, s.Step.ID, ref, s.Old)
		case s.State != microkernel.StepConfirmed:
		case s.Old.UID == "" || s.New.Incarnation <= s.Old.Incarnation:
			return fmt.Sprintf("I8: %s/%s does not say what was restarted", e.Plan, s.Step.ID)
		case a.Drain != "" && (s.Grade == "" || s.Proof.Generation == 0 || s.Acks.Required != s.Acks.Acked):
			return fmt.Sprintf("I8: %s/%s does not say on which proof it went", e.Plan, s.Step.ID)
		}
	}
	return ""
}

// checkEffect judges an order of the kernel by the program as it was handed in, and by
// the truth, before it is carried out.
func (r *run) checkEffect(e microkernel.Effect) {
	var plan microkernel.PlanID
	var service mesh.Service
	switch e := e.(type) {
	case microkernel.Apply:
		plan, service = e.Plan, e.Overlay.Key.Callee
		r.holds("I1", r.withinApply(e))
	case microkernel.Reboot:
		plan, service = e.Plan, e.Ref.Service
		r.holds("I1", r.withinReboot(e))
		r.holds("I7", r.provedByLeader(e))
	case microkernel.SetReplicas:
		plan, service = e.Plan, e.Service
		r.holds("I1", r.withinScale(e))
	case microkernel.SetRevision:
		r.holds("I1", r.withinRollback(e))
		return
	case microkernel.Watch:
		r.checkCrowd(e)
		return
	default:
		return
	}
	r.holds("I4", r.alone(plan, service))
	why := ""
	if _, scale := e.(microkernel.SetReplicas); !scale && r.state.Recovering() {
		why = fmt.Sprintf("I7: %s acts on %s before the new leader has looked at the world", plan, service)
	}
	r.holds("I7", why)
}

// action returns what the program that was handed in, expanded, says at a step.
func (r *run) action(plan microkernel.PlanID, step isa.StepID) isa.Action {
	rec, _ := r.state.Record(plan)
	for i := range rec.Expanded.Steps {
		if rec.Expanded.Steps[i].ID == step {
			return rec.Expanded.Steps[i].Action
		}
	}
	return nil
}

func (r *run) withinApply(e microkernel.Apply) string {
	key, o := e.Overlay.Key, &e.Overlay
	within := false
	switch a := r.action(e.Plan, e.Step).(type) {
	case isa.Drain:
		within = key.Kind == mesh.OverlayDrain && key.Callee == a.Target.Service && o.Drain.Share == a.Share && o.Drain.To == a.To
		for _, uid := range o.Drain.Instances {
			p := r.world.process(uid)
			within = within && p != nil && p.ref.Service == a.Target.Service && selected(a.Target, p)
		}
	case isa.RateLimit:
		within = key.Kind == mesh.OverlayLimit && key.Callee == a.Target.Service && o.Limit.PerSecond == a.PerSecond
	case isa.CircuitBreak:
		within = key.Kind == mesh.OverlayBreak && key.Callee == a.Target.Service && o.Break.MaxRequests == a.MaxRequests
	}
	if !within {
		return fmt.Sprintf("I1: %s/%s puts an overlay on %s that its program does not say", e.Plan, e.Step, key.Callee)
	}
	return ""
}

// selected reports whether a target of a service is about p.
func selected(t isa.Target, p *process) bool {
	return (t.UID == "" || t.UID == p.ref.UID) && (t.Instance == "" || t.Instance == p.name) &&
		(len(t.UIDs) == 0 || slices.Contains(t.UIDs, p.ref.UID))
}

func (r *run) withinReboot(e microkernel.Reboot) string {
	a, restart := r.action(e.Plan, e.Step).(isa.Restart)
	if !restart || a.Target.Service != e.Ref.Service || a.Target.UID != e.Ref.UID {
		return fmt.Sprintf("I1: %s/%s restarts %s, its program does not", e.Plan, e.Step, e.Ref.UID)
	}
	return ""
}

func (r *run) withinScale(e microkernel.SetReplicas) string {
	a, scale := r.action(e.Plan, e.Step).(isa.Scale)
	former, known := r.world.formers[stepID{e.Plan, e.Step}]
	if !scale || a.Target.Service != e.Service || e.Replicas != a.Replicas && known && e.Replicas != former {
		return fmt.Sprintf("I1: %s/%s scales %s to %d; its program does not, and it was %d before", e.Plan, e.Step, e.Service,
			e.Replicas, former)
	}
	return ""
}

func (r *run) withinRollback(e microkernel.SetRevision) string {
	a, rollback := r.action(e.Plan, e.Step).(isa.RollbackConfig)
	former, known := r.world.former[stepID{e.Plan, e.Step}]
	if !rollback || a.Object != e.Object || e.Revision != a.Revision && known && e.Revision != former {
		return fmt.Sprintf("I1: %s/%s sets %s to revision %s; its program does not, and it was %s before", e.Plan, e.Step, e.Object,
			e.Revision, former)
	}
	return ""
}

// alone is I4 in the world: no other plan that has begun may act on the service,
// judged by the programs and restart sets alone, not by the kernel's locks.
func (r *run) alone(plan microkernel.PlanID, service mesh.Service) string {
	for _, rec := range r.state.OpenRecords() {
		if rec.ID == plan || len(rec.Steps) == 0 {
			continue
		}
		if acts(&rec, service) {
			return fmt.Sprintf("I4: %s acts on %s, which is %s's", plan, service, rec.ID)
		}
	}
	return ""
}

func acts(rec *microkernel.Record, service mesh.Service) bool {
	restarts := false
	for i := range rec.Expanded.Steps {
		var target, to mesh.Service
		switch a := rec.Expanded.Steps[i].Action.(type) {
		case isa.Drain:
			target, to = a.Target.Service, a.To
		case isa.Restart:
			target, restarts = a.Target.Service, true
		case isa.RateLimit:
			target = a.Target.Service
		case isa.CircuitBreak:
			target = a.Target.Service
		case isa.Scale:
			target = a.Target.Service
		}
		if target == service || to == service {
			return true
		}
	}
	return restarts && slices.Contains(rec.RestartSet, service)
}

// provedByLeader is I7: a restart rests on a proof that this very process was given.
func (r *run) provedByLeader(e microkernel.Reboot) string {
	s := r.world.find(e.Ref.Service)
	if a, ok := r.action(e.Plan, e.Step).(isa.Restart); !ok || a.Drain == "" || s.drain == nil {
		return ""
	}
	if by, proved := r.proofs[given{s.name, s.drain.overlay.Generation}]; proved && by != r.process {
		return fmt.Sprintf("I7: %s is restarted on a proof of another leader", e.Ref.UID)
	}
	return ""
}

// checkStale lets a former process carry out e if the world still obeys it (I7).
func (r *run) checkStale(e microkernel.Effect, former int) {
	switch e.(type) {
	case microkernel.Apply, microkernel.Reboot, microkernel.Withdraw, microkernel.SetReplicas, microkernel.SetRevision, microkernel.Extend:
	default:
		return
	}
	r.holds("I7", "")
	if former < r.leader {
		r.counts.Faults["stale-effect-refused"]++
		return
	}
	r.counts.Faults["stale-effect"]++
	r.trace("  STALE %s", spellEffect(e))
	r.stale = true
	r.perform(e)
	r.stale = false
	if r.regressed { // it was ordered by the part of the journal that is lost
		r.world.forget(&r.state)
	}
}

// checkFloors is I3 at every instant, over all plans: what every drain that a proxy
// obeys, or will, leaves of its service is above the floor, or all of its traffic is
// held, shed or rerouted.
func (r *run) checkFloors() {
	why := ""
	for _, s := range r.world.services {
		if s.drain != nil && why == "" {
			why = r.belowFloor(s)
		}
	}
	r.holds("I3", why)
}

func (r *run) belowFloor(s *service) string {
	w := r.world
	in := s.drain
	if in.leaseEnd <= w.now || !slices.ContainsFunc(in.proxies, func(p proxy) bool { return p.from < never && p.to > w.now }) {
		return ""
	}
	left := s.spared(in.overlay.Drain, w.now)
	could := left + in.took
	if to := in.overlay.Drain.To; to != "" {
		t := w.find(to)
		if t == nil || t == s || t.ready(w.now) == 0 {
			return fmt.Sprintf("I3: the traffic of %s is sent to %s, where nothing is ready", s.name, to)
		}
		return ""
	}
	need := s.floor(could)
	if left >= need || left == 0 && in.overlay.Drain.OnEmpty != mesh.OnEmptyNone {
		return ""
	}
	if left >= r.floorSeen(in, s, could) || in.unknown || r.behind[microkernel.PlanID(in.overlay.Plan)] {
		r.counts.Faults["floor-on-old-view"]++
		return ""
	}
	return fmt.Sprintf("I3: %d instances of %s are left, %d are needed", left, s.name, need)
}

// floor is how many ready instances s must keep, when it had ready of them.
func (s *service) floor(ready int) int {
	return max(1, s.least, min(int(math.Ceil(s.load/0.8)), ready))
}

// floorSeen is the floor by the facts at the plan's last gate. The kernel judges floors on
// those: it does not see what comes up, what people ask for meanwhile, or what a lost part
// of the journal took down, before its next gate (docs/simulation.md, What is not found).
func (r *run) floorSeen(in *installed, s *service, could int) int {
	rec, _ := r.state.Record(microkernel.PlanID(in.overlay.Plan))
	facts := &rec.Present
	if facts.Epoch == "" {
		facts = &rec.View
	}
	seen, was := 0, *s
	if v := facts.Find(s.name); v != nil {
		seen, was.least = v.ReadyCount(), min(s.least, v.MinAvailable)
		if drain := in.overlay.Drain; spares(v, drain) == 0 && drain.OnEmpty != mesh.OnEmptyNone {
			return 0 // all was held or shed: what is left has come up since
		}
	}
	return was.floor(min(could, seen))
}

// checkReboot is I2 in the world, and exactly-once: nothing is in flight on what is
// about to be restarted, its quorum survives, and no step restarts twice.
func (r *run) checkReboot(e microkernel.Reboot, p *process) {
	why := ""
	if r.world.busy(e.Ref.UID) {
		why = fmt.Sprintf("I2: %s is restarted with requests in flight", e.Ref.UID)
	}
	r.holds("I2", why)
	why = ""
	if s := r.world.find(p.ref.Service); s.quorum > 0 && p.up <= r.world.now && s.ready(r.world.now)-1 < s.quorum {
		why = fmt.Sprintf("I3: %s falls below its quorum", s.name)
	}
	r.holds("I3", why)
	step := stepID{e.Plan, e.Step}
	if _, again := r.world.done[step]; again {
		r.violate(fmt.Sprintf("I6: step %s/%s restarts a second time", e.Plan, e.Step))
	}
	r.world.done[step] = p.ref
}

// strays is I5 of a look at the world: what it shows and nobody owns is ordered away, and
// will be looked for again. It is what becomes of overlays that a lost journal ordered. Those
// under the key of a plan that goes on are known from now on: that plan has to end them.
func (r *run) strays(seen microkernel.Probed, effects []microkernel.Effect) string {
	owned := r.state.Overlays()
	for _, o := range seen.Overlays {
		if slices.ContainsFunc(owned, func(own mesh.Overlay) bool { return own.Key == o.Key }) {
			if in := r.world.overlay(o.Key); in != nil && in.overlay.Generation == o.Generation {
				in.unknown = false
			}
			continue
		}
		withdrawn, again := false, false
		for _, e := range effects {
			w, withdraws := e.(microkernel.Withdraw)
			withdrawn = withdrawn || withdraws && w.Key == o.Key && uint64(w.Generation) >= o.Generation
			timer, sets := e.(microkernel.SetTimer)
			again = again || sets && timer.Timer.Plan == ""
		}
		r.counts.Faults["stray"]++
		switch {
		case !withdrawn:
			return fmt.Sprintf("I5: %s %s was seen in force, and nobody withdraws it", o.Key.Kind, o.Key.Callee)
		case !again:
			return fmt.Sprintf("I5: %s %s is withdrawn, and nobody looks again", o.Key.Kind, o.Key.Callee)
		}
	}
	return ""
}

// checkOwned is I5 in the world: an overlay that any proxy obeys has an owner that
// knows of it, unless the journal that knew of it is lost: then the next look at the world
// must find it (strays).
func (r *run) checkOwned() {
	if len(r.world.overlays) == 0 {
		r.holds("I5", "")
		return
	}
	owned := r.state.Overlays()
	why := ""
	for _, in := range r.world.overlays {
		if in.unknown || in.leaseEnd <= r.world.now ||
			!slices.ContainsFunc(in.proxies, func(p proxy) bool { return p.obeys(r.world.now) }) {
			continue
		}
		if why == "" && !slices.ContainsFunc(owned, func(o mesh.Overlay) bool { return o.Key == in.key }) {
			why = fmt.Sprintf("I5: %s %s is in force, and nobody owns it", in.key.Kind, in.key.Callee)
		}
	}
	r.holds("I5", why)
}

// settled reports whether every plan has ended and the world's own actions are over.
func (r *run) settled() bool {
	return r.state.Term() > 0 && !r.state.Recovering() && len(r.state.OpenRecords()) == 0 && len(r.world.inForce()) == 0
}

// checkEnd is I6 for the whole run, and I9.
func (r *run) checkEnd() {
	why := ""
	if !reflect.DeepEqual(r.disk.recover(), r.state) {
		why = "I6: replay of the journal does not yield the live state"
	}
	r.holds("I6", why)
	if r.seed%16 == 0 { // from nothing, and by the canonical hash: no memory is shared
		why = ""
		if again := r.disk.replay(); microkernel.Hash(again) != microkernel.Hash(r.state) {
			why = "I6: replay of the whole journal does not yield the live state"
		}
		r.holds("I6", why)
	}
	if r.seed%renameEvery == 0 {
		r.holds("I9", r.impartial())
	}
}

// renameEvery says in which seeds I9 is judged by a second run with other names.
const renameEvery = 8

func verdict(e microkernel.Answer) string {
	return string(e.Plan) + " " + string(e.Verdict.Outcome) + " " + string(e.Verdict.Code)
}

// impartial is I9: the same plans of proposers with other names get the same verdicts,
// and go the same way.
func (r *run) impartial() string {
	s := microkernel.New(r.disk.policy)
	ends, n := "", 0
	for _, ev := range r.disk.whole {
		var effects []microkernel.Effect
		s, effects = microkernel.Step(s, renamed(ev))
		for _, e := range effects {
			a, answer := e.(microkernel.Answer)
			if !answer || r.regressed {
				continue
			}
			if n >= len(r.verdicts) || r.verdicts[n] != verdict(a) {
				return fmt.Sprintf("I9: the verdict %s is another one when proposers have other names", verdict(a))
			}
			n++
		}
	}
	for _, a := range r.state.Records() {
		b, found := s.Record(a.ID)
		if !found || a.Phase != b.Phase || a.Verdict.Outcome != b.Verdict.Outcome || a.Verdict.Code != b.Verdict.Code {
			ends = fmt.Sprintf("I9: plan %s of %s is %s (%s), of a proposer of another name %s (%s)", a.ID, a.Proposer.Name,
				a.Phase, a.Verdict.Code, b.Phase, b.Verdict.Code)
		}
	}
	return ends
}

// renamed gives everybody another's name; roles stay.
func renamed(ev microkernel.Event) microkernel.Event {
	swap := func(p microkernel.Principal) microkernel.Principal {
		for _, pair := range [][2]string{{"rules", "mallory"}, {"olga", "oleg"}, {"root", "guest"}} {
			switch p.Name {
			case pair[0]:
				p.Name = pair[1]
				return p
			case pair[1]:
				p.Name = pair[0]
				return p
			}
		}
		return p
	}
	switch ev := ev.(type) {
	case microkernel.Submitted:
		ev.By = swap(ev.By)
		return ev
	case microkernel.Approved:
		ev.By = swap(ev.By)
		return ev
	case microkernel.Aborted:
		ev.By = swap(ev.By)
		return ev
	case microkernel.Paused:
		ev.By = swap(ev.By)
		return ev
	case microkernel.Resumed:
		ev.By = swap(ev.By)
		return ev
	}
	return ev
}
