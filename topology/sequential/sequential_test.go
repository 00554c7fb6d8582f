package sequential

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// alarmed returns the first of n seconds after which add reports an alarm, 0 if none.
func alarmed(n int, add func() bool) int {
	for second := 1; second <= n; second++ {
		if add() {
			return second
		}
	}
	return 0
}

func draws(rng *rand.Rand, n int, p float64) uint64 {
	bad := uint64(0)
	for range n {
		if rng.Float64() < p {
			bad++
		}
	}
	return bad
}

// latencies are log-normal (sigma 0.6) about median.
func latencies(rng *rand.Rand, n int, median time.Duration) *topology.Histogram {
	h := &topology.Histogram{}
	for range n {
		h.Add(time.Duration(float64(median) * math.Exp(0.6*rng.NormFloat64())))
	}
	return h
}

// The promise itself: at the worst case that counts as normal no more alarms than alpha.
func TestFalseAlarmsStayBelowAlpha(t *testing.T) {
	const alpha, trials = 0.05, 400
	most := int(alpha*trials + 3*math.Sqrt(alpha*trials))
	settings := Settings{Alpha: alpha}
	for _, rate := range []int{5, 50} {
		for name, begin := range map[string]func(*rand.Rand) func() bool{
			"share": func(rng *rand.Rand) func() bool {
				test := NewShare(0.01, []float64{0.03, 0.1}, settings)
				return func() bool { return test.Add(draws(rng, rate, 0.01), uint64(rate)) }
			},
			"rank": func(rng *rand.Rand) func() bool {
				test := NewRank(NewLadder(latencies(rng, 20_000, time.Millisecond*100)), RankSettings{Settings: settings})
				return func() bool { return test.Add(latencies(rng, rate, time.Millisecond*100)) }
			},
		} {
			t.Run(fmt.Sprintf("%s at %d a second", name, rate), func(t *testing.T) {
				alarms, runs := 0, trials
				if name == "rank" {
					runs = trials / 4 // dearer
				}
				for seed := range uint64(runs) {
					if alarmed(Horizon, begin(rand.New(rand.NewPCG(seed, uint64(rate))))) > 0 {
						alarms++
					}
				}
				if alarms*trials > most*runs {
					t.Errorf("%d of %d trials of %d s alarmed, %v is promised", alarms, runs, Horizon, alpha)
				}
			})
		}
	}
}

func TestDelays(t *testing.T) {
	settings := Settings{Alpha: Family(0.01, 3)}
	ladder := NewLadder(latencies(rand.New(rand.NewPCG(1, 1)), 12_000, 100*time.Millisecond))
	errors := func(rng *rand.Rand, rate int, p float64) int {
		test := NewShare(0.001, []float64{0.01, 0.05}, settings)
		return alarmed(Horizon, func() bool { return test.Add(draws(rng, rate, p), uint64(rate)) })
	}
	longer := func(rng *rand.Rand, rate int, factor float64) int {
		test := NewRank(ladder, RankSettings{Settings: settings, Tolerance: 0.05, Drift: 0.05})
		median := time.Duration(factor * 100 * float64(time.Millisecond))
		return alarmed(Horizon, func() bool { return test.Add(latencies(rng, rate, median)) })
	}
	for _, test := range []struct {
		name   string
		of     func(*rand.Rand, int, float64) int
		rate   int
		size   float64
		within int // seconds, median
	}{
		{"errors 5 %", errors, 200, 0.05, 3},
		{"errors 5 %", errors, 20, 0.05, 7},
		{"errors 1 %", errors, 200, 0.01, 9},
		{"latency x2", longer, 200, 2, 3},
		{"latency x2", longer, 20, 2, 4},
		{"latency x1.3", longer, 200, 1.3, 20},
	} {
		var delays []int
		for seed := range uint64(21) {
			delay := test.of(rand.New(rand.NewPCG(seed, 3)), test.rate, test.size)
			if delay == 0 {
				delay = math.MaxInt
			}
			delays = append(delays, delay)
		}
		slices.Sort(delays)
		if median := delays[len(delays)/2]; median > test.within {
			t.Errorf("%s at %d a second: after %d s (median), want %d", test.name, test.rate, median, test.within)
		}
		if delays[0] < ticksToAlarm {
			t.Errorf("%s at %d a second: after %d s, one or two seconds must never do", test.name, test.rate, delays[0])
		}
	}
}

