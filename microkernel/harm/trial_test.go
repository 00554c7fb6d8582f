package harm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// load is steady traffic: latencies are log-normal (sigma 0.6) around median.
type load struct {
	rate   int
	median time.Duration
	errors float64
}

// exact returns a tick whose latencies are the quantiles of the distribution, so that it
// has no noise; errors are spread evenly over the seconds.
func (l load) exact(second int) Tick {
	t := Tick{Requests: uint64(l.rate), Hist: &topology.Histogram{}}
	t.Errors = uint64(float64(l.rate*(second+1))*l.errors) - uint64(float64(l.rate*second)*l.errors)
	for i := range l.rate {
		t.Hist.Add(l.latency((float64(i) + 0.5) / float64(l.rate)))
	}
	return t
}

// noisy returns a random tick.
func (l load) noisy(rng *rand.Rand) Tick {
	t := Tick{Hist: &topology.Histogram{}}
	for range l.rate {
		t.Requests++
		if rng.Float64() < l.errors {
			t.Errors++
		}
		t.Hist.Add(l.latency(rng.Float64()))
	}
	return t
}

func (l load) latency(quantile float64) time.Duration {
	z := math.Sqrt2 * math.Erfinv(2*quantile-1)
	return time.Duration(float64(l.median) * math.Exp(0.6*z))
}

func ticks(n int, of func(int) Tick) []Tick {
	out := make([]Tick, n)
	for i := range out {
		out[i] = of(i)
	}
	return out
}

// run feeds a trial of one subject and returns the verdict and the second it fell in.
func run(t *testing.T, subject Subject, length int, of func(second int) Report) (microkernel.HarmVerdict, int) {
	t.Helper()
	trial := NewTrial([]Subject{subject}, Settings{Window: 5, Length: length})
	for second := 1; second <= 400; second++ {
		if verdict, fallen := trial.Next([]Report{of(second)}); fallen {
			return verdict, second
		}
	}
	return microkernel.HarmVerdict{}, 0
}

func report(l load) func(int) Report {
	return func(second int) Report { return Report{Tick: l.exact(second)} }
}

// before returns a subject that had the load l for a minute.
func before(l load) Subject {
	return Subject{Service: "shop/cart", Before: Measure(ticks(60, l.exact))}
}

