package harm

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// The baseline of a restless service makes its tests more careful, within bounds.
func TestUnrestOfBaselines(t *testing.T) {
	of := func(sigma float64) (drift, dispersion float64) {
		const trials = 20
		for seed := range uint64(trials) {
			rng := rand.New(rand.NewPCG(seed, 41))
			d := &drifting{load: load{200, 100 * time.Millisecond, 0}, sigma: sigma}
			u := calmly(func() Tick { return d.tick(rng) }).Unrest
			drift, dispersion = drift+u.Drift/trials, dispersion+u.Dispersion/trials
		}
		return drift, dispersion
	}
	calm, calmTail := of(0)
	some, _ := of(0.1)
	wild, wildTail := of(0.5)
	if calm > 0.03 || calmTail > 2 {
		t.Errorf("without drift: drift %.3f, dispersion %.2f", calm, calmTail)
	}
	if some < 2*calm || wild < 2*some || wildTail < 5*calmTail {
		t.Errorf("drift %.3f, %.3f, %.3f, dispersion %.2f to %.2f: want it to rise with that of the load", calm, some, wild, calmTail, wildTail)
	}
	for u, want := range map[Unrest]Unrest{
		{}:           leastUnrest(),
		{0.1, 7}:     {0.1, 7},
		{9, 1e9}:     mostUnrest(),
		{-1, -1}:     leastUnrest(),
		{0.01, 0.01}: leastUnrest(),
	} {
		if got := u.within(); got != want {
			t.Errorf("%+v within bounds is %+v, want %+v", u, got, want)
		}
	}
	if got := (Unrest{math.NaN(), math.NaN()}).within(); got != leastUnrest() {
		t.Errorf("no numbers within bounds are %+v", got)
	}
	if got := Baseline(Subject{}, History{}, 5).Unrest; got != (Unrest{}) {
		t.Errorf("unrest of nothing: %+v", got)
	}
}

// A service that was restless before, as one on a machine that is far too busy, gives fewer
// false alarms than it would if its baseline were taken for a calm one.
func TestARestlessBaselineRaisesFewerAlarms(t *testing.T) {
	const trials = 15
	count := func(blind bool) int {
		alarms := 0
		for seed := range uint64(trials) {
			rng := rand.New(rand.NewPCG(seed, 43))
			d := &drifting{load: load{50, 100 * time.Millisecond, 0}, sigma: 0.5}
			subject := calmly(func() Tick { return d.tick(rng) })
			if blind {
				subject.Unrest = Unrest{}
			}
			verdict, _ := run(t, subject, 300, func(int) Report { return Report{Tick: d.tick(rng)} })
			if verdict.Label != "clean" && verdict.Evidence[:4] != "for " {
				alarms++
			}
		}
		return alarms
	}
	minding, blind := count(false), count(true)
	if minding >= blind || blind < trials/2 {
		t.Errorf("%d of %d alarms minding the baseline's unrest, %d without", minding, trials, blind)
	}
}
