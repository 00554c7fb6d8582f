package microkernel

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// act is one service that a plan acted on, or asked to drain: what budgets count.
type act struct {
	at       Instant
	plan     PlanID
	by       string
	agent    bool // by a principal of role Proposer
	service  mesh.Service
	restarts int
	drains   int
	acted    bool // false: asked and throttled
}

// bucket meters one principal: the instant at which its next plan would be due if it
// came at exactly the allowed rate (GCRA, in integers so that replay is exact).
type bucket struct {
	name string
	due  Instant
}

// Windows of the budgets.
const (
	shortWindow = 10 * time.Minute
	longWindow  = 60 * time.Minute
)

// meter counts a proposal of name and returns how long it must wait, 0 if it may pass.
func (t *turn) meter(name string) time.Duration {
	if t.policy.PlansPerSecond <= 0 {
		return 0
	}
	interval := time.Duration(float64(time.Second) / t.policy.PlansPerSecond)
	burst := time.Duration(max(t.policy.PlansBurst, 1)-1) * interval
	if planted("rate-by-name") && name > "n" {
		return 0
	}
	i := slices.IndexFunc(t.buckets, func(b bucket) bool { return b.name == name })
	due := t.now
	if i >= 0 {
		due = max(due, t.buckets[i].due)
	}
	if wait := due.Sub(t.now) - burst; wait > 0 {
		return wait
	}
	kept := slices.Clone(t.buckets)
	if i >= 0 {
		kept = slices.Delete(kept, i, i+1)
	}
	if len(kept) >= maxBuckets {
		kept = kept[1:] // the one that asked last the longest ago
	}
	t.buckets = append(kept, bucket{name: name, due: due.Add(interval)})
	return 0
}

// budgets applies the limits on what was done of late.
func (j *judgement) budgets() {
	j.restartBudget()
	j.drainBudget()
	j.agentBudget()
	j.fleetBudget()
}

// restartBudget stops restart storms. An agent is refused; an operator who asks for
// one more is held for a second pair of eyes.
func (j *judgement) restartBudget() {
	outcome := Hold
	if j.plan.Proposer.Role == Proposer {
		outcome = Reject
	}
	if j.approved {
		return
	}
	for i, s := range j.touched {
		more := j.asked[i].restarts
		if more == 0 {
			continue
		}
		had := 0
		for _, a := range j.recent(shortWindow) {
			if a.service == s {
				had += a.restarts
			}
		}
		if most := j.state.policy.RestartsPerService; had+more > most {
			j.add(outcome, fault(isa.CodeRestartBudget, "steps", fmt.Sprintf("%s had %d restarts in 10 minutes, %d are allowed",
				s, had, most), "find out why restarts do not help; an operator may ask for approval"))
		}
	}
}

// drainBudget cools down a target that is drained and restored over and over.
func (j *judgement) drainBudget() {
	if j.approved {
		return
	}
	p := &j.state.policy
	for i, s := range j.touched {
		if j.asked[i].drains == 0 {
			continue
		}
		had, oldest := 0, Instant(0)
		for _, a := range j.recent(shortWindow) {
			if a.service != s || a.drains == 0 {
				continue
			}
			if had == 0 {
				oldest = a.at
			}
			had += a.drains
		}
		if had < min(p.DrainsPerTarget, p.DrainsPerTargetHold) {
			continue
		}
		reason := fmt.Sprintf("drains of %s were asked for %d times in 10 minutes", s, had)
		switch {
		case had >= p.DrainsPerTargetHold:
			j.add(Hold, fault(isa.CodeDrainBudget, "steps", reason, "let another principal approve"))
		case had >= p.DrainsPerTarget:
			j.retry = max(j.retry, oldest.Add(shortWindow).Sub(j.state.now))
			j.add(Throttle, fault(isa.CodeDrainBudget, "steps", reason, "let it cool down"))
		}
	}
}

