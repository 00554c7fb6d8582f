package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// perform carries out one effect on the world, as the driver would.
func (r *run) perform(e microkernel.Effect) {
	switch e := e.(type) {
	case microkernel.Recheck:
		r.report(r.millis(1, 20), func() microkernel.Event {
			rec, _ := r.state.Record(e.Plan)
			return microkernel.Viewed{Stamp: r.stamp(), Plan: e.Plan, View: r.viewOf(rec.Written), Look: e.Look}
		})
	case microkernel.Apply:
		r.apply(e)
	case microkernel.Prove:
		r.prove(e)
	case microkernel.Extend:
		r.extend(e)
	case microkernel.Withdraw:
		r.withdraw(e)
	case microkernel.Reboot:
		r.reboot(e)
	case microkernel.SetReplicas:
		r.scale(e)
	case microkernel.SetRevision:
		r.rollBack(e)
	case microkernel.Watch:
		r.watch(e)
	case microkernel.SetTimer:
		r.setTimer(e)
	case microkernel.StopTimer:
		delete(r.timers, e.Timer)
	case microkernel.Probe:
		r.leader = r.process
		wait := r.millis(5, 200)
		if r.chance(4) {
			r.counts.Faults["slow-probe"]++
			wait = r.millis(500, 5000)
		}
		r.report(wait, func() microkernel.Event { return r.probed() })
	}
}

func (r *run) setTimer(e microkernel.SetTimer) {
	id := e.Timer
	late := time.Duration(0)
	if r.chance(50) {
		late = r.millis(1, 2000)
		r.counts.Faults["late-timer"]++
	}
	r.timers[id] = r.push(delivery{
		at: r.world.now.Add(e.After + late), process: r.process, timer: &id,
		do: func() { r.deliver(microkernel.Fired{Stamp: r.stamp(), Timer: id}) },
	})
}

func (r *run) probed() microkernel.Event {
	ev := microkernel.Probed{Stamp: r.stamp(), Overlays: r.world.inForce(), Instances: r.world.registry()}
	if len(ev.Overlays) > 0 && r.chance(10) {
		r.counts.Faults["stale-probe"]++
		k := r.rng.IntN(len(ev.Overlays))
		ev.Overlays = slices.Delete(ev.Overlays, k, k+1)
	}
	return ev
}

// apply pushes an overlay to every proxy of the callee's callers.
func (r *run) apply(e microkernel.Apply) {
	w := r.world
	key := e.Overlay.Key
	if r.chance(40) {
		r.counts.Faults["foreign-writer"]++
		r.failed(e.Plan, e.Step, isa.CodeForeignOwner, "somebody else changed it")
		return
	}
	in := w.overlay(key)
	if in == nil {
		in = &installed{key: key, proxies: make([]proxy, r.required(key.Callee))}
		for i := range in.proxies {
			in.proxies[i] = proxy{from: never, to: never, acked: never, idle: never, reported: never}
		}
		w.install(in)
	}
	if s := w.find(key.Callee); s != nil && key.Kind == mesh.OverlayDrain {
		s.drain = in
		if again := in.overlay.Plan == e.Overlay.Plan && in.overlay.Step == e.Overlay.Step; !again {
			in.took = s.ready(w.now) - s.spared(e.Overlay.Drain, w.now)
		}
	}
	in.unknown = r.stale && r.regressed && !r.journalled(e)
	in.overlay = e.Overlay
	in.leaseEnd = w.now.Add(e.Overlay.Lease)
	last, nack := w.now, false
	for i := range in.proxies {
		nack = r.push1(&in.proxies[i]) || nack
		last = max(last, in.proxies[i].acked)
	}
	acks := mesh.Acks{Required: len(in.proxies), Acked: len(in.proxies), Last: last.Sub(w.now)}
	switch {
	case nack:
		r.failed(e.Plan, e.Step, "", "NACK by a proxy")
	case last == never: // a silent proxy: no answer
	default:
		r.report(last.Sub(w.now)+r.millis(0, 5), func() microkernel.Event {
			return microkernel.Applied{
				Stamp: r.stamp(), Plan: e.Plan, Step: e.Step, Generation: microkernel.Generation(e.Overlay.Generation), Acks: acks,
			}
		})
	}
}

// journalled reports whether the journal, as it is now, knows of the order. The late order
// of a process whose part of the journal is lost is known to nobody.
func (r *run) journalled(e microkernel.Apply) bool {
	return slices.ContainsFunc(r.state.Overlays(), func(o mesh.Overlay) bool {
		return o.Key == e.Overlay.Key && o.Plan == e.Overlay.Plan && o.Step == e.Overlay.Step && o.Generation == e.Overlay.Generation
	})
}

