package harm

import (
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

// drifting is real traffic's nuisance: the median wanders (AR(1)) by a share sigma.
type drifting struct {
	load
	sigma, level float64
}

func (d *drifting) tick(rng *rand.Rand) Tick {
	d.level = 0.9*d.level + math.Sqrt(1-0.81)*d.sigma*rng.NormFloat64()
	l := d.load
	l.median = time.Duration(float64(l.median) * math.Exp(d.level))
	return l.noisy(rng)
}

// tailed makes a share of the requests so many times as long.
func tailed(tick Tick, rng *rand.Rand, share, factor float64) Tick {
	out := &topology.Histogram{}
	tick.Hist.Each(func(middle time.Duration, n uint64) {
		for range n {
			if rng.Float64() < share {
				middle := time.Duration(factor * float64(middle))
				out.Add(middle)
				continue
			}
			out.Add(middle)
		}
	})
	tick.Hist = out
	return tick
}

// calmly returns a subject after a minute of traffic in which nothing has disturbed it.
func calmly(of func() Tick) Subject {
	s := Baseline(Subject{Service: "shop/cart", Calm: Grace}, History{Ticks: ticks(60, func(int) Tick { return of() }), Onset: 60}, 5)
	return s
}

// The figures that the evaluation is held to, with drift and after a real baseline.
func TestTheBankIsQuick(t *testing.T) {
	for _, test := range []struct {
		name   string
		rate   int
		harm   func(*drifting, *rand.Rand) Tick
		within int // seconds, median
	}{
		{"p99 x2", 200, longer(2), 4},
		{"p99 x2", 20, longer(2), 8},
		{"errors 5 %", 200, failing(0.05), 3},
		{"errors 5 %", 20, failing(0.05), 7},
		{"5 % of requests x5", 200, func(d *drifting, rng *rand.Rand) Tick { return tailed(d.tick(rng), rng, 0.05, 5) }, 16},
	} {
		var delays []int
		for seed := range uint64(21) {
			rng := rand.New(rand.NewPCG(seed, 17))
			d := &drifting{load: load{test.rate, 100 * time.Millisecond, 0.0005}, sigma: 0.05}
			subject := calmly(func() Tick { return d.tick(rng) })
			_, second := run(t, subject, 0, func(int) Report { return Report{Tick: test.harm(d, rng)} })
			if second == 0 {
				second = math.MaxInt
			}
			delays = append(delays, second)
		}
		slices.Sort(delays)
		if median := delays[len(delays)/2]; median > test.within {
			t.Errorf("%s at %d rps: after %d s (median), want %d", test.name, test.rate, median, test.within)
		}
	}
}

func longer(factor float64) func(*drifting, *rand.Rand) Tick {
	return func(d *drifting, rng *rand.Rand) Tick {
		slow := *d
		slow.median = time.Duration(factor * float64(d.median))
		tick := slow.tick(rng)
		d.level = slow.level
		return tick
	}
}

func failing(share float64) func(*drifting, *rand.Rand) Tick {
	return func(d *drifting, rng *rand.Rand) Tick {
		d.errors = share
		return d.tick(rng)
	}
}

// No trigger in a family of services that drift, over the time for which it is promised.
func TestTheBankIsQuietOverItsFamily(t *testing.T) {
	const trials, family = 12, 4
	for seed := range uint64(trials) {
		rng := rand.New(rand.NewPCG(seed, 23))
		var services []*drifting
		var subjects []Subject
		for i := range family {
			d := &drifting{load: load{25 * (1 + i), time.Duration(50*(i+1)) * time.Millisecond, 0.0005}, sigma: 0.08}
			services = append(services, d)
			subjects = append(subjects, calmly(func() Tick { return d.tick(rng) }))
		}
		trial := NewTrial(subjects, Settings{Window: 5})
		for second := 1; second <= 300; second++ {
			reports := make([]Report, family)
			for i, d := range services {
				reports[i] = Report{Tick: d.tick(rng)}
			}
			verdict, fallen := trial.Next(reports)
			if !fallen {
				continue
			}
			if !strings.HasPrefix(verdict.Evidence, "for ") {
				t.Errorf("seed %d, second %d: %s at %s", seed, second, verdict.Evidence, verdict.Service)
			}
			break // the label of record may be reached by drift alone
		}
	}
}

func TestWithoutACalmBeginningLatencyHasItsGrace(t *testing.T) {
	normal, slow := load{200, 200 * time.Millisecond, 0}, load{200, 400 * time.Millisecond, 0}
	history := History{Ticks: ticks(60, normal.exact), Onset: 60}
	for calm, earliest := range map[int]int{0: 8, 3: 5, Grace: 3} {
		subject := Baseline(Subject{Service: "shop/cart", Calm: calm}, history, 5)
		verdict, second := run(t, subject, 0, report(slow))
		if verdict.Label != microkernel.Harm || second < earliest || second > earliest+2 {
			t.Errorf("calm for %d s: %q in second %d, want it in second %d", calm, verdict.Label, second, earliest)
		}
	}
}

func TestTheRankTestMindsTheObjective(t *testing.T) {
	normal, slow := load{200, 200 * time.Millisecond, 0}, load{200, 400 * time.Millisecond, 0}
	for objective, want := range map[time.Duration]microkernel.HarmLabel{
		5 * time.Second: microkernel.Clean, // slower, but as promised
		time.Second:     microkernel.Harm,
		0:               microkernel.Harm,
	} {
		subject := Subject{Service: "shop/cart", Calm: Grace, Objective: mesh.Objective{P99: objective}}
		subject = Baseline(subject, History{Ticks: ticks(60, normal.exact), Onset: 60}, 5)
		if verdict, second := run(t, subject, 60, report(slow)); verdict.Label != want {
			t.Errorf("objective %v: %q in second %d (%s), want %q", objective, verdict.Label, second, verdict.Evidence, want)
		}
	}
}