// agentBudget stops a slow drip over many services. The services of one plan alone
// never exceed it: they are one group.
func (j *judgement) agentBudget() {
	if j.plan.Proposer.Role != Proposer || j.approved || planted("favourite") && j.plan.Proposer.Name == "rules" {
		return
	}
	by := j.plan.Proposer.Name
	mine := func(a act) bool { return a.agent && a.by == by && a.acted }
	p := &j.state.policy
	ten, hadTen, oldest := j.distinct(shortWindow, mine)
	hour, hadHour, _ := j.distinct(longWindow, mine)
	switch {
	case hadHour > 0 && hour > p.AgentServices60m:
		j.add(Hold, fault(isa.CodeAgentBudget, "", fmt.Sprintf("%s would act on %d services in an hour, %d are allowed",
			by, hour, p.AgentServices60m), "let another principal approve"))
	case hadTen > 0 && ten > p.AgentServices10m:
		j.retry = max(j.retry, oldest.Add(shortWindow).Sub(j.state.now))
		j.add(Throttle, fault(isa.CodeAgentBudget, "", fmt.Sprintf("%s would act on %d services in 10 minutes, %d are allowed",
			by, ten, p.AgentServices10m), "ask again later"))
	}
}

// fleetBudget bounds what all principals together act on. One plan alone is bounded by
// its restart set and blast radius.
func (j *judgement) fleetBudget() {
	p := &j.state.policy
	most := max(p.FleetServices10m, int(math.Ceil(p.FleetShare10m*float64(j.view.GraphSize))))
	all, had, _ := j.distinct(shortWindow, func(a act) bool { return a.acted })
	if had > 0 && all > most {
		j.reject(isa.CodeAggregateBudget, "", fmt.Sprintf("%d services would be acted on in 10 minutes, %d are allowed",
			all, most), "ask again later")
	}
}

// distinct counts the services that were acted on in window together with those of
// this plan, those that were before, and when the first of them was.
func (j *judgement) distinct(window time.Duration, counts func(act) bool) (all, had int, oldest Instant) {
	acts := j.recent(window)
	if len(acts) == 0 {
		return len(j.touched), 0, 0
	}
	if j.seen == nil {
		j.seen = make(map[mesh.Service]bool)
	}
	clear(j.seen)
	seen := j.seen
	for _, a := range acts {
		if !counts(a) || seen[a.service] {
			continue
		}
		if had == 0 {
			oldest = a.at
		}
		seen[a.service] = true
		had++
	}
	all = had
	for _, s := range j.touched {
		if !seen[s] {
			all++
		}
	}
	return all, had, oldest
}

// recent returns the acts within window.
func (j *judgement) recent(window time.Duration) []act {
	since := j.state.now.Add(-window)
	i, _ := slices.BinarySearchFunc(j.state.acts, since, func(a act, t Instant) int {
		if a.at <= t {
			return -1
		}
		return 1
	})
	return j.state.acts[i:]
}

// charge books what an admitted plan will act on.
func (t *turn) charge(p *plan, j *judgement) {
	t.prune()
	for i, s := range j.touched {
		t.acts = append(t.acts, act{
			at: t.now, plan: p.ID, by: p.Proposer.Name, agent: p.Proposer.Role == Proposer, service: s,
			restarts: j.asked[i].restarts, drains: j.asked[i].drains, acted: true,
		})
	}
}

// chargeAsked books the drains that a refused plan asked for, up to where more of
// them would not change a verdict.
func (t *turn) chargeAsked(p *plan, j *judgement) {
	t.prune()
	for i, s := range j.touched {
		drains, had := j.asked[i].drains, 0
		for _, a := range t.acts {
			if a.service == s && a.at > t.now.Add(-shortWindow) {
				had += a.drains
			}
		}
		if drains > 0 && had >= t.policy.DrainsPerTarget && had < t.policy.DrainsPerTargetHold {
			t.acts = append(t.acts, act{at: t.now, by: p.Proposer.Name, service: s, drains: drains})
		}
	}
}

// refund takes back what a plan was charged that never began: its restarts and
// services. That it asked for drains is not forgotten.
func (t *turn) refund(p *plan) {
	if !slices.ContainsFunc(t.acts, func(a act) bool { return a.plan == p.ID }) {
		return
	}
	t.prune()
	for i := range t.acts {
		if t.acts[i].plan == p.ID {
			t.acts[i].restarts, t.acts[i].acted = 0, false
		}
	}
}

// prune forgets the acts that no window reaches, and makes the rest the turn's own.
func (t *turn) prune() {
	since := t.now.Add(-longWindow)
	t.acts = slices.DeleteFunc(slices.Clone(t.acts), func(a act) bool { return a.at <= since })
}
