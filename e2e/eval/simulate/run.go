package simulate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/e2e/eval/oracle"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// Config says what to run.
type Config struct {
	Graphs     []*Graph
	Evidence   []Evidence
	Changes    []Change // each on the headline's evidence; those about load on traces alone, too
	PerService int      // repetitions of the fault of each service
	Sample     int      // of all (service, repetition), 0 = all
	Seed       uint64
	Recorded   time.Duration // that evidence was gathered for
	Traffic    float64       // times the drawn rates of calls
	Parallel   int           // 0 = one a processor
}

// Defaults are what the figures of the documentation were made with.
func Defaults() Config {
	return Config{PerService: 500, Sample: 2000, Seed: 1, Recorded: 24 * time.Hour, Traffic: 1}
}

// Check says what is wrong with c.
func (c *Config) Check() error {
	switch {
	case len(c.Graphs) == 0:
		return errors.New("no graph: name at least one")
	case c.PerService < 1 || c.PerService > 100_000:
		return fmt.Errorf("%d trials a service: want 1 to 100000", c.PerService)
	case c.Sample < 0:
		return fmt.Errorf("a sample of %d trials: want 0 (all) or more", c.Sample)
	case c.Recorded < 10*time.Minute || c.Recorded > 7*24*time.Hour:
		return fmt.Errorf("%s of evidence: want 10m to 168h", c.Recorded)
	case c.Traffic <= 0:
		return fmt.Errorf("%g times the traffic: want more than 0", c.Traffic)
	case c.Parallel < 0:
		return fmt.Errorf("%d at once: want 0 (one a processor) or more", c.Parallel)
	}
	return nil
}

// Result is everything that was measured.
type Result struct {
	Offline   []*Row `json:"offline"`   // the best reading of raw commands
	Readings  []*Row `json:"readings"`  // their worst reading
	Ablations []*Row `json:"ablations"` // parts of Sluice switched off
}

// job is one graph with one kind of evidence, and perhaps a part switched off.
type job struct {
	t        *truth
	of       *indexed
	trials   []trial
	evidence Evidence
	off      Change
	rows     map[Arm]*Row
	readings map[Arm]*Row
}

// Run tries all arms. It stops early, with the error of ctx, when ctx ends; what it returns
// depends on nothing but the configuration.
func Run(ctx context.Context, c Config, progress io.Writer) (*Result, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	jobs := c.jobs()
	workers := c.Parallel
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var (
		group sync.WaitGroup
		mutex sync.Mutex
		done  int
	)
	queue := make(chan *job)
	for range workers {
		group.Go(func() {
			for j := range queue {
				began := time.Now()
				j.run(ctx, &c)
				mutex.Lock()
				done++
				fmt.Fprintf(progress, "%d of %d: %s (%.1fs)\n", done, len(jobs), j, time.Since(began).Seconds())
				mutex.Unlock()
			}
		})
	}
	for _, j := range jobs {
		if ctx.Err() != nil {
			break
		}
		queue <- j
	}
	close(queue)
	group.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return collect(jobs), nil
}

// String names the job.
func (j *job) String() string {
	if j.off != Unchanged {
		return fmt.Sprintf("%s, %s, %s", j.t.graph.Name, j.evidence, j.off)
	}
	return fmt.Sprintf("%s, %s", j.t.graph.Name, j.evidence)
}

// jobs lists everything that is to be done.
func (c *Config) jobs() []*job {
	var jobs []*job
	for _, g := range c.Graphs {
		t, of := newTruth(g, c.Seed), index(g)
		for i := range t.rate {
			t.rate[i] *= c.Traffic
		}
		trials := c.trials(t, of)
		for _, e := range c.Evidence {
			jobs = append(jobs, &job{t: t, of: of, trials: trials, evidence: e})
		}
		for _, off := range c.Changes {
			e := Headline()
			if off == NoSticky {
				e.Sticky = 1
			}
			jobs = append(jobs, &job{t: t, of: of, trials: trials, evidence: e, off: off})
			if off == NoMonitor || off == NoHeadroom { // traces do not tell the load: the other has to do
				e.Fused = false
				jobs = append(jobs, &job{t: t, of: of, trials: trials, evidence: e, off: off})
			}
		}
	}
	return jobs
}

// trials lists the trials of a graph: all, or a sample of them.
func (c *Config) trials(t *truth, of *indexed) []trial {
	n := len(t.graph.Services)
	all := n * c.PerService
	var picked []int
	if c.Sample == 0 || c.Sample >= all {
		for i := range all {
			picked = append(picked, i)
		}
	} else {
		rng, seen := rand.New(rand.NewPCG(c.Seed, 0x5a3b)), map[int]bool{}
		for len(picked) < c.Sample {
			if i := rng.IntN(all); !seen[i] {
				seen[i] = true
				picked = append(picked, i)
			}
		}
		slices.Sort(picked)
	}
	list := make([]trial, len(picked))
	for k, i := range picked {
		list[k] = newTrial(t, of, int32(i/c.PerService), i%c.PerService, c.Seed)
	}
	return list
}

