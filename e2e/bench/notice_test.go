package main

import (
	"testing"
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// The reference speaks when its authors' does: after 5 s of grace, the first full window
// and 30 s of them.
func TestThePapersRuleTakes39Seconds(t *testing.T) {
	second := func(latency time.Duration, errors uint64) topology.Tick {
		hist := &topology.Histogram{}
		hist.AddN(latency, 200)
		return topology.Tick{Requests: 200, Errors: errors, Hist: hist}
	}
	for name, test := range map[string]struct {
		bad  func(n int) topology.Tick
		want int // second, 0 = never
	}{
		"slower":            {func(int) topology.Tick { return second(200*time.Millisecond, 0) }, 39},
		"failing":           {func(int) topology.Tick { return second(100*time.Millisecond, 10) }, 39},
		"as it was":         {func(int) topology.Tick { return second(100*time.Millisecond, 0) }, 0},
		"within the margin": {func(int) topology.Tick { return second(105*time.Millisecond, 0) }, 0},
		"with a break": {func(n int) topology.Tick {
			if n >= 30 && n < 35 {
				return second(100*time.Millisecond, 0)
			}
			return second(200*time.Millisecond, 0)
		}, 64},
	} {
		rule, got := paperRule{}, 0
		for range 60 {
			rule.baseline = append(rule.baseline, second(100*time.Millisecond, 0))
		}
		for n := 1; n <= 100 && got == 0; n++ {
			if rule.add(test.bad(n)) {
				got = n
			}
		}
		if got != test.want {
			t.Errorf("%s: harm in second %d, want %d", name, got, test.want)
		}
	}
}
