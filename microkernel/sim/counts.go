package sim

import (
	"maps"

	"github.com/sluicemesh/sluice/microkernel"
)

// Counts say what a run came across; a zero among those that must be met fails Main.
type Counts struct {
	Crashes       int
	DoubleCrashes int
	Plans         map[microkernel.Phase]int
	Rejected      map[string]int // by code, throttled and held ones too
	Faults        map[string]int
	Phases        map[string]int // phases that plans were seen in
	CrashPhases   map[string]int // phases of plans that were open at a crash
	Invariants    map[string]int // evaluations
	Effects       map[string]int
	Principals    map[string]int
}

func newCounts() Counts {
	return Counts{
		Plans: map[microkernel.Phase]int{}, Rejected: map[string]int{}, Faults: map[string]int{}, Phases: map[string]int{},
		CrashPhases: map[string]int{}, Invariants: map[string]int{}, Effects: map[string]int{}, Principals: map[string]int{},
	}
}

// event counts what one step of the kernel shows.
func (c *Counts) event(s *microkernel.State, ev microkernel.Event, effects []microkernel.Effect) {
	if submitted, ok := ev.(microkernel.Submitted); ok {
		c.Principals[submitted.By.Name]++
	}
	for _, e := range effects {
		switch e := e.(type) {
		case microkernel.Answer:
			if e.Verdict.Code != "" {
				c.Rejected[string(e.Verdict.Code)]++
			}
			if r, found := s.Record(e.Plan); found {
				c.Phases[string(r.Phase)]++
			}
		case microkernel.Finish:
			c.Phases[string(e.Phase)]++
			c.Plans[e.Phase]++
		case microkernel.Watch:
			if e.For > 0 {
				c.Phases[string(microkernel.Verifying)]++
			} else {
				c.Phases[string(microkernel.Running)]++
			}
		case microkernel.Withdraw:
			if r, found := s.Record(e.Plan); found {
				c.Phases[string(r.Phase)]++
			}
		}
		c.Effects[effectName(e)]++
	}
}

func (c *Counts) crashPhases(s *microkernel.State) {
	for _, r := range s.OpenRecords() {
		if !r.Phase.Final() {
			c.CrashPhases[string(r.Phase)]++
		}
	}
}

// add adds what another run came across.
func (c *Counts) add(o *Counts) {
	c.Crashes += o.Crashes
	c.DoubleCrashes += o.DoubleCrashes
	for phase, n := range o.Plans {
		c.Plans[phase] += n
	}
	for _, pair := range []struct{ to, from map[string]int }{
		{c.Rejected, o.Rejected},
		{c.Faults, o.Faults},
		{c.Phases, o.Phases},
		{c.CrashPhases, o.CrashPhases},
		{c.Invariants, o.Invariants},
		{c.Effects, o.Effects},
		{c.Principals, o.Principals},
	} {
		for key := range maps.Keys(pair.from) {
			pair.to[key] += pair.from[key]
		}
	}
}