// run learns the graph, and goes through the trials.
func (j *job) run(ctx context.Context, c *Config) {
	j.rows, j.readings = map[Arm]*Row{}, map[Arm]*Row{}
	for _, arm := range Arms() {
		j.rows[arm] = newRow(j.t.graph.Name, arm, j.evidence)
		j.rows[arm].Change = j.off
		if arm == Untyped || arm == Naive || arm == Symptom {
			j.readings[arm] = newRow(j.t.graph.Name, arm, j.evidence)
			j.rows[arm].Reading, j.readings[arm].Reading = gentle, abrupt
		}
	}
	l := learn(ctx, j.t, j.evidence, c, j.off != NoExpiry)
	f := newFacts(l, j.off)
	best, worst := j.t.world(j.evidence.Hidden, gentle), j.t.world(j.evidence.Hidden, abrupt)
	for i := range j.trials {
		if ctx.Err() != nil {
			return
		}
		j.try(f, &j.trials[i], best, worst)
	}
	for _, rows := range []map[Arm]*Row{j.rows, j.readings} {
		for _, row := range rows {
			row.finish(c.Seed)
		}
	}
}

// try runs one trial in every arm.
func (j *job) try(f *facts, tr *trial, best, worst *oracle.World) {
	snapshot, onset := f.l.show(tr, j.of)
	answer := f.plan(snapshot, tr, onset)
	j.typed(f, tr, &answer, best, worst)
	symptom := j.t.graph.Services[tr.symptom(j.t.graph)]
	for arm, services := range map[Arm][]mesh.Service{
		Untyped: answer.set, Naive: memberNames(answer.group), Symptom: {symptom},
	} {
		j.raw(f, tr, arm, services, best, worst)
	}
	j.hostile(f, tr, snapshot, worst)
}

// typed runs what the kernel admits, and asks of what it does not whether it should have.
func (j *job) typed(f *facts, tr *trial, a *answer, best, worst *oracle.World) {
	row, harmful := j.rows[Typed], false
	world := best
	if j.off == NoGate { // what a gate is for: applications that do not end their requests
		world = worst
	}
	if a.proposed {
		row.Proposed++
		row.sizes = append(row.sizes, len(a.set))
		j.bound(f, a)
		admitted := row.verdict(a.verdict)
		if a.expands {
			outcome := oracle.Judge(world, tr.fault, f.scripted(&a.expanded, j.off != NoGate))
			switch {
			case admitted:
				harmful = row.acted(&outcome)
			case outcome.Useful():
				row.refused(a.verdict)
			}
		}
	}
	row.count(tr.fault.Service, harmful)
}

// bound compares the printed bound of the group with what is true.
func (j *job) bound(f *facts, a *answer) {
	row := j.rows[Typed]
	chance, upper := f.l.unseen(a.members, j.of), f.l.recorded.Planned(a.members).Missed.Upper95
	row.uppers, row.chance = append(row.uppers, upper), append(row.chance, chance)
	if chance <= upper {
		row.covered++
	}
}

// raw restarts services by raw commands, in both readings.
func (j *job) raw(f *facts, tr *trial, arm Arm, services []mesh.Service, best, worst *oracle.World) {
	for _, as := range []struct {
		row     *Row
		world   *oracle.World
		reading reading
	}{{j.rows[arm], best, gentle}, {j.readings[arm], worst, abrupt}} {
		harmful := false
		if len(services) > 0 {
			as.row.Proposed++
			as.row.sizes = append(as.row.sizes, len(services))
			outcome := oracle.Judge(as.world, tr.fault, f.rollouts(services, arm == Naive, as.reading))
			harmful = as.row.acted(&outcome)
		}
		as.row.count(tr.fault.Service, harmful)
	}
}

// hostile hands in what somebody hostile or confused would.
func (j *job) hostile(f *facts, tr *trial, s *topology.Snapshot, world *oracle.World) {
	row, harmful := j.rows[Hostile], false
	program, kind := f.attempt(s, tr)
	if row.Kinds == nil {
		row.Kinds = map[string]*Tally{}
	}
	tally := row.Kinds[kind]
	if tally == nil {
		tally = &Tally{}
		row.Kinds[kind] = tally
	}
	a := answer{proposed: true, written: program}
	f.judge(s, &a, nil)
	row.Proposed++
	tally.Trials++
	if row.verdict(a.verdict) {
		outcome := oracle.Judge(world, tr.fault, f.scripted(&a.expanded, j.off != NoGate))
		tally.Acted++
		if harmful = row.acted(&outcome); harmful {
			tally.Harmful++
		}
		if len(outcome.Lasting) > 0 {
			tally.Lasting++
		}
	} else if a.expands && a.verdict.Outcome != microkernel.Throttle {
		if outcome := oracle.Judge(world, tr.fault, f.scripted(&a.expanded, true)); outcome.Useful() {
			row.refused(a.verdict)
		}
	}
	row.count(tr.fault.Service, harmful)
}

func memberNames(g topology.Group) []mesh.Service {
	var out []mesh.Service
	for _, m := range g.Members {
		out = append(out, m.Service)
	}
	return out
}

// collect puts the rows of all jobs in order.
func collect(jobs []*job) *Result {
	r := &Result{Offline: []*Row{}, Readings: []*Row{}, Ablations: []*Row{}}
	for _, j := range jobs {
		for _, arm := range Arms() {
			switch {
			case j.off == Unchanged:
				r.Offline = append(r.Offline, j.rows[arm])
				if row := j.readings[arm]; row != nil {
					r.Readings = append(r.Readings, row)
				}
			case arm == Typed || arm == Hostile:
				r.Ablations = append(r.Ablations, j.rows[arm])
			}
		}
	}
	return r
}
