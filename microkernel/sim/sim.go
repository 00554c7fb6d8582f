package sim

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// Options says how a run goes.
type Options struct {
	Events int       // kernel events before the world becomes fair; 0 = 500
	Keep   []int     // the only choices that are taken: faults, crashes and acts of people; nil = all. Sorted
	Trace  io.Writer // where every event and effect is printed, nil = nowhere

	extra func(*microkernel.State) string // one more invariant, in tests
}

// Violation is an invariant that a run broke.
type Violation struct {
	Seed      uint64 `json:"seed"`
	Invariant string `json:"invariant"`
	Event     int    `json:"event"` // number of the kernel event after which it was seen
}

// Result is what came of one seed.
type Result struct {
	Seed       uint64
	Events     int
	Violations []Violation
	Counts     Counts
	Taken      []int // choices that were taken, sorted: Options.Keep of the same run
}

// leastEvents is how many kernel events a run has before its fair end.
const leastEvents = 500

// Run runs one seed to its end, or to the first violation.
func Run(seed uint64, o Options) Result {
	if o.Events == 0 {
		o.Events = leastEvents
	}
	r := newRun(seed, o)
	r.play()
	return Result{Seed: seed, Events: r.events, Violations: r.violations, Counts: r.counts, Taken: r.taken}
}

// run is one seed under way.
type run struct {
	seed       uint64
	options    Options
	rng        *rand.Rand
	world      *world
	state      microkernel.State
	disk       disk
	queue      deliveries
	order      int                         // of deliveries at one instant
	process    int                         // incarnation of the control plane; deliveries to a former one are lost
	leader     int                         // the process that the world obeys; effects of former ones are refused
	stale      bool                        // a former process acts: nobody takes its answers
	skew       time.Duration               // of the wall clock
	base       microkernel.Instant         // of the process's clock ...
	started    microkernel.Instant         // ... at this instant of the world
	choices    int                         // that could be taken so far
	taken      []int                       // those that were
	verdicts   []string                    // of this seed, in order, where I9 is judged
	regressed  bool                        // an older copy of the journal was put back ...
	behind     map[microkernel.PlanID]bool // ... by which these plans were open
	rules      []microkernel.Invariant
	proofs     map[given]int               // the process that was given one last
	timers     map[microkernel.TimerID]int // the delivery that stands for each timer
	events     int
	crashes    int
	calm       int // events since the last crash
	violations []Violation
	counts     Counts
	people     people

	handled     microkernel.Event // by the step whose effects are being carried out
	drains      map[stepID]bool   // that have begun
	baselines   map[microkernel.PlanID][]microkernel.Baseline
	pausedAlone map[microkernel.PlanID]bool // by somebody, at any time
	reader      reader
}

// given names what a proof is about.
type given struct {
	service    mesh.Service
	generation uint64
}

// delivery is something that will happen.
type delivery struct {
	at      microkernel.Instant
	order   int
	process int  // 0 = the world's own, survives crashes
	stale   bool // true whenever it comes, so a later process may be given it, too
	timer   *microkernel.TimerID
	do      func()
}

// deliveries is a heap by instant, then by order.
type deliveries []delivery

// Len implements heap.Interface.
func (d deliveries) Len() int { return len(d) }

// Less implements heap.Interface.
func (d deliveries) Less(i, k int) bool {
	if d[i].at != d[k].at {
		return d[i].at < d[k].at
	}
	return d[i].order < d[k].order
}

// Swap implements heap.Interface.
func (d deliveries) Swap(i, k int) { d[i], d[k] = d[k], d[i] }

// Push implements heap.Interface.
func (d *deliveries) Push(x any) { *d = append(*d, x.(delivery)) }

// Pop implements heap.Interface.
func (d *deliveries) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

