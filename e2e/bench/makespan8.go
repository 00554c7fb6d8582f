package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

const (
	together8      = 8
	startup8       = 4 * time.Second
	restartsOfPair = 2 // of one run; a policy allows four in ten minutes
)

// makespanLive is how long eight plans over disjoint groups take when they are proposed at
// once, from the first proposal to the end of the last, verification included: a real mesh,
// services that wait before they are ready. The reference is the same eight, each proposed
// when the one before has ended.
func makespanLive() Bench {
	return Bench{
		Rows: []Row{{Name: "makespan_k8", Unit: "s", ReferenceName: "the same plans one after the other", Rule: Ratio, Floor: 5, Reach: 7.6}},
		Runs: 3,
		Open: func(_ context.Context, env *Env) (Measure, error) {
			run := 0
			return single(func(ctx context.Context) (Pair, error) {
				run++
				return eight(ctx, env, run)
			}).pairs(), nil
		},
	}
}

// single is a Measure of one row.
type single func(ctx context.Context) (Pair, error)

func (s single) pairs() Measure {
	return func(ctx context.Context) ([]Pair, error) {
		p, err := s(ctx)
		return []Pair{p}, err
	}
}

// eight brings a mesh up, because restarts of a service are rationed, and runs both ways
// on it, in turns the one or the other first.
func eight(ctx context.Context, env *Env, run int) (pair Pair, err error) {
	p, err := openPairs(ctx, env, together8, startup8)
	if err != nil {
		return Pair{}, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	for turn := range restartsOfPair {
		ctx, cancel := context.WithTimeout(ctx, pairsWithin)
		atOnce := (turn+run)%2 == 0
		took, err := p.all(ctx, fmt.Sprintf("run%d-turn%d", run, turn), atOnce)
		cancel()
		if err != nil {
			return Pair{}, err
		}
		if atOnce {
			pair.Ours = took.Seconds()
		} else {
			pair.Reference = took.Seconds()
		}
	}
	return pair, nil
}

// all restarts every pair's service, and returns the time from the first proposal to the
// end of the last plan, by the clock of the kernel.
func (p *pairs) all(ctx context.Context, name string, atOnce bool) (time.Duration, error) {
	var plans []*sluicev1.Plan
	for i := range p.n {
		id := fmt.Sprintf("%s-%d", name, i)
		if err := p.restart(ctx, id, i); err != nil {
			return 0, err
		}
		if !atOnce {
			if _, err := p.committed(ctx, id); err != nil {
				return 0, err
			}
		}
	}
	for i := range p.n {
		plan, err := p.committed(ctx, fmt.Sprintf("%s-%d", name, i))
		if err != nil {
			return 0, err
		}
		plans = append(plans, plan)
	}
	first, last := plans[0].GetProposed().AsTime(), plans[0].GetEnded().AsTime()
	for _, plan := range plans {
		if at := plan.GetEnded().AsTime(); at.After(last) {
			last = at
		}
	}
	return last.Sub(first), nil
}
