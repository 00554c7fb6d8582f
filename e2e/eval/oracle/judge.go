package oracle

import "slices"

// run is one script while it is judged.
type run struct {
	w       *World
	fault   Fault
	script  *Script
	now     float64
	out     Outcome
	harmed  map[int32]bool
	lasts   map[int32]bool    // of harmed, for longer than Tolerated
	off     map[int32][]bool  // instances that get no new request
	whole   map[int32]whole   // services that are off as a whole
	booted  map[int32][]bool  // instances that were restarted, since their sticky callees were
	touched map[int32]bool    // services of which an instance was restarted at any time
	broken  map[int32]bool    // callers over a sticky call whose callee restarted after them
	mixed   map[int32][]int32 // members of a component that restarted, while others did not
	thin    map[int32]float64 // overloaded since
	planned map[int32]bool    // services that the script takes off at any time
	lasting map[int32]float64 // what is left in force, until when
}

// whole is the time in which a service is off.
type whole struct {
	since float64
	empty Empty
}

// Judge says what script does to the world.
func Judge(w *World, fault Fault, script Script) Outcome {
	r := &run{
		w: w, fault: fault, script: &script, harmed: map[int32]bool{}, lasts: map[int32]bool{}, off: map[int32][]bool{},
		whole: map[int32]whole{}, booted: map[int32][]bool{}, touched: map[int32]bool{}, broken: map[int32]bool{},
		mixed: map[int32][]int32{}, thin: map[int32]float64{}, planned: map[int32]bool{}, lasting: map[int32]float64{},
	}
	r.out.Why = map[Why]int{}
	for i := range script.Acts {
		if script.Acts[i].Kind == TakeOff {
			r.planned[script.Acts[i].Service] = true
		}
	}
	for from := 0; from < len(script.Acts) && !r.out.Aborted; {
		to := from + 1
		for to < len(script.Acts) && script.Acts[to].Together {
			to++
		}
		r.together(script.Acts[from:to])
		from = to
	}
	r.end()
	return r.out
}

// together carries out acts that begin at once. Restarts among them end in the order that
// is worst: callers first, so that what they read of their callees is stale.
func (r *run) together(acts []Act) {
	sorted := slices.Clone(acts)
	if len(sorted) > 1 {
		slices.SortStableFunc(sorted, func(a, b Act) int { return int(r.w.component[a.Service]) - int(r.w.component[b.Service]) })
	}
	begin, end := r.now, r.now
	for i := range sorted {
		r.now = begin
		if r.act(&sorted[i]); r.out.Aborted {
			return
		}
		end = max(end, r.now)
	}
	r.now = end
	r.watch()
}

func (r *run) act(a *Act) {
	switch a.Kind {
	case TakeOff:
		r.takeOff(a)
	case GiveBack:
		r.giveBack(a)
	case Reboot:
		r.reboot(a)
	case Rollout:
		r.rollout(a)
	case Limit:
		if a.Share < 1 {
			r.harm(a.Service, Refused, r.noticed(a.Lasts))
		}
	case Scale:
		r.scale(a)
	}
}

// instances returns the numbers of the instances that a is about.
func (r *run) instances(a *Act) []int {
	if a.Instances != nil {
		return a.Instances
	}
	all := make([]int, r.w.Services[a.Service].Instances)
	for i := range all {
		all[i] = i
	}
	return all
}

// takeOff takes traffic off, and waits until the instances have no request. That they have
// none is not known here: a gate asks, before a restart.
func (r *run) takeOff(a *Act) {
	s := &r.w.Services[a.Service]
	if r.off[a.Service] == nil {
		r.off[a.Service] = make([]bool, s.Instances)
	}
	for _, i := range r.instances(a) {
		r.off[a.Service][i] = true
	}
	left := countOf(r.off[a.Service], false)
	switch {
	case left == 0:
		r.whole[a.Service] = whole{r.now, a.Empty}
		if a.Empty != Hold {
			why := Refused
			if a.Empty == Fail {
				why = Gap
			}
			r.harm(a.Service, why, r.noticed(a.Lasts))
		}
	case left < s.Needed:
		if _, already := r.thin[a.Service]; !already {
			r.thin[a.Service] = r.now
		}
	}
	if a.Lasts > 0 {
		r.lasting[a.Service] = r.now + a.Lasts
	}
	if r.stuck(a) {
		r.now += a.Deadline
		r.harmWaiting()
		r.out.Aborted = true
		return
	}
	r.now += Emptying
}

// stuck reports whether the requests that the target has cannot end: what they call is
// held, and not by a hold that lets the inner calls of a component pass. A target that is
// called past its proxies never gets empty either.
func (r *run) stuck(a *Act) bool {
	if !r.gates(a.Service) {
		return false
	}
	for _, i := range r.w.in[a.Service] {
		if c := &r.w.Calls[i]; c.Bypass && !r.isOff(c.Caller) {
			return true
		}
	}
	for other, at := range r.whole {
		if at.empty == Hold && other != a.Service && r.w.component[other] != r.w.component[a.Service] &&
			r.w.reaches(a.Service, other) {
			return true
		}
	}
	return false
}

