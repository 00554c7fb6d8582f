package microkernel

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
)

// compile checks and expands the program against the facts of the view: the bridge to
// package isa. The faults of the first pass that has any are returned.
func (j *judgement) compile(limits isa.Limits) []isa.Fault {
	j.env.Limits = limits
	var faults []isa.Fault
	j.list, faults = j.checker.List(&j.plan.Written, &j.env)
	return faults
}

// environment gathers what isa's checks need from the view.
func (j *judgement) environment() {
	view, n := j.view, len(j.view.Services)
	j.env = isa.Env{
		GraphSize:    view.GraphSize,
		Services:     slices.Grow(j.env.Services[:0], n)[:n],
		RestartSet:   view.RestartSet,
		DrainOrder:   view.DrainOrder,
		RestartOrder: view.RestartSeq,
		RestoreOrder: view.RestoreSeq,
	}
	sorted := true
	for i := range view.Services {
		s := &view.Services[i]
		sorted = sorted && (i == 0 || view.Services[i-1].Name < s.Name)
		j.env.Services[i] = isa.ServiceFacts{
			ServiceState: s.ServiceState, FanIn: s.FanIn, Callers: s.Callers, Component: s.Component,
			StickyCallers: s.StickyCallers, Rate: s.Rate, Concurrency: s.Concurrency, Takes: s.Takes,
		}
	}
	if !sorted {
		slices.SortFunc(j.env.Services, func(a, b isa.ServiceFacts) int {
			return strings.Compare(string(a.Name), string(b.Name))
		})
	}
}

func limits(p *Policy) isa.Limits {
	return isa.Limits{
		MaxGroupSize: p.MaxGroupSize, FanInMustDrain: p.FanInMustDrain,
		MaxPlanServices: p.MaxPlanServices, MaxPlanShare: p.MaxPlanShare, MaxPlanCeiling: p.MaxPlanCeiling,
		LimitShareOfLoad: p.LimitShareOfLoad, BreakConcurrency: p.BreakConcurrency,
		MaxLease: p.MaxLease, MaxDrainDeadline: p.MaxDrainDeadline,
		ProtectedNamespaces: p.ProtectedNamespaces, ProtectedServices: p.ProtectedServices, Self: p.Self,
	}
}

// lifted are the limits that hold for a plan that a second principal approves.
func lifted(p *Policy) isa.Limits {
	l := limits(p)
	l.MaxGroupSize = isa.MaxExpandedSteps
	l.MaxLease, l.MaxDrainDeadline = 24*time.Hour, time.Hour
	return l
}

// statics compiles the program; what only the lifted limits allow is held, anything
// else is rejected.
func (j *judgement) statics() {
	j.environment()
	strict := limits(&j.state.policy)
	if j.approved {
		strict = lifted(&j.state.policy)
	}
	faults := j.compile(strict)
	if len(faults) == 0 {
		return
	}
	rest := j.compile(lifted(&j.state.policy))
	for _, f := range faults {
		outcome := Hold
		if slices.ContainsFunc(rest, func(g isa.Fault) bool { return g.Code == f.Code && g.Path == f.Path }) {
			outcome = Reject
		}
		if f.Code == isa.CodeOrder && j.moved() {
			f.Code = isa.CodeStaleEpoch
			f.Remedy = "make the plan anew at epoch " + j.view.Epoch
		}
		if f.Code == isa.CodeGroupTooLarge {
			f.Reason += cut(j.view.Cut)
		}
		j.add(outcome, f)
	}
	for _, f := range rest { // what the strict pass did not reach
		if !slices.ContainsFunc(faults, func(g isa.Fault) bool { return g.Code == f.Code && g.Path == f.Path }) {
			j.add(Reject, f)
		}
	}
}

// cut shows an approver what keeps a restart set together: at most a dozen calls.
func cut(edges []CallEdge) string {
	const most = 12
	if len(edges) == 0 {
		return ""
	}
	var b strings.Builder
	calls := uint64(0)
	for i, e := range edges {
		calls += e.Calls
		switch {
		case i < most:
			fmt.Fprintf(&b, "%s %s -> %s (%d)", separator(i), e.Caller, e.Callee, e.Calls)
		case i == most:
			b.WriteString(" ...")
		}
	}
	return fmt.Sprintf("; the cheapest cut that keeps every set within it is %d of their calls or sticky marks (%d calls seen):%s",
		len(edges), calls, b.String())
}

func separator(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

// moved reports whether the program was made, or judged before, against another epoch
// than the present.
func (j *judgement) moved() bool {
	made, judged := j.plan.Written.Epoch, j.plan.Verdict.Epoch
	return made != "" && made != j.view.Epoch || judged != "" && judged != j.view.Epoch
}
