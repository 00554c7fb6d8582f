package isa

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluicemesh/sluice/mesh"
)

// objectService returns the service of "kind/namespace/name".
func objectService(object string) mesh.Service {
	_, service, _ := strings.Cut(object, "/")
	return mesh.Service(service)
}

// world checks what needs facts about the mesh.
func (c *checker) world() {
	for i := range c.l.Lines {
		if !c.exists(i) {
			continue
		}
		at := c.l.Lines[i].At
		switch facts := c.acted(i); c.l.Lines[i].Op {
		case OpRestart:
			c.drainRequired(i, &c.l.Restarts[at])
		case OpDrain:
			c.capacity(i, &c.l.Drains[at], facts)
		case OpBreak:
			c.breakFloor(i, &c.l.Breaks[at], facts)
		case OpLimit:
			c.limitFloor(i, &c.l.Limits[at], facts)
		case OpScale:
			c.scaleFloor(i, &c.l.Scales[at], facts)
		}
	}
	if c.blast() && c.ordered {
		c.orders()
	}
}

// acted returns what is known of the one service that step i is about, nil if nothing is.
func (c *checker) acted(i int) *ServiceFacts {
	if c.acting[i] < 0 {
		return nil
	}
	return c.cast.members[c.acting[i]].facts
}

// exists checks that what an action names is in the mesh.
func (c *checker) exists(i int) bool {
	before := len(c.found)
	if t := c.l.Target(i); t != nil && (t.Service != "" || len(t.Group) > 0) {
		for k := range t.services() {
			m := &c.cast.members[c.number(i, t, k)]
			if m.secret {
				return false // refused already
			}
			c.present(i, "target", m)
		}
		if len(c.found) == before && narrowed(t) {
			c.selects(i, t)
		}
	}
	switch at := c.l.Lines[i].At; c.l.Lines[i].Op {
	case OpDrain:
		if to := c.l.Drains[at].To; to != "" {
			c.present(i, "to", c.cast.member(to))
		}
	case OpBreak:
		c.caller(i, c.l.Breaks[at].Caller)
	case OpLimit:
		c.caller(i, c.l.Limits[at].Caller)
	}
	return len(c.found) == before
}

func (c *checker) present(i int, operand string, m *member) {
	if m.facts == nil && m.fault == "" {
		c.add(i, operand, CodeUnknownTarget, string(m.name)+" is not in the mesh", "name a service of the mesh")
	}
}

// caller checks the caller of an edge; gateways are callers but no services.
func (c *checker) caller(i int, service mesh.Service) {
	if service != "" && service.Namespace() != mesh.OutsideNamespace {
		c.present(i, "caller", c.cast.member(service))
	}
}

// selects checks that a narrowed target is about at least one instance, and that each
// UID is one.
func (c *checker) selects(i int, t *Target) {
	facts := c.acted(i)
	if facts == nil {
		return
	}
	met := 0
	for k := range facts.Instances {
		if t.Selects(&facts.Instances[k]) {
			met++
		}
	}
	if met == 0 || met < len(t.UIDs) {
		c.add(i, "target", CodeUnknownTarget, "no such instance: "+quote(FormatTarget(*t)), "name instances that exist")
	}
}

// drainRequired refuses a restart that takes no traffic off before.
func (c *checker) drainRequired(i int, a *Restart) {
	if a.Drain != "" {
		return
	}
	macro := !a.NoDrain && !single(&a.Target)
	for k := range a.Target.services() {
		service := a.Target.service(k)
		switch facts := c.about(i, &a.Target, k); {
		case facts == nil:
		case macro && facts.FanIn > c.limits.FanInMustDrain:
			c.add(i, "target", CodeDrainRequired,
				fmt.Sprintf("%s has %d direct callers, above %d a drain of its own is demanded",
					service, facts.FanIn, c.limits.FanInMustDrain), "add a drain step, and restart with it")
		case !macro && facts.Takes:
			c.add(i, "target", CodeDrainRequired, string(service)+" takes traffic",
				"add a drain step, and restart with it")
		}
	}
}

// capacity refuses a drain that leaves no instance, or none that is ready, without saying
// what becomes of the requests. A drain of the whole service was refused before.
func (c *checker) capacity(i int, a *Drain, facts *ServiceFacts) {
	if facts == nil || a.To != "" || a.OnEmpty != mesh.OnEmptyNone || !narrowed(&a.Target) {
		return
	}
	for k := range facts.Instances {
		if other := &facts.Instances[k]; serving(other) && !a.Target.Selects(other) {
			return
		}
	}
	c.add(i, "target", CodeNoCapacity, "no ready instance of "+string(a.Target.Service)+" would be left",
		"drain fewer instances, or add to, hold or shed")
}

func (c *checker) breakFloor(i int, a *CircuitBreak, facts *ServiceFacts) {
	if facts == nil {
		return
	}
	floor := c.limits.BreakConcurrency * facts.Concurrency
	for _, t := range thresholds(a) {
		if t.load && t.value > 0 && float64(t.value) < floor {
			c.add(i, t.field, CodeEquivalentToDrain, fmt.Sprintf("%s %d is below %.0f, %g times the p99 concurrency",
				t.field, t.value, floor, c.limits.BreakConcurrency), "raise it, or use drain")
		}
	}
}