func TestOneBadSecondIsNeverEnough(t *testing.T) {
	share := NewShare(0.001, []float64{0.01, 0.05}, Settings{Alpha: 0.01})
	ladder := NewLadder(latencies(rand.New(rand.NewPCG(1, 2)), 5000, 100*time.Millisecond))
	rank := NewRank(ladder, RankSettings{Settings: Settings{Alpha: 0.01}})
	rng := rand.New(rand.NewPCG(5, 5))
	for second := range 60 {
		bad, median := uint64(0), 100*time.Millisecond
		if second == 30 {
			bad, median = 1000, 10*time.Second
		}
		if share.Add(bad, 1000) || rank.Add(latencies(rng, 1000, median)) {
			t.Fatalf("alarm in second %d", second)
		}
	}
}

// What was counted is forgotten again once all is well.
func TestEvidenceFades(t *testing.T) {
	test := NewShare(0.001, []float64{0.05}, Settings{Alpha: 0.01})
	if alarmed(10, func() bool { return test.Add(50, 100) }) != ticksToAlarm {
		t.Error("half of all requests failed, and no alarm after three seconds")
	}
	if calm := alarmed(10, func() bool { return !test.Add(0, 100) }); calm == 0 || calm > 3 {
		t.Errorf("the alarm is off after %d s", calm)
	}
	test.Add(50, 100)
	test.Forget()
	if got := test.log(); !math.IsInf(got, -1) {
		t.Errorf("%v is left of what was forgotten", got)
	}
}

func TestWhatCannotBeTestedNeverAlarms(t *testing.T) {
	for name, test := range map[string]Share{
		"zero":              {},
		"nothing is a rise": NewShare(0.5, []float64{0.1, 0.5, 1}, Settings{Alpha: 0.01}),
	} {
		if alarmed(100, func() bool { return test.Add(10, 10) }) > 0 {
			t.Errorf("%s: alarm", name)
		}
		test.Forget()
	}
	for name, ladder := range map[string]Ladder{"none": nil, "short": {1, 2}, "falling": fallingLadder()} {
		test := NewRank(ladder, RankSettings{Settings: Settings{Alpha: 0.01}})
		h := &topology.Histogram{}
		h.Add(time.Hour)
		if alarmed(100, func() bool { return test.Add(h) }) > 0 {
			t.Errorf("ladder that is %s: alarm", name)
		}
	}
}

func fallingLadder() Ladder {
	l := make(Ladder, LadderSteps)
	for i := range l {
		l[i] = time.Duration(LadderSteps-i) * time.Second
	}
	return l
}

func TestLadder(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	base, twice := latencies(rng, 50_000, 100*time.Millisecond), latencies(rng, 50_000, 200*time.Millisecond)
	constant := &topology.Histogram{}
	constant.AddN(4*time.Millisecond, 1000)
	for _, test := range []struct {
		name         string
		of, against  *topology.Histogram
		rank, factor float64
	}{
		{"itself", base, base, 0.5, 1},
		{"twice as long", twice, base, 0.793, 2}, // the chance is Phi(ln 2 / (0.6 sqrt 2))
		{"half as long", base, twice, 0.207, 0.5},
		{"all alike", constant, constant, 0.5, 1},
		{"nothing", &topology.Histogram{}, base, 0.5, 1},
	} {
		ladder := NewLadder(test.against)
		if got := ladder.Rank(test.of); math.Abs(got-test.rank) > 0.01 {
			t.Errorf("%s: rank %.3f, want %.3f", test.name, got, test.rank)
		}
		if got := ladder.Factor(test.of); math.Abs(got/test.factor-1) > 0.05 {
			t.Errorf("%s: factor %.3f, want %.3f", test.name, got, test.factor)
		}
	}
	if NewLadder(nil) != nil || NewLadder(&topology.Histogram{}) != nil {
		t.Error("a ladder of nothing")
	}
	if got := Ladder(nil).Factor(base); got != 1 {
		t.Errorf("factor %v without a ladder", got)
	}
}
