package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/sluicemesh/sluice/e2e/load"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/microkernel/harm"
	"github.com/sluicemesh/sluice/topology"
)

// Times of one notice, all under load.
const (
	noticeBaseline = 62 * time.Second // the 60 s of a baseline, and reports under way
	noticeWithin   = 90 * time.Second // for both rules; what is slower counts as that
	noticeSettle   = 2 * time.Second  // until the latest second's reports are in
)

// strongHarm is what happens to the service, and by when it is to be noticed.
type strongHarm struct {
	name         string
	slower       float64 // all latencies are so many times as long
	failing      float64 // share of requests that fail
	floor, reach float64 // s
}

// notice is the time from the moment at which a service is harmed, which is when a plan
// begins to act, to the verdict of the harm monitor. The service, its callers and all
// proxies are real; the monitor sees what sluiced does: access logs by the second. The
// reference is the rule of the paper on the same seconds.
func notice(rate int, harms ...strongHarm) Bench {
	b := Bench{Runs: 3}
	for _, h := range harms {
		b.Rows = append(b.Rows, Row{Name: h.name, Unit: "s", ReferenceName: "the paper's rule on the same seconds: 30 s unbroken after 5 s of grace",
			Floor: h.floor, Reach: h.reach})
	}
	b.Open = func(ctx context.Context, env *Env) (Measure, error) {
		w, err := openWatched(ctx, env, rate)
		if err != nil {
			return nil, err
		}
		run := uint64(0)
		return func(ctx context.Context) ([]Pair, error) {
			run++
			pairs := make([]Pair, len(harms))
			for i := range harms {
				k := (i + int(run)) % len(harms) // each is first in turn
				pair, err := w.notice(ctx, env, &harms[k], run)
				if err != nil {
					return nil, err
				}
				pairs[k] = pair
			}
			return pairs, nil
		}, nil
	}
	return b
}

// noticeStrong are the rows of the contract, and the same of a service with little load.
func noticeStrong() []Bench {
	return []Bench{
		notice(200, strongHarm{"notice_p99x2_200rps", 2, 0, 10, 5}, strongHarm{"notice_errors5_200rps", 1, 0.05, 10, 5}),
		notice(20, strongHarm{"notice_p99x2_20rps", 2, 0, 15, 10}, strongHarm{"notice_errors5_20rps", 1, 0.05, 8, 5}),
	}
}

// notice harms the service as h says, and measures when it is noticed.
func (w *watched) notice(ctx context.Context, env *Env, h *strongHarm, run uint64) (Pair, error) {
	rng := rand.New(rand.NewPCG(run, uint64(w.rate)))
	g, err := load.Start(ctx, load.Config{Address: w.fronts()[0], Mix: []load.Part{{Operation: "work", Share: 1}}, Rate: float64(w.rate),
		Seed: run, Requests: 1_000_000, For: noticeBaseline + noticeWithin + time.Minute})
	if err != nil {
		return Pair{}, err
	}
	defer g.Wait()
	if err := pause(ctx, noticeBaseline+time.Duration(rng.Int64N(int64(time.Second)))); err != nil {
		return Pair{}, err
	}
	began := time.Now()
	peace := harm.Measure(w.ticks(began.Unix()-60, began.Unix()))
	env.Note("%s: in peace p99 %v of %d requests; the service alone has %v", h.name, peace.P99.Round(time.Millisecond), peace.Requests, watchedP99)
	w.mood.Store(&mood{slower: h.slower, failing: h.failing})
	defer w.mood.Store(&mood{slower: 1})
	bounded, cancel := context.WithTimeout(ctx, noticeWithin)
	defer cancel()
	verdict, err := w.monitor().Watch(bounded, microkernel.Watch{Plan: microkernel.PlanID(fmt.Sprintf("%s-%d", h.name, run)),
		Services: []mesh.Service{liveService}})
	ours := time.Since(began)
	switch {
	case ctx.Err() != nil:
		return Pair{}, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		env.Note("%s: not noticed in %v", h.name, noticeWithin)
	case err != nil:
		return Pair{}, err
	default:
		env.Note("%s: noticed after %.2f s: %s", h.name, ours.Seconds(), verdict.Evidence)
	}
	rule, err := w.byPaper(bounded, began)
	if err == nil && rule >= noticeWithin {
		env.Note("%s: the paper's rule has not noticed it in %v, and counts as that", h.name, noticeWithin)
	}
	return Pair{Ours: ours.Seconds(), Reference: rule.Seconds()}, errors.Join(err, ctx.Err())
}

// monitor is the harm monitor as sluiced has it.
func (w *watched) monitor() *driver.Watcher {
	return driver.NewWatcher(driver.WatcherSettings{
		Stats: driver.GraphStats{Topology: w.feed, Reporting: w.feed.Reporting}, Topology: w.feed, World: w.feed.World,
		Overlays: func() []mesh.Overlay { return nil }, Now: time.Now, Window: microkernel.DefaultPolicy().HarmWindow,
	})
}

// byPaper is when the paper's rule speaks of harm since began; ctx bounds the wait.
func (w *watched) byPaper(ctx context.Context, began time.Time) (time.Duration, error) {
	rule := paperRule{baseline: w.ticks(began.Unix()-60, began.Unix())}
	for second := began.Unix() + 1; ; second++ {
		over := time.Unix(second+1, 0)
		if err := pause(ctx, time.Until(over.Add(noticeSettle))); err != nil {
			return noticeWithin, nil //nolint:nilerr // it has not spoken within the bound
		}
		if rule.add(w.ticks(second, second+1)[0]) {
			return over.Sub(began), nil
		}
	}
}

// ticks are the seconds [from, to) of the service.
func (w *watched) ticks(from, to int64) []topology.Tick {
	series := w.feed.Snapshot().Series()
	ticks := make([]topology.Tick, 0, to-from)
	for second := from; second < to; second++ {
		tick, _ := series.Service(liveService, second)
		ticks = append(ticks, tick)
	}
	return ticks
}

// paperRule is harm as the paper of microreboot in service meshes notices it: after a
// grace of 5 s each window of 5 s has a p99 or a share of failures above 1.1 times the
// baseline's, for 30 s without a break.
type paperRule struct {
	baseline []topology.Tick
	recent   []topology.Tick
	seconds  int
	unbroken int
}

// Of the paper.
const (
	paperGrace  = 5
	paperWindow = 5
	paperLasts  = 30
	paperMargin = 1.1
)

// add takes a second since the action and reports whether that is harm.
func (p *paperRule) add(tick topology.Tick) bool {
	p.seconds++
	if p.seconds <= paperGrace {
		return false
	}
	p.recent = append(p.recent, tick)
	if len(p.recent) < paperWindow {
		return false
	}
	p.recent = p.recent[len(p.recent)-paperWindow:]
	before, now := harm.Measure(p.baseline), harm.Measure(p.recent)
	if float64(now.P99) > paperMargin*float64(before.P99) || now.Errors > paperMargin*before.Errors {
		p.unbroken++
	} else {
		p.unbroken = 0
	}
	return p.unbroken >= paperLasts
}