func TestTheVerdictOfATrial(t *testing.T) {
	normal := load{200, 10 * time.Millisecond, 0.0005}
	broken := load{200, 10 * time.Millisecond, 0.30}
	sick := before(broken)
	sick.Broken, sick.Healthy = true, before(normal).Before
	checked := before(normal)
	checked.Checked = true
	disturbed := before(normal)
	disturbed.Disturbed = true
	promised := before(normal)
	promised.Objective = mesh.Objective{P99: time.Second, Errors: 0.10}
	slow := load{200, 200 * time.Millisecond, 0.0005} // far above the floors
	slowed := before(slow)
	slowed.Disturbed = true
	strict := before(normal)
	strict.Objective = mesh.Objective{P99: 50 * time.Millisecond, Errors: 0.001}
	strict.Checked = true
	for _, test := range []struct {
		name      string
		subject   Subject
		length    int
		reports   func(int) Report
		want      microkernel.HarmLabel
		from, til int // second in which it must fall
	}{
		{"nothing happens", before(normal), 30, report(normal), microkernel.Clean, 30, 30},
		{"nothing happens, no length", before(normal), 0, report(normal), "", 0, 0},
		{"errors rise to 5 %", before(normal), 0, report(load{200, 10 * time.Millisecond, 0.05}), microkernel.Harm, 1, 5},
		{"errors rise to 2 %", before(normal), 0, report(load{200, 10 * time.Millisecond, 0.02}), microkernel.Harm, 2, 15},
		{"errors rise by less than the floor", before(normal), 60, report(load{200, 10 * time.Millisecond, 0.008}),
			microkernel.Clean, 60, 60},
		{"errors rise by as much, against an objective", strict, 60, report(load{200, 10 * time.Millisecond, 0.008}),
			microkernel.Harm, 2, 20},
		{"all fail", before(normal), 0, report(load{200, 10 * time.Millisecond, 1}), microkernel.Harm, 1, 4},
		{"latency doubles", before(slow), 0, report(load{200, 400 * time.Millisecond, 0}), microkernel.Harm, 6, 10},
		{"latency rises by half", before(slow), 30, report(load{200, 300 * time.Millisecond, 0}), microkernel.Harm, 36, 36},
		{"latency rises by a fifth", before(slow), 0, report(load{200, 240 * time.Millisecond, 0}), microkernel.Harm, 36, 36},
		{"latency rises within the margin", before(slow), 60, report(load{200, 210 * time.Millisecond, 0}),
			microkernel.Clean, 60, 60},
		{"latency rises by less than the floor", checked, 60, report(load{200, 20 * time.Millisecond, 0}),
			microkernel.Clean, 60, 60},
		{"latency rises by as much, against an objective", strict, 60, report(load{200, 20 * time.Millisecond, 0}),
			microkernel.Harm, 6, 10},
		{"in breach for the last seconds of the watch", strict, 30, func(s int) Report {
			return report(load{200, 10 * time.Millisecond * time.Duration(1+s/29), 0})(s)
		}, microkernel.Clean, 30, 30},
		{"slow but within the objective", promised, 60, report(load{200, 30 * time.Millisecond, 0.05}),
			microkernel.Clean, 60, 60},
		{"slow as expected, for too long", slowed, 30, report(load{200, 240 * time.Millisecond, 0}),
			microkernel.Harm, 36, 36},
		{"slow as expected for a while", disturbed, 30, func(s int) Report {
			return Report{Tick: load{200, 10 * time.Millisecond * time.Duration(1+max(0, 20-s)), 0}.exact(s)}
		}, microkernel.Clean, 30, 30},
		{"all are shed on purpose", before(normal), 60, func(s int) Report {
			if s < 30 {
				return Report{Tick: load{200, time.Millisecond, 1}.exact(s), Shed: 200}
			}
			return Report{Tick: normal.exact(s)}
		}, microkernel.Clean, 60, 60},
		{"more fail than are shed on purpose", before(normal), 60, func(s int) Report {
			return Report{Tick: load{200, 10 * time.Millisecond, 0.5}.exact(s), Shed: 60}
		}, microkernel.Harm, 1, 5},
		{"slow until after a hold", before(slow), 60, func(s int) Report {
			held := s >= 10 && s < 14
			if s >= 8 && s < 18 { // requests were held, and their backlog follows
				return Report{Tick: load{200, 3 * time.Second, 0}.exact(s), Disturbed: held}
			}
			return Report{Tick: slow.exact(s), Disturbed: held}
		}, microkernel.Clean, 60, 60},
		{"slow for good after a hold", before(slow), 60, func(s int) Report {
			return Report{Tick: load{200, 500 * time.Millisecond, 0}.exact(s), Disturbed: s < 14}
		}, microkernel.Harm, 19, 22},
		{"expected to be slow, but it fails", disturbed, 30, report(load{200, 10 * time.Millisecond, 0.05}),
			microkernel.Harm, 1, 5},
		{"broken and stays so", sick, 10, report(broken), microkernel.NotRecovered, 35, 35},
		{"broken and gets well", sick, 10, report(normal), microkernel.Clean, 10, 10},
		{"broken and gets well late", sick, 10, func(s int) Report {
			if s < 15 {
				return report(broken)(s)
			}
			return report(normal)(s)
		}, microkernel.Clean, 16, 22},
		{"broken and gets worse", sick, 60, report(load{200, 10 * time.Millisecond, 0.40}), microkernel.Harm, 36, 36},
		{"a blip of one second", before(normal), 30, func(s int) Report {
			if s == 12 {
				return Report{Tick: load{200, 10 * time.Millisecond, 0.04}.exact(s)}
			}
			return report(normal)(s)
		}, microkernel.Clean, 30, 30},
		{"no request", checked, 10, report(load{}), microkernel.Inconclusive, 10, 10},
		{"few requests", checked, 10, report(load{rate: 2, median: time.Millisecond}), microkernel.Inconclusive, 35, 35},
		{"enough requests late", checked, 10, report(load{rate: 8, median: 9 * time.Millisecond}), microkernel.Clean, 13, 13},
		{"reports stop", before(normal), 60, func(s int) Report {
			return Report{Tick: normal.exact(s), Missing: s > 10}
		}, microkernel.Harm, 15, 15},
		{"there never was a report", before(normal), 20, func(int) Report { return Report{Missing: true} },
			microkernel.Inconclusive, 20, 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			verdict, second := run(t, test.subject, test.length, test.reports)
			if verdict.Label != test.want || second < test.from || second > test.til {
				t.Errorf("%q in second %d (%s), want %q in %d to %d",
					verdict.Label, second, verdict.Evidence, test.want, test.from, test.til)
			}
		})
	}
}

