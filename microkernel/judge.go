package microkernel

import (
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
)

// judgement is one verdict while it is being found. All faults are collected, so that
// a proposer sees everything that is wrong at once. Its slices and maps are used again
// for the next one, see Judge.
type judgement struct {
	state    *State
	plan     *plan
	view     *View
	approved bool           // a second principal allows what would else be held
	list     *isa.Listing   // the expanded program, nil if there is none
	touched  []mesh.Service // acted upon: restart set and write set; sorted
	asked    []asked        // of each of touched
	about    []*ServiceView // what is known of the target of each line, nil if it has none or nothing is
	reboots  bool           // something restarts at all
	found    []finding
	retry    time.Duration
	counted  bool // touched and asked are those of this plan

	env      isa.Env
	checker  isa.Checker
	overlays []mesh.DrainOverlay // what each drain of list comes to; more of them are spare memory
	booted   tally               // restarts of each instance
	emptied  tally               // drains of each instance
	seen     map[mesh.Service]bool
	times    []time.Duration // that each step is expected to take, once slow has asked
	longest  []time.Duration
}

// asked is how often a program restarts and drains one service: its instance of which
// it asks most.
type asked struct{ restarts, drains int }

type finding struct {
	outcome Outcome
	fault   isa.Fault
}

// scope says how much of the rules a judgement applies.
type scope bool

const (
	budgeted scope = true  // at the proposal and at approval
	recheck  scope = false // under the locks: its own budgets are charged already
)

// examine judges p against p.View.
func examine(s *State, p *plan, scope scope) *judgement {
	j := new(judgement)
	j.examine(s, p, scope)
	return j
}

func (j *judgement) examine(s *State, p *plan, scope scope) {
	j.state, j.plan, j.view, j.approved, j.list = s, p, &p.View, p.Approver.Name != "", nil
	j.found, j.retry, j.counted = j.found[:0], 0, false
	j.statics()
	if j.worst() == Reject {
		return
	}
	j.touch()
	j.scope()
	j.evidence()
	j.members()
	j.capabilities()
	j.keys()
	j.capacity()
	j.quorum()
	j.slow()
	if scope == budgeted {
		j.incident()
		j.budgets()
	}
}

// expanded is the program that would run; the written one, if nothing came of it.
func (j *judgement) expanded() isa.Program {
	if j.list == nil {
		return j.plan.Written
	}
	return j.list.Program()
}

func (j *judgement) add(outcome Outcome, f isa.Fault) {
	if outcome == Hold && j.approved {
		return
	}
	j.found = append(j.found, finding{outcome, f})
}

func (j *judgement) reject(code isa.Code, path, reason, remedy string) {
	j.add(Reject, fault(code, path, reason, remedy))
}

// worst returns the gravest outcome so far.
func (j *judgement) worst() Outcome {
	worst := Admit
	for _, f := range j.found {
		if gravity(f.outcome) > gravity(worst) {
			worst = f.outcome
		}
	}
	return worst
}

func gravity(o Outcome) int { return slices.Index([]Outcome{Admit, Hold, Throttle, Reject}, o) }

// verdict returns the faults with the gravest first, else in the order of the rules.
func (j *judgement) verdict(epoch string) Verdict {
	slices.SortStableFunc(j.found, func(a, b finding) int { return gravity(b.outcome) - gravity(a.outcome) })
	v := Verdict{Outcome: j.worst(), Epoch: epoch}
	for _, f := range j.found {
		v.Faults = append(v.Faults, f.fault)
	}
	if len(v.Faults) > 0 {
		v.Code = v.Faults[0].Code
	}
	if v.Outcome == Throttle {
		v.RetryAfter = max(j.retry, time.Second)
	}
	return v
}

// touch finds what the program acts upon, and how often.
func (j *judgement) touch() {
	j.look()
	j.overlay()
	j.touched = appendLocks(j.touched[:0], j.view, j.list, false)
	j.asked = slices.Grow(j.asked[:0], len(j.touched))[:len(j.touched)]
	clear(j.asked)
	j.booted.reset()
	j.emptied.reset()
	j.counted, j.reboots = true, false
	var of *asked
	for i := range j.list.Restarts {
		t := &j.list.Restarts[i].Target
		if i == 0 || t.Service != j.list.Restarts[i-1].Target.Service {
			of = j.of(t.Service)
		}
		j.reboots = true
		of.restarts = max(of.restarts, j.booted.add(t.UID))
	}
	for i := range j.list.Drains {
		of = j.of(j.list.Drains[i].Target.Service)
		for _, uid := range j.overlays[i].Instances {
			of.drains = max(of.drains, j.emptied.add(uid))
		}
	}
}

// look finds what is known of the targets.
func (j *judgement) look() {
	j.about = j.about[:0]
	for i := range j.list.Lines {
		var s *ServiceView
		if t := j.list.Target(i); t != nil {
			if i > 0 && j.about[i-1] != nil && j.about[i-1].Name == t.Service {
				s = j.about[i-1]
			} else {
				s = j.view.Find(t.Service)
			}
		}
		j.about = append(j.about, s)
	}
}

// of returns what is asked of service, which the program restarts or drains.
func (j *judgement) of(service mesh.Service) *asked {
	i, _ := slices.BinarySearch(j.touched, service)
	return &j.asked[i]
}

// restarted reports whether service restarts.
func (j *judgement) restarted(service mesh.Service) bool {
	i, found := slices.BinarySearch(j.touched, service)
	return found && j.asked[i].restarts > 0
}

// overlay works out what each drain comes to.
func (j *judgement) overlay() {
	for i := range j.list.Drains {
		if i == len(j.overlays) {
			j.overlays = append(j.overlays, mesh.DrainOverlay{})
		}
		j.overlays[i] = mesh.DrainOverlay{Instances: j.overlays[i].Instances[:0]}
		fillDrain(&j.overlays[i], &j.list.Drains[i], j.view, &j.state.policy)
	}
}

// drained is the overlay that the drain of line i comes to with the instances of the view.
func (j *judgement) drained(i int) *mesh.DrainOverlay { return &j.overlays[j.list.Lines[i].At] }

// lockSet returns what a plan must have for itself: every service that it writes, and
// if it restarts anything the restart set (with watched members: the group). Sorted.
func lockSet(view *View, program isa.Program, watched bool) []mesh.Service {
	return appendLocks(nil, view, isa.NewListing(&program), watched)
}

// appendLocks is lockSet of a listing in the memory of out, which is empty.
func appendLocks(out []mesh.Service, view *View, list *isa.Listing, watched bool) []mesh.Service {
	for i := range list.Lines {
		t := list.Target(i)
		if t == nil || list.Lines[i].Op == isa.OpLimit && planted("limit-unlocked") {
			continue
		}
		if n := len(out); n == 0 || out[n-1] != t.Service { // the instances of one service follow each other
			out = append(out, t.Service)
		}
		out = append(out, t.Group...)
	}
	for i := range list.Drains {
		if to := list.Drains[i].To; to != "" {
			out = append(out, to)
		}
	}
	for i := range list.Rollbacks {
		if o := view.Object(list.Rollbacks[i].Object); o != nil {
			out = append(out, o.Services...)
		}
	}
	if len(list.Restarts) > 0 {
		out = append(out, view.RestartSet...)
		if watched {
			out = append(out, view.Group...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// names lists services for a reason, at most a dozen of them.
func names(services []mesh.Service) string {
	const most = 12
	var b strings.Builder
	for i, s := range services {
		if i == most {
			b.WriteString(" ...")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(s))
	}
	return b.String()
}
