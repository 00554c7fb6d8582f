package driver

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/harm"
)

// Stats are the statistics of services by the second.
type Stats interface {
	// Tick returns what happened at service in one Unix second that is over. It is false
	// if nothing was reported for that second by anybody; a service without a request
	// has a report of zero requests.
	Tick(service mesh.Service, second int64) (harm.Tick, bool)
}

// GraphStats are Stats from the ticks behind a topology.
type GraphStats struct {
	Topology Topology
	// Reporting says whether the sources of evidence reported in a second; nil = always.
	Reporting func(second int64) bool
}

// Tick implements Stats.
func (g GraphStats) Tick(service mesh.Service, second int64) (harm.Tick, bool) {
	tick, _ := g.Topology.Snapshot().Series().Service(service, second)
	return tick, g.Reporting == nil || g.Reporting(second)
}

// Watcher is the Monitor that watches by package harm, second by second. It also
// measures Loads. It is safe for concurrent use.
type Watcher struct {
	settings WatcherSettings
	mu       sync.Mutex
	frozen   map[microkernel.PlanID]baselines
	order    []microkernel.PlanID // of frozen, oldest first
	drains   disturbances
}

// WatcherSettings are what a Watcher works with.
type WatcherSettings struct {
	Stats    Stats
	Topology Topology           // for callers of callers: held requests hold them too
	World    func() *mesh.World // for objectives
	Symptoms Symptoms           // optional
	// Overlays lists what is in force now, of all plans: latency upstream of held requests
	// does not count until some seconds after, nor do failures that are shed requests;
	// nil = not known.
	Overlays func() []mesh.Overlay
	Now      func() time.Time
	Window   time.Duration // Policy.HarmWindow
	Delay    time.Duration // how late reports of a second may come, default 1 s
}

// maxFrozen is for how many plans baselines are kept.
const maxFrozen = 64

// baselines are what a plan's services, and others to compare with, were like before it.
type baselines struct {
	subjects map[mesh.Service]harm.Subject
	controls []control
}

// NewWatcher returns a Watcher.
func NewWatcher(s WatcherSettings) *Watcher {
	if s.Delay == 0 {
		s.Delay = time.Second
	}
	return &Watcher{settings: s, frozen: map[microkernel.PlanID]baselines{}}
}

// Watch implements Monitor. The baselines of a plan are frozen by its first watch.
func (w *Watcher) Watch(ctx context.Context, order microkernel.Watch) (microkernel.HarmVerdict, error) {
	begin := w.settings.Now()
	w.recall(order)
	subjects := w.subjects(order, begin)
	controls, levels := w.controls(order)
	trial := harm.NewTrial(subjects, harm.Settings{
		Window: seconds(w.settings.Window), Length: seconds(order.For), Controls: levels,
	})
	reports := make([]harm.Report, len(subjects))
	passed := newPassing(order.Services)
	for second := begin.Unix() + 1; ; second++ {
		if err := w.sleepUntil(ctx, time.Unix(second+1, 0).Add(w.settings.Delay)); err != nil {
			return microkernel.HarmVerdict{}, err
		}
		expected := w.look(order, second)
		for i := range subjects {
			reports[i] = w.report(subjects[i].Service, second)
			reports[i].Disturbed = expected.slow[subjects[i].Service]
		}
		passed.excuse(expected, w.failed(expected.shed, second), reports)
		trial.Compare(w.compare(controls, expected, second))
		if verdict, fallen := trial.Next(reports); fallen {
			return verdict, nil
		}
	}
}

// report is what is known of a service in a second.
func (w *Watcher) report(service mesh.Service, second int64) harm.Report {
	tick, reported := w.settings.Stats.Tick(service, second)
	return harm.Report{Tick: tick, Missing: !reported}
}

// failed counts the failures of services in a second.
func (w *Watcher) failed(services []mesh.Service, second int64) uint64 {
	sum := uint64(0)
	for _, service := range services {
		sum += w.report(service, second).Errors
	}
	return sum
}

// look notes the drains that are in force now and returns what they are expected to have
// done in a second. If it cannot see them, it takes the word of a plan that runs.
func (w *Watcher) look(order microkernel.Watch, second int64) expected {
	graph := w.settings.Topology.Snapshot()
	if w.settings.Overlays == nil {
		if order.For > 0 {
			return expected{}
		}
		return expectedOf(graph, nil, order.Shed)
	}
	now, overlays, world := w.settings.Now().Unix(), w.settings.Overlays(), w.settings.World()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drains.note(overlays, world, now)
	return expectedOf(graph, during(w.drains.held, second), during(w.drains.shed, second))
}