func (c *checker) limitFloor(i int, a *RateLimit, facts *ServiceFacts) {
	if facts == nil {
		return
	}
	floor := c.limits.LimitShareOfLoad * facts.Rate
	if a.PerSecond > 0 && a.PerSecond < floor {
		c.add(i, "perSecond", CodeEquivalentToDrain, fmt.Sprintf("%g/s is below %g/s, %g %% of the load",
			a.PerSecond, floor, 100*c.limits.LimitShareOfLoad), "raise it, or use drain")
	}
	if a.Burst > 0 && float64(a.Burst) < floor/10 {
		c.add(i, "burst", CodeEquivalentToDrain, fmt.Sprintf("a bucket of %d cannot pass %g/s", a.Burst, floor),
			"raise the burst")
	}
}

func (c *checker) scaleFloor(i int, a *Scale, facts *ServiceFacts) {
	if facts == nil {
		return
	}
	if floor := max(facts.MinAvailable, facts.Quorum); a.Replicas > 0 && a.Replicas < floor {
		c.add(i, "replicas", CodeScaleFloor, fmt.Sprintf("%d replicas are below the floor of %d", a.Replicas, floor),
			fmt.Sprintf("ask for %d or more", floor))
	}
}

// restarted lists the services that the program restarts, each with its first step.
func (c *checker) restarted() []servicePlace {
	c.stops = c.stops[:0]
	for k := range c.uses {
		use := &c.uses[k]
		use.from = len(c.stops)
		t := &use.restart.Target
		for n := range t.services() {
			c.stops = append(c.stops, servicePlace{t.service(n), c.number(use.step, t, n), use.step})
		}
		use.to = len(c.stops)
	}
	out := c.places[:0]
	c.met = zeroed(c.met, (len(c.cast.members)+63)/64)
	for _, stop := range c.stops {
		if !bit(c.met, stop.number) {
			c.met[stop.number/64] |= 1 << (stop.number % 64)
			out = append(out, stop)
		}
	}
	c.places = out
	slices.SortFunc(out, func(a, b servicePlace) int { return strings.Compare(string(a.service), string(b.service)) })
	return out
}

type servicePlace struct {
	service mesh.Service
	number  int // of the service in the cast
	step    int
}

// blast checks the size of restart sets, and how many services are restarted beyond the
// largest one. The services of one restart set belong together; of all sets that a plan
// restarts, the largest counts as one service and is the plan's own, every other counts
// in full. It reports whether the orders are worth a look: that takes time with the square
// of the services, which a plan that is refused for their number must not cost.
func (c *checker) blast() bool {
	places := c.restarted()
	if len(places) == 0 {
		return true
	}
	c.sets = zeroed(c.sets, len(places))
	set, sets, largest := c.sets, 0, 0
	for k := range places {
		if set[k] != 0 {
			continue
		}
		coupled := c.coupled.restartSet(c.env, places[k].service, c.cast.members[places[k].number].facts)
		if len(coupled) > c.limits.MaxGroupSize {
			c.add(places[k].step, "target", CodeGroupTooLarge,
				fmt.Sprintf("the restart set of %s has %d services, at most %d are allowed",
					places[k].service, len(coupled), c.limits.MaxGroupSize),
				"restart a part, or have the plan approved")
		}
		sets++
		size := 0
		for j := k; j < len(places); j++ {
			if set[j] == 0 && (j == k || contains(coupled, places[j].service)) {
				set[j] = sets
				size++
			}
		}
		largest = max(largest, size)
	}
	beyond := len(places) - (largest - 1)
	if budget := c.limits.budget(c.env.GraphSize); beyond > budget {
		c.top("steps", CodeBlastRadius,
			fmt.Sprintf("%d services are restarted beyond one restart set, at most %d are allowed",
				beyond, budget), "restart fewer services in one plan")
		return len(places) <= manyServices
	}
	return true
}

// contains reports whether service is in a sorted set.
func contains(set []mesh.Service, service mesh.Service) bool {
	if len(set) == 1 {
		return set[0] == service
	}
	_, found := slices.BinarySearch(set, service)
	return found
}

// manyServices is how many restarted services make a plan's orders costly to check.
const manyServices = 256

// restartSet returns what must restart with service, which facts are about: its component
// and, again and again, all that is sticky to it. Sorted, valid until r is used again;
// service itself is in it.
func (r *reached) restartSet(e *Env, service mesh.Service, facts *ServiceFacts) []mesh.Service {
	if facts == nil || len(facts.Component) <= 1 && len(facts.StickyCallers) == 0 {
		r.queue = append(r.queue[:0], service)
		return r.queue
	}
	r.begin(service)
	for at := 0; at < len(r.queue); at++ {
		if facts := e.Find(r.queue[at]); facts != nil {
			r.add(facts.Component)
			r.add(facts.StickyCallers)
		}
	}
	slices.Sort(r.queue)
	return r.queue
}

// reached is a set of services that grows by what its members lead to.
type reached struct {
	seen  map[mesh.Service]bool
	queue []mesh.Service // the members, in the order in which they were met
}

// begin makes service the only member.
func (r *reached) begin(service mesh.Service) {
	if r.seen == nil {
		r.seen = make(map[mesh.Service]bool)
	}
	clear(r.seen)
	r.seen[service] = true
	r.queue = append(r.queue[:0], service)
}

// add makes services members.
func (r *reached) add(services []mesh.Service) {
	for _, s := range services {
		if !r.seen[s] {
			r.seen[s] = true
			r.queue = append(r.queue, s)
		}
	}
}
