package simulate

import (
	"math/rand/v2"
	"slices"

	"github.com/sluicemesh/sluice/topology"
)

// interval is the two-sided 95 % interval of Clopper and Pearson for hits in n trials.
func interval(hits, n int) [2]float64 {
	if n == 0 {
		return [2]float64{0, 1}
	}
	const tail = 0.975
	low := 1 - topology.UpperBound(uint64(n-hits), uint64(n), tail)
	return [2]float64{max(0, low), topology.UpperBound(uint64(hits), uint64(n), tail)}
}

const resamples = 1000

// bootstrap is the 95 % interval of the mean of values, which are resampled by cluster:
// trials of one service are not independent.
func bootstrap(values []float64, clusters []int32, seed uint64) [2]float64 {
	if len(values) == 0 {
		return [2]float64{}
	}
	type sum struct {
		total float64
		n     int
	}
	place, sums := map[int32]int{}, []sum{}
	for i, c := range clusters {
		at, known := place[c]
		if !known {
			at = len(sums)
			place[c], sums = at, append(sums, sum{})
		}
		sums[at].total += values[i]
		sums[at].n++
	}
	rng := rand.New(rand.NewPCG(seed, 0xb007))
	means := make([]float64, resamples)
	for k := range means {
		var all sum
		for range sums {
			one := sums[rng.IntN(len(sums))]
			all.total += one.total
			all.n += one.n
		}
		means[k] = all.total / float64(all.n)
	}
	slices.Sort(means)
	return [2]float64{means[resamples*25/1000], means[resamples*975/1000-1]}
}

// quantileOf returns the p-quantile of sorted values, 0 of none.
func quantileOf(sorted []int, p float64) int {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

func mean(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}

func share(part, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(part) / float64(of)
}