// sleepUntil waits for a time of the clock.
func (w *Watcher) sleepUntil(ctx context.Context, t time.Time) error {
	timer := time.NewTimer(t.Sub(w.settings.Now()))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seconds rounds up to whole seconds.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// subjects are the services to watch, with their frozen baselines.
func (w *Watcher) subjects(order microkernel.Watch, begin time.Time) []harm.Subject {
	known := w.baselines(order.Plan)
	if known.subjects == nil {
		known.controls = w.candidates(order.Services, begin)
	}
	disturbed := order.Disturbed
	if order.For == 0 { // while requests are held, their callers' callers wait too
		disturbed = append(slices.Clone(disturbed), w.settings.Topology.Snapshot().Blast(disturbed)...)
	}
	victims, shaken := w.victims(order), w.shaken(order, begin)
	subjects := make([]harm.Subject, 0, len(order.Services))
	for _, service := range order.Services {
		subject, frozen := known.subjects[service]
		if !frozen {
			broken := slices.Contains(order.Symptoms, service) || slices.Contains(victims, service)
			subject = w.measure(service, broken, begin)
		}
		subject.Disturbed, subject.Calm = slices.Contains(disturbed, service), harm.Grace
		if shaken == nil || shaken[service] {
			subject.Calm = 0
		}
		subject.Checked = slices.ContainsFunc(order.Checks, func(c isa.Check) bool { return c.Service == service })
		subjects = append(subjects, subject)
	}
	w.freeze(order.Plan, subjects, known.controls)
	return subjects
}

// shaken are the services that are not calm when a watch begins: those of which slowness
// is expected, all that reach them, and those whose requests were held until a moment ago.
// It is nil if that cannot be seen.
func (w *Watcher) shaken(order microkernel.Watch, begin time.Time) map[mesh.Service]bool {
	if w.settings.Overlays == nil {
		return nil
	}
	e := w.look(order, begin.Unix()-harm.Grace)
	maps.Copy(e.slow, set(order.Disturbed))
	maps.Copy(e.slow, set(w.settings.Topology.Snapshot().Blast(order.Disturbed)))
	return e.slow
}

// victims are the services that reach a broken one by calls. They may still look healthy
// when the plan begins: requests that were stuck in the fault fail later, and that is not
// the plan's doing.
func (w *Watcher) victims(order microkernel.Watch) []mesh.Service {
	sick := slices.Clone(order.Symptoms)
	world := w.settings.World()
	for _, service := range order.Services {
		if _, is := w.onset(service); is {
			sick = append(sick, service)
		}
		if state := world.Find(service); state != nil && state.ReadyCount() < len(state.Instances) {
			sick = append(sick, service)
		}
	}
	if len(sick) == 0 {
		return nil
	}
	return w.settings.Topology.Snapshot().Blast(sick)
}

// measure takes the baseline of a service at the moment begin.
func (w *Watcher) measure(service mesh.Service, broken bool, begin time.Time) harm.Subject {
	subject := harm.Subject{Service: service, Broken: broken}
	if state := w.settings.World().Find(service); state != nil {
		subject.Objective = state.Objective
	}
	first := begin.Unix() - baseline
	past := harm.History{Onset: baseline, Ticks: w.past(service, begin)}
	if onset, is := w.onset(service); is {
		past.Onset = int(min(max(onset.Unix()-first, 0), baseline-1))
	}
	return harm.Baseline(subject, past, seconds(w.settings.Window))
}

// past returns the ticks of a service before begin; the second under way counts with the
// action.
func (w *Watcher) past(service mesh.Service, begin time.Time) []harm.Tick {
	ticks := make([]harm.Tick, 0, baseline)
	for second := begin.Unix() - baseline; second < begin.Unix(); second++ {
		tick, _ := w.settings.Stats.Tick(service, second)
		ticks = append(ticks, tick)
	}
	return ticks
}

// baseline is how many seconds before an action the baseline is taken from.
const baseline = 60

func (w *Watcher) onset(service mesh.Service) (time.Time, bool) {
	if w.settings.Symptoms == nil {
		return time.Time{}, false
	}
	for _, s := range w.settings.Symptoms.Symptoms() {
		if s.Service == service {
			return s.Onset, true
		}
	}
	return time.Time{}, false
}

func (w *Watcher) baselines(plan microkernel.PlanID) baselines {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frozen[plan]
}

// freeze keeps the baselines of a plan; those of the oldest plan make room.
func (w *Watcher) freeze(plan microkernel.PlanID, subjects []harm.Subject, controls []control) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.frozen[plan]; !known {
		w.order = append(w.order, plan)
		if len(w.order) > maxFrozen {
			delete(w.frozen, w.order[0])
			w.order = w.order[1:]
		}
	}
	kept := make(map[mesh.Service]harm.Subject, len(subjects))
	for _, s := range subjects {
		kept[s.Service] = s
	}
	w.frozen[plan] = baselines{subjects: kept, controls: controls}
}

// Times over which Load measures.
const (
	loadSeconds  = 300
	loadQuantile = 95
)

// Load implements Loads. Concurrency follows from each second's rate and mean latency
// (Little's law).
func (w *Watcher) Load(service mesh.Service) Load {
	now := w.settings.Now().Unix()
	rates, busy := make([]float64, 0, loadSeconds), make([]float64, 0, loadSeconds)
	seen := false
	for second := now - loadSeconds; second < now; second++ {
		tick, _ := w.settings.Stats.Tick(service, second)
		rates = append(rates, float64(tick.Requests))
		seen = seen || tick.Requests > 0
		mean := time.Duration(0)
		if tick.Hist != nil {
			mean = tick.Hist.Mean()
		}
		busy = append(busy, float64(tick.Requests)*mean.Seconds())
	}
	if !seen {
		return Load{}
	}
	slices.Sort(rates)
	slices.Sort(busy)
	return Load{Rate: rates[loadSeconds*loadQuantile/100], Concurrency: busy[loadSeconds*99/100]}
}
