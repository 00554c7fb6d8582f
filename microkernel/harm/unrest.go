package harm

import (
	"math"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/topology/sequential"
)

// Unrest is how much the seconds of a service vary beyond what independent requests would
// make them, measured in blocks, because a second depends on those before it. The zero
// value says that nothing is known of it.
type Unrest struct {
	Drift      float64 // standard deviation of the mean rank of a second
	Dispersion float64 // of the count of slow requests: variance over that of a binomial count
}

// unrestBlock is the length of a block, in seconds; what lasts longer is not seen whole.
const unrestBlock = 5

// leastUnrest and mostUnrest bound what a baseline can make of the tests: a minute is a
// short time to learn how calm a service is, and no unrest may blind them.
func leastUnrest() Unrest { return Unrest{Drift: rankDrift, Dispersion: tailDispersion} }
func mostUnrest() Unrest  { return Unrest{Drift: 0.5, Dispersion: 50} }

// within returns u within the bounds; what is no number is as if nothing were known.
func (u Unrest) within() Unrest {
	least, most := leastUnrest(), mostUnrest()
	bound := func(value, low, high float64) float64 {
		if math.IsNaN(value) {
			return low
		}
		return min(max(value, low), high)
	}
	return Unrest{Drift: bound(u.Drift, least.Drift, most.Drift), Dispersion: bound(u.Dispersion, least.Dispersion, most.Dispersion)}
}

// block is what some seconds in a row come to.
type block struct {
	requests, slow float64
	rank           float64 // sum over the requests
}

// unrestOf measures ticks whose latencies together have the shape l, and of which those
// that are slow are longer than slower.
func unrestOf(ticks []Tick, l sequential.Ladder, slower time.Duration) Unrest {
	var blocks []block
	var all block
	for part := range slices.Chunk(ticks, unrestBlock) {
		b := block{}
		for i := range part {
			if part[i].Hist != nil {
				n := float64(part[i].Hist.Count())
				b.requests, b.rank = b.requests+n, b.rank+n*l.Rank(part[i].Hist)
				b.slow += float64(part[i].Hist.Above(slower))
			}
		}
		if b.requests > 0 {
			blocks = append(blocks, b)
			all = block{all.requests + b.requests, all.slow + b.slow, all.rank + b.rank}
		}
	}
	if len(blocks) < 2 {
		return Unrest{}
	}
	return unrestOfBlocks(blocks, all)
}

// unrestOfBlocks compares how the blocks vary with how they would by chance. The unrest of
// a second is that of which as many independent seconds make up a block.
func unrestOfBlocks(blocks []block, all block) Unrest {
	mean, slow := all.rank/all.requests, max(all.slow/all.requests, slowNormal)
	drift, dispersion := 0.0, 0.0
	for _, b := range blocks {
		away := b.rank/b.requests - mean
		drift += away*away - 1/(12*b.requests)
		off := b.slow - b.requests*all.slow/all.requests
		dispersion += off * off / (b.requests * slow * (1 - min(slow, 0.99)))
	}
	n := float64(len(blocks) - 1)
	return Unrest{Drift: math.Sqrt(max(unrestBlock*drift/n, 0)), Dispersion: dispersion / n}
}