// Strong harm at the figures that the evaluation is held to, and no more false alarms
// than promised on independent requests.
func TestDelayAndFalseAlarms(t *testing.T) {
	for _, rate := range []int{20, 200} {
		normal := load{rate, 100 * time.Millisecond, 0.0005}
		alarms, breaches := 0, 0
		const trials = 40
		for seed := range uint64(trials) {
			rng := rand.New(rand.NewPCG(seed, uint64(rate)))
			subject := Subject{Before: Measure(ticks(60, func(int) Tick { return normal.noisy(rng) }))}
			verdict, _ := run(t, subject, 0, func(int) Report { return Report{Tick: normal.noisy(rng)} })
			switch {
			case strings.HasPrefix(verdict.Evidence, "for "):
				breaches++
			case verdict.Label == microkernel.Harm:
				alarms++
			}
		}
		if alarms > 0 {
			t.Errorf("%d rps: the trigger fired in %d of %d trials of 400 s without any harm", rate, alarms, trials)
		}
		if breaches > 6 { // the label of record is as it is defined: 10 % above a baseline of 60 s is soon reached
			t.Errorf("%d rps: %d of %d trials of 400 s without any harm are labelled so", rate, breaches, trials)
		}
		for name, bad := range map[string]struct {
			load   load
			within int // seconds, median
		}{
			"errors 5 %": {load{rate, normal.median, 0.05}, 8},
			"p99 x2":     {load{rate, 2 * normal.median, 0.0005}, map[int]int{20: 20, 200: 9}[rate]},
		} {
			var delays []int
			for seed := range uint64(11) {
				rng := rand.New(rand.NewPCG(seed, 7))
				subject := Subject{Before: Measure(ticks(60, func(int) Tick { return normal.noisy(rng) }))}
				_, second := run(t, subject, 0, func(int) Report { return Report{Tick: bad.load.noisy(rng)} })
				if second == 0 {
					second = math.MaxInt
				}
				delays = append(delays, second)
			}
			slices.Sort(delays)
			if median := delays[len(delays)/2]; median > bad.within {
				t.Errorf("%s at %d rps: noticed after %d s (median), want %d", name, rate, median, bad.within)
			}
		}
	}
}

func TestBaselines(t *testing.T) {
	normal, bad := load{50, 10 * time.Millisecond, 0}, load{50, 10 * time.Millisecond, 0.5}
	turns := func(at int) []Tick {
		return ticks(90, func(s int) Tick {
			if s < at {
				return normal.exact(s)
			}
			return bad.exact(s)
		})
	}
	objective := mesh.Objective{Errors: 0.05}
	for _, test := range []struct {
		name    string
		subject Subject
		history History
		broken  bool
		before  float64 // error share
		healthy bool    // the level before onset is known
	}{
		{"healthy", Subject{Objective: objective}, History{turns(90), 90}, false, 0, false},
		{"a symptom with its onset", Subject{Objective: objective}, History{turns(80), 80}, true, 0.5, true},
		{"a symptom since when is unknown", Subject{Broken: true}, History{turns(80), 90}, true, 0.5, true},
		{"objective broken, not yet a symptom", Subject{Objective: objective}, History{turns(87), 90}, true, 0.3, true},
		{"failing without objective", Subject{}, History{turns(87), 90}, true, 0.3, true},
		{"broken for longer than the baseline", Subject{Broken: true}, History{turns(10), 10}, true, 0.5, false},
		{"no history", Subject{}, History{}, false, 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := Baseline(test.subject, test.history, 5)
			if got.Broken != test.broken || math.Abs(got.Before.Errors-test.before) > 0.02 ||
				got.Healthy.Known() != test.healthy {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestBreachNeedsAHundredRequests(t *testing.T) {
	bounds := BoundsOf(mesh.Objective{P99: 50 * time.Millisecond}, Level{Requests: 1000, Errors: 0.01, P99: 10 * time.Millisecond})
	for _, test := range []struct {
		window Level
		breach bool
	}{
		{Level{Requests: 99, Errors: 1}, false},
		{Level{Requests: 100, Errors: 1}, true},
		{Level{Requests: 100, Errors: 0.02}, false},
		{Level{Requests: 100, Errors: 0.03}, true},
		{Level{Requests: 100, P99: 50 * time.Millisecond}, false},
		{Level{Requests: 100, P99: 51 * time.Millisecond}, true},
	} {
		if got := bounds.Breach(test.window); (got != "") != test.breach {
			t.Errorf("Breach(%+v) = %q, want %v", test.window, got, test.breach)
		}
	}
	busy := BoundsOf(mesh.Objective{}, Level{Requests: 1000, P99: 14500 * time.Microsecond})
	if got := busy.Breach(Level{Requests: 1000, P99: 24900 * time.Microsecond}); got != "" {
		t.Errorf("10 ms more without an objective: %q", got)
	}
	if got := BoundsOf(mesh.Objective{}, Level{}).Breach(Level{Requests: 1000, Errors: 1, P99: time.Hour}); got != "" {
		t.Errorf("without objective and baseline: %q", got)
	}
}

func ExampleTrial() {
	normal, slow := load{100, 20 * time.Millisecond, 0}, load{100, 80 * time.Millisecond, 0}
	trial := NewTrial([]Subject{before(normal)}, Settings{Window: 5})
	for second := 1; ; second++ {
		if verdict, fallen := trial.Next([]Report{{Tick: slow.exact(second)}}); fallen {
			fmt.Println(second, verdict.Label, verdict.Service)
			return
		}
	}
	// Output: 8 harm shop/cart
}