// gates reports whether the script waits for a proof before it restarts service.
func (r *run) gates(service int32) bool {
	return slices.ContainsFunc(r.script.Acts, func(a Act) bool {
		return a.Kind == Reboot && a.Service == service && a.Gated
	})
}

func (r *run) giveBack(a *Act) {
	if at, is := r.whole[a.Service]; is && at.empty == Hold {
		r.held(a.Service, r.now-at.since)
	}
	delete(r.whole, a.Service)
	delete(r.lasting, a.Service)
	for _, i := range r.instances(a) {
		r.off[a.Service][i] = false
	}
	if since, thin := r.thin[a.Service]; thin && countOf(r.off[a.Service], false) >= r.w.Services[a.Service].Needed {
		r.overloaded(a.Service, since)
		// What comes right after it goes on with the same overload.
		if !r.again(a.Service) {
			delete(r.thin, a.Service)
		}
	}
	if r.broken[a.Service] && !r.onlyDead(a.Service) {
		r.harm(a.Service, Sticky, 0)
	}
	if members := r.mixed[r.w.component[a.Service]]; len(members) > 0 {
		r.harmAll(members, Component, 0)
	}
}

// again reports whether the act after the present time takes off another part of service:
// a rolling restart, between whose turns nobody recovers.
func (r *run) again(service int32) bool {
	return countOf(r.booted[service], true) < r.w.Services[service].Instances && r.booted[service] != nil
}

// reboot stops and starts instances side by side.
func (r *run) reboot(a *Act) {
	s := &r.w.Services[a.Service]
	instances := r.instances(a)
	for _, i := range instances {
		if off := r.off[a.Service]; off == nil || !off[i] {
			r.stopped(a.Service)
			if len(instances) == s.Instances {
				r.harm(a.Service, Gap, s.Startup)
			}
			break
		}
	}
	if !a.Gated && r.off[a.Service] != nil && !s.Finishes {
		r.harm(a.Service, InFlight, 0)
	}
	r.starts(a.Service)
	if r.out.Aborted {
		return
	}
	r.now += s.Startup
	r.rebooted(a.Service, instances)
}

// starts checks that what a service calls while it starts is there.
func (r *run) starts(v int32) {
	for _, i := range r.w.out[v] {
		callee := r.w.Calls[i].Callee
		if _, off := r.whole[callee]; off && r.w.component[callee] != r.w.component[v] {
			r.harm(v, Order, forGood)
			r.harmWaiting()
			r.out.Aborted = true
			return
		}
	}
}

// stopped is the loss of what a service is working on when it is told to stop.
func (r *run) stopped(v int32) {
	if !r.w.Services[v].Finishes {
		r.harm(v, InFlight, 0)
	}
}

// rollout restarts all instances as Kubernetes does: with surge nobody is missing, else one
// instance at a time.
func (r *run) rollout(a *Act) {
	s := &r.w.Services[a.Service]
	r.stopped(a.Service)
	all := r.instances(&Act{Service: a.Service})
	if !s.Surge {
		switch {
		case s.Instances == 1:
			r.harm(a.Service, Gap, s.Startup)
		case s.Instances-1 < s.Needed && s.Startup*float64(s.Instances) > Tolerated:
			r.harm(a.Service, Overload, s.Startup*float64(s.Instances))
		}
	}
	r.now += s.Startup * float64(s.Instances)
	r.rebooted(a.Service, all)
}

// rebooted notes what a restart of instances leaves behind.
func (r *run) rebooted(v int32, instances []int) {
	if r.booted[v] == nil {
		r.booted[v] = make([]bool, r.w.Services[v].Instances)
	}
	r.touched[v] = true
	for _, i := range instances {
		r.booted[v][i] = true
	}
	if countOf(r.booted[v], false) == 0 {
		delete(r.broken, v)
	}
	for _, i := range r.w.in[v] {
		if c := &r.w.Calls[i]; c.Sticky && c.Caller != v {
			r.broken[c.Caller] = true
			// It has to restart once more.
			clear(r.booted[c.Caller])
			if !r.isOff(c.Caller) && !r.dead(v) {
				r.harm(c.Caller, Sticky, 0)
			}
		}
	}
	r.mix(v)
}

// mix notes that v, a member of a component, restarted.
func (r *run) mix(v int32) {
	number := r.w.component[v]
	if r.w.sizes[number] == 1 {
		return
	}
	var left []int32
	for _, u := range r.w.Component(v) {
		if !r.touched[u] {
			left = append(left, u)
		}
	}
	r.mixed[number] = left
	for _, u := range left {
		if !r.isOff(u) {
			r.harm(u, Component, 0)
		}
	}
}

