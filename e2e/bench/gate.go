package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

const (
	gatesARun  = 30
	gateSettle = 50 * time.Millisecond // of the policy
	gateHolds  = 200 * time.Millisecond
	gateWithin = 10 * time.Second
	gateCaller = 2
)

// gateAfterInFlight is the time from the end of the last request to a drained instance to
// the moment at which the kernel's predicate opens the gate, settle time included.
func gateAfterInFlight() Bench {
	return Bench{
		Rows: []Row{{Name: "gate_after_inflight", Unit: "ms", Floor: 300, Reach: 100}},
		Runs: 3,
		Open: func(ctx context.Context, env *Env) (Measure, error) {
			e, err := openEnvoys(ctx, env, gateCaller, 2)
			if err != nil {
				return nil, err
			}
			return func(ctx context.Context) ([]Pair, error) {
				var times []float64
				for range gatesARun {
					took, err := e.gate(ctx)
					if err != nil {
						return nil, err
					}
					times = append(times, float64(took)/nsOfMs)
				}
				slices.Sort(times)
				env.Note("of %d gates: median %.0f ms, worst %.0f ms", len(times), times[len(times)/2], times[len(times)-1])
				return []Pair{{Ours: times[(len(times)*99-1)/100]}}, nil
			}, nil
		},
	}
}

// gate drains an instance while requests are in it, lets them go, and waits for the proof.
func (e *envoys) gate(ctx context.Context) (time.Duration, error) {
	const uid = mesh.UID("app-0")
	a := e.apps[uid]
	for _, other := range e.apps {
		other.takes, other.release = gateHolds, nil
	}
	var requests sync.WaitGroup
	defer requests.Wait()
	for _, front := range e.fronts() {
		for range 2 * len(e.apps) { // so that each instance has some
			requests.Go(func() {
				if resp, err := http.Get("http://" + front + "/"); err == nil {
					_ = resp.Body.Close()
				}
			})
		}
	}
	if err := within(ctx, gateWithin, "requests are in the instance", func() bool { return a.inside.Load() > 0 }); err != nil {
		return 0, err
	}
	e.generation++
	o := e.drain(uid, e.generation)
	if _, err := e.server.Traffic().Apply(ctx, o); err != nil {
		return 0, err
	}
	opened, err := e.proved(ctx, o)
	if err != nil {
		return 0, err
	}
	took := opened.Sub(time.Unix(0, a.ended.Load()))
	return took, e.server.Traffic().Withdraw(ctx, o.Key, 0)
}

// proved waits until the gate would open, and returns when.
func (e *envoys) proved(ctx context.Context, o mesh.Overlay) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, gateWithin)
	defer cancel()
	var opened time.Time
	var last mesh.Proof
	err := e.server.Traffic().Prove(ctx, o.Key, o.Generation, func(p mesh.Proof) {
		last = p
		if opened.IsZero() && microkernel.Grade(p, microkernel.Generation(o.Generation), gateSettle) == mesh.GradeA {
			opened = time.Now()
			cancel()
		}
	})
	if err == nil && opened.IsZero() {
		err = fmt.Errorf("the gate stays shut: %+v", last)
	}
	return opened, err
}
