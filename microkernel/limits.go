package microkernel

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// evidence refuses plans about a graph that too little is known of. With a declared
// graph the view is the union with it, and every restart needs its drain anyway.
func (j *judgement) evidence() {
	p := &j.state.policy
	j.age()
	if j.view.Declared {
		return
	}
	if j.view.Requests < p.LeastRequests {
		j.reject(isa.CodeInsufficientEvidence, "", fmt.Sprintf("%d requests are behind the call graph, %d are needed",
			j.view.Requests, p.LeastRequests), "wait for traffic, or declare upstreams")
	}
	if j.view.Sampling < p.LeastSampling {
		j.reject(isa.CodeInsufficientEvidence, "", fmt.Sprintf("%.2f%% of requests are seen, %.2f%% are needed",
			100*j.view.Sampling, 100*p.LeastSampling), "raise sampling, feed access logs, or declare upstreams")
	}
}

// age holds a plan that acts on what nobody declares anything of, and what has not been
// watched for long: a batch at night or a queue may depend on it unseen.
func (j *judgement) age() {
	least := j.state.policy.EvidenceAge
	for i := range j.view.Services {
		s := &j.view.Services[i]
		if s.Declares || s.Known >= least {
			continue
		}
		if _, acted := slices.BinarySearch(j.touched, s.Name); acted {
			j.add(Hold, fault(isa.CodeInsufficientEvidence, "", fmt.Sprintf("%s declares no dependency and is known for %v, %v are needed",
				s.Name, s.Known.Round(time.Second), least), "declare its callers and upstreams, or let another principal approve"))
			return
		}
	}
}

// scope refuses what a principal may not act on.
func (j *judgement) scope() {
	for _, scope := range j.state.policy.Scopes {
		if scope.Principal != j.plan.Proposer.Name {
			continue
		}
		for _, ns := range j.namespaces() {
			if slices.Contains(scope.Deny, ns) || len(scope.Allow) > 0 && !slices.Contains(scope.Allow, ns) {
				j.reject(isa.CodeAuthz, "steps", scope.Principal+" may not act on namespace "+ns, "ask whoever may")
				return
			}
		}
	}
}

