package symptom

import (
	"math"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/topology"
)

// busy has requests of which all take latency but every fiftieth, which takes four times as long.
func busy(requests int, latency time.Duration, errors uint64) topology.Tick {
	t := topology.Tick{Requests: uint64(requests), Errors: errors, Hist: &topology.Histogram{}}
	for i := range requests {
		if i%50 == 49 {
			t.Hist.Add(4 * latency)
			continue
		}
		t.Hist.Add(latency)
	}
	return t
}

func seconds(n int, of func(int) topology.Tick) []topology.Tick {
	out := make([]topology.Tick, n)
	for i := range out {
		out[i] = of(i)
	}
	return out
}

func TestSuggest(t *testing.T) {
	for _, test := range []struct {
		name     string
		ticks    []topology.Tick
		p99      time.Duration
		errors   float64
		breached int
	}{
		{"steady", seconds(300, func(int) topology.Tick { return busy(100, 10*time.Millisecond, 0) }), 51 * time.Millisecond, 0.001, 0},
		{"some fail", seconds(300, func(int) topology.Tick { return busy(100, 10*time.Millisecond, 1) }), 51 * time.Millisecond, 0.022, 0},
		{"a minute of ten is slow", seconds(600, func(i int) topology.Tick {
			if i < 3 {
				return busy(100, time.Second, 50)
			}
			return busy(100, 10*time.Millisecond, 0)
		}), 51 * time.Millisecond, 0.006, 1},
		{"few requests", seconds(600, func(int) topology.Tick { return busy(2, 10*time.Millisecond, 0) }), 0, 0, 0},
		{"a short past", seconds(60, func(int) topology.Tick { return busy(100, 10*time.Millisecond, 0) }), 0, 0, 0},
		{"enough, in wide windows", seconds(600, func(int) topology.Tick { return busy(5, 10*time.Millisecond, 0) }), 13 * time.Millisecond, 0.002, 0},
		{"nothing", nil, 0, 0, 0},
	} {
		got := Suggest(test.ticks)
		if got.Objective.P99 != test.p99 || math.Abs(got.Objective.Errors-test.errors) > 1e-9 || got.Breached != test.breached {
			t.Errorf("%s: %+v, want p99 %v, errors %v, %d breached", test.name, got, test.p99, test.errors, test.breached)
		}
	}
}

func TestRoundUp(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		0: time.Millisecond, 300 * time.Microsecond: time.Millisecond, 42*time.Millisecond + 1: 43 * time.Millisecond,
		100 * time.Millisecond: 100 * time.Millisecond, 101 * time.Millisecond: 110 * time.Millisecond, 1234 * time.Millisecond: 1300 * time.Millisecond,
	} {
		if got := roundUp(d); got != want {
			t.Errorf("%v becomes %v, want %v", d, got, want)
		}
	}
}
