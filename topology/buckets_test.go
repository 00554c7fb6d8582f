package topology

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestHistogramOfItsBuckets(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	var h, again Histogram
	for range 5000 {
		h.Add(time.Duration(rng.Int64N(int64(time.Second))) >> rng.IntN(20))
	}
	h.AddN(7*time.Millisecond, 40)
	last := time.Duration(-1)
	h.Each(func(middle time.Duration, n uint64) {
		if middle <= last || n == 0 {
			t.Errorf("bucket %v with %d after %v", middle, n, last)
		}
		last = middle
		again.AddN(middle, n)
	})
	if again != h || h.Count() != 5040 {
		t.Error("the histogram made of the buckets is not the same")
	}
	for _, d := range []time.Duration{-1, 0, 3 * time.Microsecond, 7 * time.Millisecond, time.Second, time.Hour} {
		same := uint64(0)
		h.Each(func(middle time.Duration, n uint64) {
			if bucketOf(middle) == bucketOf(d) {
				same += n
			}
		})
		if h.Below(d)+same+h.Above(d) != h.Count() {
			t.Errorf("%v: %d below, %d beside, %d above of %d", d, h.Below(d), same, h.Above(d), h.Count())
		}
	}
	if (&Histogram{}).Below(time.Second) != 0 {
		t.Error("something is below in an empty histogram")
	}
}