func (r *run) scale(a *Act) {
	s := &r.w.Services[a.Service]
	switch {
	case a.Replicas == 0:
		r.harm(a.Service, Gap, r.noticed(forGood))
	case a.Replicas < s.Needed:
		r.thin[a.Service] = r.now
		r.lasting[a.Service] = r.now + forGood
	}
}

// watch is the monitor: an overload that lasts is noticed, and everything given back.
func (r *run) watch() {
	if !r.script.Watched {
		return
	}
	for _, since := range r.thin {
		if r.now-since > Notice {
			r.now = max(r.now, since+Notice)
			r.thin = map[int32]float64{}
			r.out.Aborted = true
			return
		}
	}
}

// end looks at what is left when the last act is over.
func (r *run) end() {
	if !r.out.Aborted {
		for v, at := range r.whole {
			if at.empty == Hold {
				r.held(v, max(r.now, r.lasting[v])-at.since)
			}
		}
		for v, since := range r.thin {
			until := r.now
			if end, left := r.lasting[v]; left {
				until = end
			}
			if r.script.Watched {
				until = min(until, since+Notice)
			}
			if until-since > Tolerated {
				r.harm(v, Overload, until-since)
			}
		}
	}
	for v := range r.broken {
		if !r.onlyDead(v) {
			r.harm(v, Sticky, forGood)
		}
	}
	for _, left := range r.mixed {
		r.harmAll(left, Component, forGood)
	}
	r.sum()
}

// sum fills in the outcome.
func (r *run) sum() {
	for v := range r.harmed {
		r.out.Harmed = append(r.out.Harmed, v)
	}
	slices.Sort(r.out.Harmed)
	for v := range r.lasts {
		r.out.Lasting = append(r.out.Lasting, v)
	}
	slices.Sort(r.out.Lasting)
	for v, instances := range r.booted {
		if len(instances) > 0 && countOf(instances, false) == 0 {
			r.out.Restarted = append(r.out.Restarted, v)
		}
	}
	slices.Sort(r.out.Restarted)
	_, cured := slices.BinarySearch(r.out.Restarted, r.fault.Service)
	_, off := r.whole[r.fault.Service]
	r.out.Cured = cured && !off && !r.out.Aborted && !r.stale()
}

// stale reports whether a caller of the faulty service is still broken by its restart.
func (r *run) stale() bool {
	for _, i := range r.w.in[r.fault.Service] {
		if c := &r.w.Calls[i]; c.Sticky && r.broken[c.Caller] {
			return true
		}
	}
	return false
}

// onlyDead reports whether nothing but a service that failed every request before could
// have broken v: then v is no worse than it was.
func (r *run) onlyDead(v int32) bool {
	for _, i := range r.w.out[v] {
		c := &r.w.Calls[i]
		if c.Sticky && !r.dead(c.Callee) && r.touched[c.Callee] {
			return false
		}
	}
	return true
}

// held is harm if requests to v were held for longer than their callers wait.
func (r *run) held(v int32, seconds float64) {
	if seconds > r.w.Services[v].Patience {
		r.harm(v, Held, r.noticed(seconds-r.w.Services[v].Patience))
	}
}

// harmWaiting asks held of everything that is off.
func (r *run) harmWaiting() {
	for v, at := range r.whole {
		if at.empty == Hold {
			r.held(v, r.now-at.since)
		}
	}
}

func (r *run) overloaded(v int32, since float64) {
	if r.now-since > Tolerated {
		r.harm(v, Overload, r.now-since)
	}
}

// isOff reports whether no request reaches v.
func (r *run) isOff(v int32) bool {
	_, off := r.whole[v]
	return off
}

// dead reports whether v failed every request before anybody acted.
func (r *run) dead(v int32) bool { return v == r.fault.Service && r.fault.Share >= 1 }

// forGood is the length of what nobody ends.
const forGood = 1e6

// noticed is how long something lasts if its errors are noticed, and it can be undone.
func (r *run) noticed(seconds float64) float64 {
	if r.script.Watched {
		return min(seconds, Notice)
	}
	return seconds
}

func (r *run) harmAll(services []int32, why Why, seconds float64) {
	for _, v := range services {
		r.harm(v, why, seconds)
	}
}

// harm notes harm that begins at v, lasts for some time, and goes up to all that reach v.
// What a service that failed every request loses is no loss; that its neighbours are left
// broken is.
func (r *run) harm(v int32, why Why, seconds float64) {
	if r.dead(v) && why != Sticky && why != Component {
		return
	}
	r.out.Why[why]++
	lasting := seconds > Tolerated
	if r.harmed[v] && (!lasting || r.lasts[v]) {
		return // and so is all above it
	}
	for _, u := range append(r.w.Above(v), v) {
		r.harmed[u] = true
		if lasting {
			r.lasts[u] = true
		}
	}
}

// countOf counts the marks that are what.
func countOf(marks []bool, what bool) int {
	n := 0
	for _, m := range marks {
		if m == what {
			n++
		}
	}
	return n
}
