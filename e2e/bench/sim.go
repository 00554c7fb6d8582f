package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemesh/sluice/microkernel/sim"
)

// seedsARun is how many seeds one run simulates, each other ones.
const seedsARun = 200

// simulation counts seeds of the simulated world, on all processors, as make sim does.
func simulation() Bench {
	return Bench{
		Rows: []Row{{Name: "sim_seeds_per_minute", Unit: "seeds/min", Higher: true, Floor: 2000, Reach: 10_000}},
		Open: func(context.Context, *Env) (Measure, error) {
			from := uint64(1)
			return func(context.Context) ([]Pair, error) {
				took, err := simulate(from, seedsARun)
				from += seedsARun
				return []Pair{{Ours: seedsARun / took.Minutes()}}, err
			}, nil
		},
	}
}

func simulate(from, seeds uint64) (time.Duration, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var (
		next   atomic.Uint64
		broken atomic.Uint64
		wait   sync.WaitGroup
	)
	started := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < seeds; i = next.Add(1) - 1 {
				if result := sim.Run(from+i, sim.Options{}); len(result.Violations) > 0 {
					broken.Store(from + i)
				}
			}
		})
	}
	wait.Wait()
	took := time.Since(started)
	if seed := broken.Load(); seed > 0 {
		return took, fmt.Errorf("seed %d breaks an invariant", seed)
	}
	return took, nil
}