// namespaces are those of all that the program acts upon, objects too; sorted.
func (j *judgement) namespaces() []string {
	var out []string
	for _, s := range j.touched {
		out = append(out, s.Namespace())
	}
	for i := range j.list.Rollbacks {
		_, rest, _ := strings.Cut(j.list.Rollbacks[i].Object, "/")
		out = append(out, mesh.Service(rest).Namespace())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// incident refuses an agent's restart of what is none of a symptom's group, while a
// service above it is broken: there is no error budget left for that.
func (j *judgement) incident() {
	if len(j.view.Incident) == 0 || len(j.view.Group) > 0 || !j.reboots || j.plan.Proposer.Role != Proposer {
		return
	}
	j.reject(isa.CodeBudget, "steps", "the objective of "+names(j.view.Incident)+" is broken, and this is none of its group",
		"restart what the symptom comes from, or wait until it is over")
}

// members refuses a program that restarts a part of its restart set only.
func (j *judgement) members() {
	if !j.reboots {
		return
	}
	var missing []mesh.Service
	for _, s := range j.view.RestartSet {
		if !j.restarted(s) {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return
	}
	code, reason := isa.CodeOrder, "the restart set also has "
	if j.moved() {
		code, reason = isa.CodeStaleEpoch, "at epoch "+j.view.Epoch+" the restart set also has "
	}
	j.reject(code, "steps", reason+names(missing), "restart them too: "+names(j.view.RestartSet))
}

// capabilities refuses what the mesh cannot do to a target, or cannot prove.
func (j *judgement) capabilities() {
	for i := range j.list.Lines {
		switch at := j.list.Lines[i].At; j.list.Lines[i].Op {
		case isa.OpDrain:
			j.canDrain(i, &j.list.Drains[at])
		case isa.OpRestart:
			j.canRestart(i, &j.list.Restarts[at])
		case isa.OpLimit:
			name := j.list.Limits[at].Target.Service
			if s := j.about[i]; s == nil || !s.Capability.Limit {
				j.reject(isa.CodeUnsupported, stepPath(i, ""), "requests to "+string(name)+" cannot be limited here",
					"see the capability matrix")
			}
		case isa.OpBreak:
			name := j.list.Breaks[at].Target.Service
			if s := j.about[i]; s == nil || !s.Capability.Break {
				j.reject(isa.CodeUnsupported, stepPath(i, ""), "no circuit breaker towards "+string(name)+" can be set here",
					"see the capability matrix")
			}
		case isa.OpScale:
			j.canScale(i, &j.list.Scales[at])
		case isa.OpRollback:
			j.canRollBack(i, &j.list.Rollbacks[at])
		}
	}
}

// stepPath is where a fault of step i stands.
func stepPath(i int, operand string) string { return fmt.Sprintf("steps[%d]%s", i, operand) }

func (j *judgement) canDrain(i int, a *isa.Drain) {
	s := j.about[i]
	if s == nil {
		j.reject(isa.CodeUnknownTarget, stepPath(i, ".drain"), string(a.Target.Service)+" is not in the mesh", "name a service of the mesh")
		return
	}
	least := j.state.policy.LeastGrade
	switch c := &s.Capability; {
	case !c.Drain:
		j.reject(isa.CodeNotDrainable, stepPath(i, ".drain"), "traffic cannot be taken off "+string(s.Name), "see the capability matrix")
	case !c.Grade.AtLeast(least):
		j.reject(isa.CodeNotDrainable, stepPath(i, ".drain"), fmt.Sprintf("the best proof to be had of %s is of grade %q, policy demands %s",
			s.Name, c.Grade, least), "see the capability matrix")
	case a.OnEmpty == mesh.OnEmptyHold && !c.Hold && c.Proxyless:
		j.reject(isa.CodeUnsupported, stepPath(i, ".drain"), "requests to "+string(s.Name)+
			" cannot be held by gRPC clients without a proxy", "reroute them")
	case a.OnEmpty == mesh.OnEmptyHold && !c.Hold:
		j.reject(isa.CodeHoldUnavailable, stepPath(i, ".drain"), "requests to "+string(s.Name)+" cannot be held", "use shed or reroute")
	case a.OnEmpty == mesh.OnEmptyShed && !c.Shed:
		j.reject(isa.CodeUnsupported, stepPath(i, ".drain"), "requests to "+string(s.Name)+" cannot be shed", "use hold or reroute")
	case a.To != "" && !c.Reroute:
		j.reject(isa.CodeUnsupported, stepPath(i, ".drain"), "requests to "+string(s.Name)+" cannot be rerouted", "use hold or shed")
	}
	if len(j.drained(i).Instances) == 0 {
		j.reject(isa.CodeUnknownTarget, stepPath(i, ".drain"), "the target has no instance", "name an instance that runs")
	}
}

// canRestart refuses a restart without drain of what takes traffic. It repeats a rule
// of the checker, because safety comes from here alone.
func (j *judgement) canRestart(i int, a *isa.Restart) {
	s := j.about[i]
	if s == nil || instance(s, a.Target.UID) == nil {
		j.reject(isa.CodeUnknownTarget, stepPath(i, ".restart"), fmt.Sprintf("%s has no instance %q", a.Target.Service, a.Target.UID),
			"name an instance that runs")
		return
	}
	if a.Mode == isa.InPlace && !s.Capability.InPlace {
		j.reject(isa.CodeUnsupported, stepPath(i, ".restart"), string(s.Name)+" cannot be restarted in place", "use mode rolling or replace")
	}
	if a.Drain == "" {
		if s.Takes {
			j.reject(isa.CodeDrainRequired, stepPath(i, ".restart"), string(s.Name)+" takes traffic", "drain it, and restart it with the drain")
		}
		return
	}
	if d := j.line(a.Drain); d < 0 || !j.covers(d, a) {
		j.reject(isa.CodeDrainRequired, stepPath(i, ".restart"), fmt.Sprintf("drain %q does not take all traffic off %s", a.Drain, a.Target.UID),
			"borrow a drain of 100% of this instance")
	}
}

// covers reports whether line d is a drain that takes everything off what a restarts.
func (j *judgement) covers(d int, a *isa.Restart) bool {
	drain := j.list.Drain(d)
	return drain != nil && drain.Target.Service == a.Target.Service && drain.Share == 100 &&
		slices.Contains(j.drained(d).Instances, a.Target.UID)
}

func (j *judgement) canScale(i int, a *isa.Scale) {
	s := j.about[i]
	if s == nil {
		j.reject(isa.CodeUnknownTarget, stepPath(i, ".scale"), string(a.Target.Service)+" is not in the mesh", "name a service of the mesh")
		return
	}
	switch {
	case s.Fixed:
		j.reject(isa.CodeUnsupported, stepPath(i, ".scale"), "the number of instances of "+string(s.Name)+" cannot be set here",
			"see the capability matrix")
	case s.Owner != "":
		j.reject(isa.CodeForeignOwner, stepPath(i, ".scale"), "the number of instances of "+string(s.Name)+" belongs to "+s.Owner,
			fmt.Sprintf("commit there: %s with %d replicas", s.Name, a.Replicas))
	}
	least, off := floorOf(s, &j.state.policy), 0
	if a.Replicas < s.Replicas {
		off = j.off(i, s.Name)
	}
	switch {
	case a.Replicas < least:
		j.reject(isa.CodeScaleFloor, stepPath(i, ".scale"), fmt.Sprintf("%d replicas are below the floor of %d", a.Replicas, least),
			fmt.Sprintf("ask for %d or more", least))
	case a.Replicas-off < least:
		j.reject(isa.CodeScaleFloor, stepPath(i, ".scale"), fmt.Sprintf("%d replicas, of which %d may be drained, are below the floor of %d",
			a.Replicas, off, least), fmt.Sprintf("ask for %d or more, or scale after the restore", least+off))
	}
}

// off is how many instances of service a drain of the plan may keep out of service, with
// nothing said of their requests, when step i has set its number of instances: whoever
// scales down chooses which of them go.
func (j *judgement) off(i int, service mesh.Service) int {
	most := 0
	for k := range j.list.Lines {
		a := j.list.Drain(k)
		if a == nil || a.Target.Service != service || a.To != "" || a.OnEmpty != mesh.OnEmptyNone || j.apart(k, i) {
			continue
		}
		most = max(most, len(j.drained(k).Instances)) // keys keeps two from being open at once
	}
	return most
}

// guarded refuses an object that configures what is protected: its name need not tell.
func (j *judgement) guarded(path string, o *ObjectView) bool {
	limits := limits(&j.state.policy)
	for _, name := range o.Services {
		s := j.view.Find(name)
		if code := limits.Guard(name, s != nil && s.Protected); code != "" {
			j.reject(code, path, fmt.Sprintf("%s configures %s, which is protected", o.Name, name), "roll it back by hand")
			return true
		}
	}
	return false
}

// canRollBack refuses what is not there, is protected, has another owner, or must not come back.
func (j *judgement) canRollBack(i int, a *isa.RollbackConfig) {
	path := stepPath(i, ".rollbackConfig")
	o := j.view.Object(a.Object)
	switch {
	case !j.view.Rollback:
		j.reject(isa.CodeUnsupported, path, "configuration cannot be rolled back here", "roll it back at its owner")
	case o == nil:
		j.reject(isa.CodeUnknownTarget, path, "there is no object "+a.Object, "name an object that exists")
	case len(o.Services) == 0:
		j.reject(isa.CodeUnknownTarget, path, a.Object+" configures no service of the mesh", "name an object that a service uses")
	case j.guarded(path, o):
	case o.Owner != "":
		j.reject(isa.CodeForeignOwner, path, a.Object+" belongs to "+o.Owner,
			fmt.Sprintf("commit there: %s from revision %s back to %s", a.Object, o.Current, a.Revision))
	case slices.Contains(o.Denied, a.Revision):
		j.reject(isa.CodeDenied, path, fmt.Sprintf("revision %s of %s is on the deny list", a.Revision, a.Object),
			"choose another: "+strings.Join(o.Known, ", "))
	case !slices.Contains(o.Known, a.Revision):
		j.reject(isa.CodeUnknownVersion, path, fmt.Sprintf("revision %s of %s was never in force, or is not kept any more",
			a.Revision, a.Object), "choose one that was: "+strings.Join(o.Known, ", "))
	}
}

// keys refuses two drains of one service that are open at once: an overlay has one
// owner, and the second would have to wait for the first to be given back.
func (j *judgement) keys() {
	if len(j.list.Drains) < 2 {
		return
	}
	lines := j.list.Lines
	for i := range lines {
		a := j.list.Drain(i)
		if a == nil {
			continue
		}
		for k := i + 1; k < len(lines); k++ {
			b := j.list.Drain(k)
			if b == nil || a.Target.Service != b.Target.Service || j.apart(i, k) || j.apart(k, i) {
				continue
			}
			j.reject(isa.CodeConflict, fmt.Sprintf("steps[%d].drain", k),
				fmt.Sprintf("drains %s and %s of %s are open at once", lines[i].ID, lines[k].ID, a.Target.Service),
				"drain them in one step, or restore one before the other begins")
		}
	}
}

// capacity holds the floor of every service while its drains are open. Locks keep
// other plans away, and keys other drains of this one, so each drain stands alone.
func (j *judgement) capacity() {
	for i := range j.list.Lines {
		a := j.list.Drain(i)
		if a == nil {
			continue
		}
		if why := beside(a, j.drained(i), j.view, j.view, &j.state.policy); why != "" {
			j.reject(isa.CodeNoCapacity, fmt.Sprintf("steps[%d].drain", i), why, "drain fewer instances, reroute, hold or shed")
		}
	}
}

// beside says why too little capacity is left by the facts of now beside a drain of these
// instances, "" if enough is. The load is that of then, when the plan got its locks: while
// it runs, rates are its own doing.
func beside(a *isa.Drain, drain *mesh.DrainOverlay, then, now *View, policy *Policy) string {
	s := now.Find(a.Target.Service)
	if s == nil {
		return ""
	}
	if a.To != "" {
		to := now.Find(a.To)
		if !planted("reroute-unchecked") && (to == nil || to.ReadyCount() == 0 || a.To == a.Target.Service) {
			return fmt.Sprintf("%s has no ready instance to take the traffic", a.To)
		}
		return ""
	}
	left, before := left(s, drain), then.Find(a.Target.Service)
	least := max(1, s.MinAvailable)
	if before != nil && before.Utilisation > 0 {
		least = max(least, headroom(before, left+readyAmong(before, drain.Instances), policy))
	}
	if planted("floor-off-by-one") {
		least--
	}
	if left == 0 && a.OnEmpty != mesh.OnEmptyNone || left >= least {
		return ""
	}
	return fmt.Sprintf("%d of %d ready instances of %s would be left, the floor is %d", left, s.ReadyCount(), s.Name, least)
}

// left counts the ready instances of s that a drain leaves.
func left(s *ServiceView, drain *mesh.DrainOverlay) int {
	n := 0
	for i := range s.Instances {
		if s.Instances[i].State == mesh.Ready && !slices.Contains(drain.Instances, s.Instances[i].UID) {
			n++
		}
	}
	return n
}

// readyAmong counts the ready instances of s that are among uids.
func readyAmong(s *ServiceView, uids []mesh.UID) int {
	return s.ReadyCount() - left(s, &mesh.DrainOverlay{Instances: uids})
}

// floorOf is the least number of ready instances that s must keep.
func floorOf(s *ServiceView, policy *Policy) int {
	return max(1, s.MinAvailable, s.Quorum, headroom(s, s.ReadyCount(), policy))
}

// headroom is how many instances the load of s needs, with the share that policy keeps
// free; all of them if it needs more than there are.
func headroom(s *ServiceView, there int, policy *Policy) int {
	if planted("headroom-forgotten") || s.Utilisation <= 0 || policy.Headroom >= 1 {
		return 0
	}
	need := s.Utilisation * float64(s.ReadyCount()) / (1 - policy.Headroom)
	return int(math.Ceil(min(need, float64(there))))
}

// quorum refuses to stop members of a quorum service below their quorum.
func (j *judgement) quorum() {
	for i := range j.list.Lines {
		a := j.list.Restart(i)
		if a == nil {
			continue
		}
		s := j.about[i]
		if s == nil || s.Quorum == 0 {
			continue
		}
		down := []mesh.UID{a.Target.UID}
		for k := range j.list.Lines {
			b := j.list.Restart(k)
			if b != nil && b.Target.Service == a.Target.Service && k != i && j.together(i, k) {
				down = append(down, b.Target.UID)
			}
		}
		if up := left(s, &mesh.DrainOverlay{Instances: down}); up < s.Quorum && !planted("quorum-unchecked") {
			j.reject(isa.CodeQuorum, fmt.Sprintf("steps[%d].restart", i),
				fmt.Sprintf("%d members of %s would be up, its quorum is %d", up, s.Name, s.Quorum),
				"wait until the other members are ready, or restart them one after another")
		}
	}
}

// slow holds a plan whose held requests would wait longer than their callers do.
func (j *judgement) slow() {
	j.times = j.times[:0]
	for i := range j.list.Lines {
		a := j.list.Drain(i)
		if a == nil || a.OnEmpty != mesh.OnEmptyHold || a.To != "" {
			continue
		}
		s := j.about[i]
		if s == nil || left(s, j.drained(i)) > 0 {
			continue
		}
		most := j.state.policy.MaxHold
		if s.CallerDeadline > 0 {
			most = min(most, s.CallerDeadline)
		}
		if wait := j.held(i); wait > most {
			j.add(Hold, fault(isa.CodeTooSlow, fmt.Sprintf("steps[%d].drain", i),
				fmt.Sprintf("requests to %s would be held for %v, its callers wait for %v at most",
					s.Name, wait.Round(time.Millisecond), most),
				"shed or reroute instead, or let another principal approve"))
		}
	}
}

// held is how long the restarts between drain i and its restore are expected to take:
// the longest path through them.
func (j *judgement) held(i int) time.Duration {
	n, end := len(j.list.Lines), j.restore(j.list.Lines[i].ID)
	longest := slices.Grow(j.longest[:0], n)[:n]
	clear(longest)
	j.longest = longest
	worst := time.Duration(0)
	if len(j.times) == 0 {
		for k := range n {
			j.times = append(j.times, j.expected(k))
		}
	}
	for _, k := range j.checker.Order() {
		if k == i || !j.checker.Precedes(i, k) || end >= 0 && k != end && !j.checker.Precedes(k, end) {
			continue
		}
		for _, before := range j.checker.Follows(k) {
			longest[k] = max(longest[k], longest[before])
		}
		longest[k] += j.times[k]
		worst = max(worst, longest[k])
	}
	return worst
}

// expected is the time that a step is expected to take, where held requests wait.
func (j *judgement) expected(k int) time.Duration {
	switch line := &j.list.Lines[k]; line.Op {
	case isa.OpDrain:
		return j.state.policy.Settle
	case isa.OpRestart:
		return restartTime(j.about[k], &j.state.policy) + j.state.policy.Settle
	}
	return 0
}

// restartTime is how long a restart of s is expected to take.
func restartTime(s *ServiceView, policy *Policy) time.Duration {
	switch {
	case s != nil && s.RestartP99 > 0:
		return s.RestartP99
	case s != nil && s.Startup > 0:
		return s.Startup
	}
	return policy.RestartTime
}

// instance returns the instance of s with uid, nil if there is none.
func instance(s *ServiceView, uid mesh.UID) *mesh.Instance {
	for i := range s.Instances {
		if s.Instances[i].UID == uid {
			return &s.Instances[i]
		}
	}
	return nil
}