func newRun(seed uint64, o Options) *run {
	rng := rand.New(rand.NewPCG(seed, 0x51_0ce))
	r := &run{seed: seed, options: o, rng: rng, process: 1, counts: newCounts()}
	r.world = newWorld(rng, &r.counts)
	r.state = microkernel.New(policy(rng))
	r.disk.policy, r.disk.base = r.state.Policy(), r.state
	r.timers = map[microkernel.TimerID]int{}
	r.proofs = map[given]int{}
	r.drains, r.pausedAlone, r.behind = map[stepID]bool{}, map[microkernel.PlanID]bool{}, map[microkernel.PlanID]bool{}
	r.baselines = map[microkernel.PlanID][]microkernel.Baseline{}
	r.rules = microkernel.Invariants()
	return r
}

// policy is the default with smaller limits, so that a short run reaches them.
func policy(rng *rand.Rand) microkernel.Policy {
	p := microkernel.DefaultPolicy()
	if rng.IntN(20) == 0 {
		p.Mode = microkernel.Propose
	}
	if rng.IntN(40) == 0 {
		p.Mode = microkernel.Observe
	}
	p.AgentServices10m, p.AgentServices60m = 5, 8
	p.FleetServices10m = 8 + rng.IntN(8)
	p.MaxGroupSize, p.MaxPlanServices = 2+rng.IntN(4), 3
	p.HeldTTL = 10 * time.Minute
	return p
}

// play runs the unfair part, then the fair one, then looks at what is left.
func (r *run) play() {
	r.lead()
	r.schedulePeople()
	for n := 0; n < 40*r.options.Events && r.events < r.options.Events && len(r.violations) == 0 && r.next(); n++ {
	}
	r.world.fair = true
	r.becomeFair()
	for step := 0; len(r.violations) == 0 && !r.settled(); step++ {
		if step > 20_000 || !r.next() {
			r.violate(fmt.Sprintf("I5: plans do not end under a fair schedule: %s", r.openPlans()))
			return
		}
	}
	if len(r.violations) == 0 {
		r.checkEnd()
	}
}

// next makes the next thing happen; false if nothing ever will.
func (r *run) next() bool {
	for len(r.queue) > 0 {
		d := heap.Pop(&r.queue).(delivery)
		if d.process != 0 && d.process != r.process {
			continue
		}
		if d.timer != nil {
			if r.timers[*d.timer] != d.order {
				continue
			}
			delete(r.timers, *d.timer)
		}
		r.world.now = max(r.world.now, d.at)
		d.do()
		r.checkFloors()
		return true
	}
	return false
}

// after schedules something of the world.
func (r *run) after(wait time.Duration, do func()) {
	r.push(delivery{at: r.world.now.Add(wait), do: do})
}

// answer schedules something that ends with this process of the control plane.
func (r *run) answer(wait time.Duration, do func()) {
	r.push(delivery{at: r.world.now.Add(wait), process: r.process, do: do})
}

func (r *run) push(d delivery) int {
	r.order++
	d.order = r.order
	heap.Push(&r.queue, d)
	return d.order
}

// violate notes a broken invariant and ends the run.
func (r *run) violate(what string) {
	r.violations = append(r.violations, Violation{Seed: r.seed, Invariant: what, Event: r.events})
	r.trace("VIOLATION %s", what)
}

func (r *run) trace(format string, args ...any) {
	if r.options.Trace != nil {
		fmt.Fprintf(r.options.Trace, "%10.3fs %4d ", time.Duration(r.world.now).Seconds(), r.events)
		fmt.Fprintf(r.options.Trace, format+"\n", args...)
	}
}

// chance is true once in n times, as long as the world is unfair.
func (r *run) chance(n int) bool { return !r.world.fair && r.rng.IntN(n) == 0 && r.take() }

// take reports whether the next choice is taken. A run that shrinks leaves some out.
func (r *run) take() bool {
	r.choices++
	if r.options.Keep != nil {
		if _, kept := slices.BinarySearch(r.options.Keep, r.choices); !kept {
			return false
		}
	}
	r.taken = append(r.taken, r.choices)
	return true
}

// millis is a random duration from least to most milliseconds.
func (r *run) millis(least, most int) time.Duration {
	return time.Duration(least+r.rng.IntN(most-least+1)) * time.Millisecond
}