// push1 pushes to one proxy and reports whether it NACKs.
func (r *run) push1(p *proxy) bool {
	w := r.world
	wait := r.millis(1, 50)
	p.reported = never
	switch {
	case r.chance(60):
		r.counts.Faults["nack"]++
		p.acked = never
		return true
	case r.chance(60):
		r.counts.Faults["silent-proxy"]++
		p.acked = never
		return false
	case r.chance(15):
		r.counts.Faults["late-ack"]++
		wait = r.millis(500, 15_000)
	}
	if !p.obeys(w.now) {
		p.from, p.to = w.now.Add(wait), never
		p.idle = p.from.Add(r.millis(0, 400))
		if r.chance(20) {
			r.counts.Faults["slow-request"]++
			p.idle = p.from.Add(r.millis(2000, 40_000))
		}
	}
	p.acked = w.now.Add(wait)
	p.reported = p.acked.Add(r.millis(5, 100))
	if r.chance(40) {
		r.counts.Faults["lost-load-report"]++
		p.reported = p.reported.Add(r.millis(5000, 60_000))
	}
	return false
}

func (r *run) required(callee mesh.Service) int {
	n := 0
	if s := r.world.find(callee); s != nil {
		for _, c := range s.callers {
			n++
			if caller := r.world.find(c); caller != nil {
				n += len(caller.instances) - 1
			}
		}
	}
	return n
}

func (r *run) failed(plan microkernel.PlanID, step isa.StepID, code isa.Code, why string) {
	r.report(r.millis(5, 500), func() microkernel.Event {
		return microkernel.Failed{Stamp: r.stamp(), Plan: plan, Step: step, Code: code, Reason: why}
	})
}

// prove reports the picture whenever it changes for the better.
func (r *run) prove(e microkernel.Prove) {
	w := r.world
	in := w.overlay(e.Key)
	if in == nil {
		return
	}
	instants := []microkernel.Instant{w.now}
	for i := range in.proxies {
		p := &in.proxies[i]
		for _, at := range []microkernel.Instant{p.acked, p.idle, p.reported} {
			if at < never && at > w.now {
				instants = append(instants, at)
			}
		}
	}
	last := slices.Max(instants)
	instants = append(instants, last.Add(25*time.Millisecond), last.Add(60*time.Millisecond))
	slices.Sort(instants)
	for _, at := range slices.Compact(instants) {
		r.report(at.Sub(w.now)+r.millis(0, 3), func() microkernel.Event { return r.proof(e) })
	}
	if r.chance(3) {
		r.push(delivery{at: w.now.Add(r.millis(500, 8000)), process: r.process, stale: true, do: func() {
			if ev := r.proof(e); ev != nil {
				r.deliver(ev)
			}
		}})
	}
	if r.chance(4) { // a long watch: the picture long after
		r.report(r.millis(10_000, 60_000), func() microkernel.Event { return r.proof(e) })
	}
}

// proof is what the ledger of the present process knows now.
func (r *run) proof(e microkernel.Prove) microkernel.Event {
	w := r.world
	in := w.overlay(e.Key)
	if in == nil || in.overlay.Generation != uint64(e.Generation) {
		return nil
	}
	out := mesh.Proof{Key: e.Key, Generation: uint64(e.Generation), Required: len(in.proxies), Lapsed: in.leaseEnd <= w.now}
	quietSince := microkernel.Instant(0)
	for i := range in.proxies {
		p := &in.proxies[i]
		if p.acked <= w.now {
			out.Acked++
		}
		if p.reported <= w.now {
			out.Reported++
		}
		if !p.obeys(w.now) || p.idle > w.now {
			out.InFlight++
			out.Inbound++
		}
		quietSince = max(quietSince, p.idle)
	}
	if out.InFlight == 0 {
		out.Quiet = w.now.Sub(quietSince)
	}
	return microkernel.Proved{Stamp: r.stamp(), Plan: e.Plan, Step: e.Step, Proof: out}
}

func (r *run) extend(e microkernel.Extend) {
	in := r.world.overlay(e.Key)
	if in == nil || in.overlay.Generation != uint64(e.Generation) || in.leaseEnd <= r.world.now {
		r.failed(e.Plan, isa.StepID(""), isa.CodeLease, "the overlay has lapsed")
		return
	}
	in.leaseEnd = r.world.now.Add(e.Lease)
}

// withdraw takes the overlay away from every proxy.
func (r *run) withdraw(e microkernel.Withdraw) {
	w := r.world
	in := w.overlay(e.Key)
	answer := func() microkernel.Event {
		return microkernel.Withdrawn{Stamp: r.stamp(), Plan: e.Plan, Step: e.Step, Generation: e.Generation}
	}
	if in != nil && in.overlay.Generation > uint64(e.Generation) {
		r.report(r.millis(1, 10), answer) // an older change: there is nothing of it
		return
	}
	if in == nil {
		r.report(r.millis(1, 10), answer)
		return
	}
	if r.chance(60) {
		r.counts.Faults["broken-mesh"]++
		in.broken = w.now.Add(5 * time.Minute)
	}
	if in.broken > w.now && !w.fair || r.chance(12) {
		r.counts.Faults["withdraw-failed"]++
		r.failed(e.Plan, e.Step, "", "the mesh refused")
		return
	}
	last := w.now
	for i := range in.proxies {
		p := &in.proxies[i]
		p.to = min(p.to, w.now.Add(r.millis(1, 50)))
		p.from = min(p.from, p.to)
		last = max(last, p.to)
	}
	generation := in.overlay.Generation
	r.after(last.Sub(w.now), func() {
		if now := w.overlay(e.Key); now == in && in.overlay.Generation == generation &&
			!slices.ContainsFunc(in.proxies, func(p proxy) bool { return p.to == never && p.from < never }) {
			w.overlays = slices.DeleteFunc(w.overlays, func(o *installed) bool { return o == in })
			if s := w.find(e.Key.Callee); s != nil && s.drain == in {
				s.drain = nil
			}
		}
	})
	r.report(last.Sub(w.now)+e.Ramp+r.millis(1, 10), answer)
}

