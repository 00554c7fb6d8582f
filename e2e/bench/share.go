package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	sluicev1 "github.com/sluicemesh/sluice/api/sluice/v1"
)

const (
	sharePairs   = 8
	shareStartup = time.Second
	llmDecides   = 13 * time.Second // the paper's LLM, of each recovery
)

// kernelShare is what the kernel itself takes of a recovery: to decide, to journal, to push
// and be ACKed, between the end of what it waits for and the next effect. The rest is
// others': requests that must end, the process that starts. A recovery is from the proposal
// until traffic is back. The reference is what an LLM that takes 13 s would be of the same.
func kernelShare() Bench {
	return Bench{
		Rows: []Row{{Name: "kernel_share", Unit: "share", ReferenceName: "13 s of an LLM (the paper's) before the same recovery",
			Floor: 0.03, Reach: 0.01}},
		Runs: 3,
		Open: func(_ context.Context, env *Env) (Measure, error) {
			return single(func(ctx context.Context) (Pair, error) { return shareOf(ctx, env) }).pairs(), nil
		},
	}
}

// shareOf restarts services in turn and returns the median share of all recoveries.
func shareOf(ctx context.Context, env *Env) (pair Pair, err error) {
	p, err := openPairs(ctx, env, sharePairs, shareStartup)
	if err != nil {
		return Pair{}, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	ctx, cancel := context.WithTimeout(ctx, pairsWithin)
	defer cancel()
	var shares, llm []float64
	var kernel []time.Duration
	for turn := range restartsOfPair {
		for i := range p.n {
			id := fmt.Sprintf("share-%d-%d", turn, i)
			if err := p.restart(ctx, id, i); err != nil {
				return Pair{}, err
			}
			plan, err := p.committed(ctx, id)
			if err != nil {
				return Pair{}, err
			}
			own, all := kernelTime(plan)
			kernel = append(kernel, own)
			shares = append(shares, own.Seconds()/all.Seconds())
			llm = append(llm, llmDecides.Seconds()/(llmDecides+all).Seconds())
		}
	}
	slices.Sort(kernel)
	env.Note("of %d recoveries the kernel took %v (median) and %v (worst)", len(kernel), kernel[len(kernel)/2].Round(time.Microsecond*100),
		kernel[len(kernel)-1].Round(time.Microsecond*100))
	return Pair{Ours: median(shares), Reference: median(llm)}, nil
}

// kernelTime returns what the kernel itself took of a plan whose steps follow each other,
// and the time from the proposal to the end of the last step.
func kernelTime(plan *sluicev1.Plan) (own, all time.Duration) {
	steps := slices.Clone(plan.GetSteps())
	slices.SortFunc(steps, func(a, b *sluicev1.PlanStep) int {
		return a.GetStarted().AsTime().Compare(b.GetStarted().AsTime())
	})
	from := plan.GetProposed().AsTime()
	at := from
	for _, s := range steps {
		own += max(s.GetStarted().AsTime().Sub(at), 0)
		switch {
		case s.GetAcked() != nil: // then it waits for requests to end
			own += s.GetAcked().AsTime().Sub(s.GetStarted().AsTime())
		case s.GetAction() != "restart": // overlays are taken off
			own += s.GetEnded().AsTime().Sub(s.GetStarted().AsTime())
		}
		at = s.GetEnded().AsTime()
	}
	return own, at.Sub(from)
}
