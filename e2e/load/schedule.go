package load

import (
	"iter"
	"math/rand/v2"
	"time"
)

// Arrival is one request to be sent.
type Arrival struct {
	Number    int           // from 1; the key of the request
	At        time.Duration // since the start of the run
	Operation string
}

// Schedule yields the arrivals of config in order. It depends on nothing but rate,
// spacing, mix, seed and bounds: equal config, equal requests.
func Schedule(config Config) iter.Seq2[int, Arrival] {
	return func(yield func(int, Arrival) bool) {
		rng := rand.New(rand.NewPCG(config.Seed, 0x10AD))
		gap := float64(time.Second) / config.Rate
		at := 0.0
		for n := 1; n <= config.Requests; n++ {
			step := gap / height(at, config.Ramp)
			if !config.Constant {
				step *= rng.ExpFloat64()
			}
			at += step
			arrival := Arrival{Number: n, At: time.Duration(at), Operation: pick(config.Mix, rng.Float64())}
			if arrival.At >= config.For || !yield(n-1, arrival) {
				return
			}
		}
	}
}

// height is the share of the full rate at a moment of the ramp, at least a tenth: cold
// processes and pools of connections meet a rising load, as after a deployment.
func height(at float64, ramp time.Duration) float64 {
	if ramp <= 0 || at >= float64(ramp) {
		return 1
	}
	return max(at/float64(ramp), 0.1)
}

// pick returns the operation at point of the stacked shares.
func pick(mix []Part, point float64) string {
	for _, part := range mix {
		if point < part.Share {
			return part.Operation
		}
		point -= part.Share
	}
	return mix[len(mix)-1].Operation
}