// reboot restarts one incarnation, or waits for a restart that is under way or done.
func (r *run) reboot(e microkernel.Reboot) {
	w := r.world
	p := w.process(e.Ref.UID)
	if p == nil {
		r.failed(e.Plan, e.Step, isa.CodeUnknownTarget, "no such instance")
		return
	}
	switch {
	case p.ref == e.Ref:
		r.checkReboot(e, p)
		p.ref.Incarnation++
		took := w.find(p.ref.Service).startup - time.Duration(r.rng.IntN(100))*time.Millisecond
		switch {
		case r.chance(30):
			r.counts.Faults["failed-restart"]++
			took = time.Hour
		case r.chance(30):
			r.counts.Faults["slow-restart"]++
			took += 25 * time.Second
		}
		p.up = w.now.Add(took)
		p.sick = took == time.Hour
	case p.ref.Incarnation < e.Ref.Incarnation:
		r.failed(e.Plan, e.Step, "", "no such incarnation")
		return
	}
	if wait := p.up.Sub(w.now); wait <= e.Deadline {
		r.report(max(wait, 0)+r.millis(1, 20), func() microkernel.Event {
			return microkernel.Restarted{Stamp: r.stamp(), Plan: e.Plan, Step: e.Step, Old: e.Ref, New: p.ref}
		})
		return
	}
	if r.rng.IntN(2) == 0 {
		r.report(e.Deadline-r.millis(0, 200), func() microkernel.Event {
			return microkernel.Failed{Stamp: r.stamp(), Plan: e.Plan, Step: e.Step, Reason: "not ready in time"}
		})
	}
}

func (r *run) scale(e microkernel.SetReplicas) {
	s := r.world.find(e.Service)
	if s == nil || r.chance(20) {
		r.counts.Faults["scale-failed"]++
		r.failed(e.Plan, e.Step, isa.CodeForeignOwner, "another owner scales it")
		return
	}
	former := s.replicas
	if _, before := r.world.formers[stepID{e.Plan, e.Step}]; !before {
		r.world.formers[stepID{e.Plan, e.Step}] = former
	}
	s.replicas = e.Replicas
	r.report(r.millis(5, 100), func() microkernel.Event {
		return microkernel.Scaled{Stamp: r.stamp(), Plan: e.Plan, Step: e.Step, Former: former, Replicas: e.Replicas}
	})
}

func (r *run) rollBack(e microkernel.SetRevision) {
	o := r.world.object(e.Object)
	if o == nil || r.chance(20) {
		r.counts.Faults["rollback-failed"]++
		r.failed(e.Plan, e.Step, isa.CodeForeignOwner, "another owner writes it")
		return
	}
	former := o.at
	if _, before := r.world.former[stepID{e.Plan, e.Step}]; !before {
		r.world.former[stepID{e.Plan, e.Step}] = former
	}
	o.at = e.Revision
	r.report(r.millis(5, 100), func() microkernel.Event {
		return microkernel.RolledBack{Stamp: r.stamp(), Plan: e.Plan, Step: e.Step, Former: former, Revision: e.Revision}
	})
}

// watch judges a plan: now and then harm, at the end mostly clean.
func (r *run) watch(e microkernel.Watch) {
	r.measure(e)
	if len(e.Services) == 0 {
		return
	}
	judge := func(wait time.Duration, label microkernel.HarmLabel) {
		at := e.Services[r.rng.IntN(len(e.Services))]
		r.counts.Faults["judged-"+string(label)]++
		r.report(wait, func() microkernel.Event {
			return microkernel.Judged{Stamp: r.stamp(), Plan: e.Plan, Verdict: microkernel.HarmVerdict{
				Label: label, Service: at, Evidence: fmt.Sprintf("p99 of %s is 3x", at),
			}}
		})
	}
	switch {
	case r.chance(15):
		judge(r.millis(10, 8000), microkernel.Harm)
	case e.For == 0:
	case r.chance(10):
		judge(e.For, microkernel.NotRecovered)
	case r.chance(10):
		judge(e.For, microkernel.Inconclusive)
	default:
		judge(e.For, microkernel.Clean)
	}
}
