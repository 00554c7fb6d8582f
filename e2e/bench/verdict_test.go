package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// Both sides of the verdict rows must decide the same, or they are no comparison.
func TestTheReferenceDecidesAsTheKernelDoes(t *testing.T) {
	rules, err := compileRules()
	if err != nil {
		t.Fatal(err)
	}
	state := leading()
	var judge microkernel.Judge
	for name, break1 := range map[string]func(*microkernel.Submitted){
		"nothing":            func(*microkernel.Submitted) {},
		"id":                 func(ev *microkernel.Submitted) { ev.Program.ID = "P" },
		"step twice":         func(ev *microkernel.Submitted) { ev.Program.Steps[9].ID = "t1" },
		"after nobody":       func(ev *microkernel.Submitted) { ev.Program.Steps[9].After = []isa.StepID{"x"} },
		"unknown service":    func(ev *microkernel.Submitted) { ev.View.Services = ev.View.Services[:3] },
		"protected":          func(ev *microkernel.Submitted) { ev.View.Services[0].Protected = true },
		"share":              func(ev *microkernel.Submitted) { drain(ev, func(d *isa.Drain) { d.Share = 101 }) },
		"half a drain":       func(ev *microkernel.Submitted) { drain(ev, func(d *isa.Drain) { d.Share = 50 }) },
		"lease":              func(ev *microkernel.Submitted) { drain(ev, func(d *isa.Drain) { d.Lease = time.Hour }) },
		"never given back":   func(ev *microkernel.Submitted) { ev.Program.Steps = slices.Delete(ev.Program.Steps, 8, 9) },
		"given back early":   func(ev *microkernel.Submitted) { ev.Program.Steps[8].After = []isa.StepID{"d3"} },
		"restart order":      func(ev *microkernel.Submitted) { ev.Program.Steps[4].After = []isa.StepID{"d3"} },
		"drain order":        func(ev *microkernel.Submitted) { ev.Program.Steps[1].After = nil },
		"part of the set":    func(ev *microkernel.Submitted) { ev.View.RestartSet = append(ev.View.RestartSet, "shop/x") },
		"no drain to be had": func(ev *microkernel.Submitted) { ev.View.Services[1].Capability.Drain = false },
		"no hold to be had":  func(ev *microkernel.Submitted) { ev.View.Services[1].Capability.Hold = false },
		"callers wait less":  func(ev *microkernel.Submitted) { ev.View.Services[0].CallerDeadline = time.Second },
		"limit too low": func(ev *microkernel.Submitted) {
			ev.Program.Steps[9].Action = isa.RateLimit{Target: isa.Target{Service: "shop/s0003"}, PerSecond: 1, Burst: 80}
		},
	} {
		ev, err := proposal(0)
		if err != nil {
			t.Fatal(err)
		}
		break1(&ev)
		want := judge.Verdict(&state, &ev)
		got := rules.admit(celInput(&ev))
		if (got == nil) != (want.Outcome == microkernel.Admit) || (got == nil) != (name == "nothing") {
			t.Errorf("%s: cel says %v, the kernel %+v", name, got, want)
		}
		if got != nil && !strings.HasPrefix(got.Error(), "rule ") {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// drain changes the first step.
func drain(ev *microkernel.Submitted, change func(*isa.Drain)) {
	d := ev.Program.Steps[0].Action.(isa.Drain)
	d.Streams = mesh.StreamsWait
	change(&d)
	ev.Program.Steps[0].Action = d
}

// Plans that overlap must be served one after the other: the bound says so, and the kernel
// cannot be faster.
func TestNoMakespanIsBelowItsBound(t *testing.T) {
	groups := newGroups(rand.New(rand.NewPCG(1, 16)))
	for name, plans := range map[string][]int{"one": {3}, "disjoint": {0, 1, 2}, "overlapping": {0, 1, 1, 1}} {
		got, err := together(groups, plans)
		if err != nil || got.Ours < got.Reference || got.Ours > 1.25*got.Reference {
			t.Errorf("%s: %v s, the bound is %v s: %v", name, got.Ours, got.Reference, err)
		}
	}
}
