package topology

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

func TestQuantilesAreWithinOneSixtyFourth(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var h Histogram
		durations := make([]time.Duration, 1000)
		for i := range durations {
			durations[i] = time.Duration(math.Exp(rng.NormFloat64()*2+15) + 100_000)
			h.Add(durations[i])
		}
		slices.Sort(durations)
		for _, q := range []float64{0, 0.5, 0.9, 0.99, 1} {
			want := durations[min(int(q*1000), 999)]
			got := h.Quantile(q)
			if off := math.Abs(float64(got-want)) / float64(want); off > 1.0/64+1e-9 {
				t.Errorf("seed %d: quantile %v is %s, want %s: off by %.4f", seed, q, got, want, off)
			}
		}
	}
}

func TestHistogramTakesAnyDuration(t *testing.T) {
	var h, other Histogram
	for _, d := range []time.Duration{math.MinInt64, -1, 0, 1, 1023, 1024, time.Hour, math.MaxInt64} {
		h.Add(d)
	}
	other.Merge(&h)
	other.Merge(&h)
	if h.Count() != 8 || other.Count() != 16 {
		t.Errorf("counts %d and %d, want 8 and 16", h.Count(), other.Count())
	}
	if got := h.Quantile(1); got < 135*time.Second || got > 138*time.Second {
		t.Errorf("longest is %s, want about 137 s", got)
	}
	if got := h.Above(time.Minute); got != 2 {
		t.Errorf("%d above a minute, want 2", got)
	}
	for bucket := range uint16(bucketCount) {
		if back := bucketOf(middle(bucket)); back != bucket {
			t.Fatalf("middle of bucket %d is in bucket %d", bucket, back)
		}
	}
}

func TestHistogramAddDoesNotAllocate(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Add(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestUpperBoundEqualsGonums(t *testing.T) {
	for _, c := range []struct{ hits, n uint64 }{{0, 1}, {0, 300}, {1, 10}, {3, 100}, {5, 100_000}, {999, 1000}, {50, 100}, {400, 10_000_000}} {
		want := distuv.Beta{Alpha: float64(c.hits) + 1, Beta: float64(c.n - c.hits)}.Quantile(0.95)
		if got := UpperBound(c.hits, c.n, 0.95); math.Abs(got-want) > 1e-6*want+1e-12 {
			t.Errorf("bound of %d in %d is %.9g, want %.9g", c.hits, c.n, got, want)
		}
	}
	if got := UpperBound(0, 0, 0.95); got != 1 {
		t.Errorf("bound without trials is %v, want 1", got)
	}
}

func BenchmarkHistogramAdd(b *testing.B) {
	var h Histogram
	d := time.Duration(1)
	for b.Loop() {
		h.Add(d)
		d = d*5/4 + 1
		if d > time.Minute {
			d = 1
		}
	}
}
