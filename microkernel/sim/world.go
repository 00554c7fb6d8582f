package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// never is an instant that does not come.
const never = microkernel.Instant(1) << 62

// world is the truth: what runs, which proxy has which overlay, what is in flight.
type world struct {
	rng      *rand.Rand
	now      microkernel.Instant
	services []*service   // sorted by name
	overlays []*installed // sorted by key: chance must meet them in the same order every time
	epoch    int
	fair     bool                // nothing fails any more
	done     map[stepID]mesh.Ref // restarts carried out, and of what
	formers  map[stepID]int      // replicas before a Scale
	objects  []*object           // sorted by name
	rollback bool                // configuration can be rolled back here at all
	former   map[stepID]string   // revisions before a RollbackConfig
	count    *Counts
}

// stepID names a step among all plans.
type stepID struct {
	plan microkernel.PlanID
	step isa.StepID
}

// service is one service and its processes.
type service struct {
	name      mesh.Service
	callers   []mesh.Service // direct, sorted
	sticky    []mesh.Service // callers that do not survive its restart
	component []mesh.Service
	instances []*process
	replicas  int
	takes     bool
	quorum    int
	startup   time.Duration
	deadline  time.Duration
	declared  bool
	least     int     // minAvailable
	load      float64 // in instances' worth
	full      bool    // as a caller it has no headroom: it cannot carry requests that wait
	hold      bool    // requests to it can be held
	grade     mesh.Grade
	protected bool
	broken    bool       // its objective is: an incident that is nobody's plan
	owner     string     // who else sets its replicas, "" = nobody
	drain     *installed // of the world's overlays, nil = none
}

// object is a configuration object. Revisions 7 and 8 were good, 6 must not come back.
type object struct {
	name    string
	service mesh.Service
	at      string // revision in force
	owner   string // who else writes it, "" = nobody
}

// process is one instance. up is when it is ready again; it is down until then.
type process struct {
	ref  mesh.Ref
	name string
	up   microkernel.Instant // <= now: ready
	sick bool                // was down before anybody touched it
}

// installed is an overlay on its way to, at, or on its way from the proxies.
type installed struct {
	key      mesh.OverlayKey
	overlay  mesh.Overlay
	proxies  []proxy
	leaseEnd microkernel.Instant
	broken   microkernel.Instant // until then nothing can be withdrawn
	took     int                 // ready instances that a drain took off when it was applied
	unknown  bool                // the part of the journal that ordered it is lost
}

// proxy is what one proxy does with one overlay.
type proxy struct {
	from, to microkernel.Instant // it obeys the overlay in between
	acked    microkernel.Instant // of the present generation, never = silent or NACK
	idle     microkernel.Instant // its last request to the target has ended
	reported microkernel.Instant // and it has said so
}

func (p *proxy) obeys(at microkernel.Instant) bool { return p.from <= at && at < p.to }

// newWorld makes 12 services: a chain with fan-out, a cycle of two, sticky edges, one
// quorum service, one that takes no traffic.
func newWorld(rng *rand.Rand, count *Counts) *world {
	w := &world{rng: rng, epoch: 1, done: map[stepID]mesh.Ref{}, formers: map[stepID]int{}, former: map[stepID]string{}, count: count}
	w.now = microkernel.Instant(time.Hour)
	const n = 12
	for i := range n {
		s := &service{name: serviceName(i), takes: i != n-1, declared: true, hold: i != 8, grade: mesh.GradeA, protected: i == 10}
		if i == 9 && rng.IntN(4) == 0 {
			s.grade = mesh.GradeC
		}
		s.component = []mesh.Service{s.name}
		s.startup = time.Duration(200+rng.IntN(1800)) * time.Millisecond
		s.deadline = time.Duration(5+rng.IntN(10)) * time.Second
		s.replicas = 1 + rng.IntN(3)
		s.full = rng.IntN(3) == 0
		for k := range s.replicas {
			name := fmt.Sprintf("s%02d-%d", i, k)
			s.instances = append(s.instances, &process{
				ref: mesh.Ref{Service: s.name, UID: mesh.UID(name), Incarnation: 1}, name: name,
			})
		}
		if s.replicas == 3 {
			s.least = rng.IntN(3)
			s.load = 1.2 * float64(rng.IntN(2))
		}
		w.services = append(w.services, s)
	}
	w.wire()
	w.rollback = rng.IntN(8) != 0
	for _, i := range []int{3, 7} {
		name := serviceName(i)
		w.objects = append(w.objects, &object{name: "configmap/" + string(name), service: name, at: "8"})
	}
	return w
}

func serviceName(i int) mesh.Service { return mesh.Service(fmt.Sprintf("shop/s%02d", i)) }

// wire draws the edges: every service but the first two is called by one or two before it.
func (w *world) wire() {
	w.services[0].callers = []mesh.Service{"outside/web"}
	for i := 1; i < len(w.services)-1; i++ {
		s := w.services[i]
		for range 1 + w.rng.IntN(2) {
			s.callers = append(s.callers, serviceName(w.rng.IntN(i)))
		}
		if w.rng.IntN(5) == 0 {
			s.sticky = []mesh.Service{s.callers[0]}
		}
	}
	a, b := w.services[5], w.services[6]
	a.callers, b.callers = append(a.callers, b.name), append(b.callers, a.name)
	a.component = []mesh.Service{a.name, b.name}
	b.component = a.component
	for _, s := range w.services {
		slices.Sort(s.callers)
		s.callers = slices.Compact(s.callers)
	}
	q := w.services[4]
	q.quorum = 2
	for len(q.instances) < 3 {
		name := fmt.Sprintf("s04-%d", len(q.instances))
		q.instances = append(q.instances, &process{ref: mesh.Ref{Service: q.name, UID: mesh.UID(name), Incarnation: 1}, name: name})
	}
	q.replicas = 3
	if w.rng.IntN(2) == 0 {
		q.instances[2].up, q.instances[2].sick = never, true
	}
	sick := w.services[1+w.rng.IntN(3)]
	sick.instances[0].up, sick.instances[0].sick = never, true
}

func (w *world) find(name mesh.Service) *service {
	for _, s := range w.services {
		if s.name == name {
			return s
		}
	}
	return nil
}

func (w *world) object(name string) *object {
	for _, o := range w.objects {
		if o.name == name {
			return o
		}
	}
	return nil
}

func (w *world) process(uid mesh.UID) *process {
	for _, s := range w.services {
		for _, p := range s.instances {
			if p.ref.UID == uid {
				return p
			}
		}
	}
	return nil
}

func (s *service) ready(at microkernel.Instant) int {
	n := 0
	for _, p := range s.instances {
		if p.up <= at {
			n++
		}
	}
	return n
}

// spared counts the ready instances that a drain leaves.
func (s *service) spared(drain *mesh.DrainOverlay, at microkernel.Instant) int {
	n := 0
	for _, p := range s.instances {
		if p.up <= at && !slices.Contains(drain.Instances, p.ref.UID) {
			n++
		}
	}
	return n
}

// restartSet is the closure of the named services over components and sticky callers.
func (w *world) restartSet(named []mesh.Service) []mesh.Service {
	var out []mesh.Service
	work := slices.Clone(named)
	for len(work) > 0 {
		name := work[0]
		work = work[1:]
		s := w.find(name)
		if s == nil || slices.Contains(out, name) {
			continue
		}
		out = append(out, name)
		work = append(work, s.component...)
		work = append(work, s.sticky...)
	}
	slices.Sort(out)
	return out
}

// radius is all that reach set by calls.
func (w *world) radius(set []mesh.Service) []mesh.Service {
	var out []mesh.Service
	work := slices.Clone(set)
	for len(work) > 0 {
		s := w.find(work[0])
		work = work[1:]
		if s == nil {
			continue
		}
		for _, c := range s.callers {
			if !slices.Contains(out, c) {
				out = append(out, c)
				work = append(work, c)
			}
		}
	}
	slices.Sort(out)
	return out
}

// callers are the direct callers of any of set, sorted.
func (w *world) callers(set []mesh.Service) []mesh.Service {
	var out []mesh.Service
	for _, name := range set {
		if s := w.find(name); s != nil {
			out = append(out, s.callers...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// view is what a driver would gather for a program that restarts, drains and otherwise
// acts on the services named.
func (w *world) view(restarted, drained, written []mesh.Service) microkernel.View {
	v := microkernel.View{
		Epoch: fmt.Sprintf("sha256:%d", w.epoch), GraphSize: len(w.services), Requests: 1000, Sampling: 1, Declared: true,
		RestartSet: w.restartSet(restarted),
	}
	written = slices.Concat(drained, written)
	v.BlastRadius = w.radius(slices.Concat(v.RestartSet, written))
	for _, name := range v.BlastRadius {
		if s := w.find(name); s != nil && s.broken {
			v.Incident = append(v.Incident, name)
		}
	}
	for _, name := range w.callers(slices.Concat(v.RestartSet, drained)) {
		if s := w.find(name); s != nil && s.full {
			v.Crowded = append(v.Crowded, name)
		}
	}
	// Names grow from callers to callees, but within the component, where any order is one.
	v.DrainOrder = slices.Clone(v.RestartSet)
	v.RestartSeq = slices.Clone(v.RestartSet)
	slices.Reverse(v.RestartSeq)
	v.RestoreSeq = v.RestartSeq
	all := slices.Concat(v.RestartSet, written)
	slices.Sort(all)
	for _, name := range slices.Compact(all) {
		if s := w.find(name); s != nil {
			v.Services = append(v.Services, w.serviceView(s))
			if !s.declared {
				v.Declared, v.Requests = false, 10
			}
		}
	}
	return v
}

func (w *world) serviceView(s *service) microkernel.ServiceView {
	out := microkernel.ServiceView{
		ServiceState: mesh.ServiceState{
			Name: s.name, Protocol: mesh.HTTP, Replicas: s.replicas, Startup: s.startup, Quorum: s.quorum,
			MinAvailable: s.least, Protected: s.protected,
			Instances: make([]mesh.Instance, len(s.instances)),
		},
		Capability: mesh.Capability{
			Drain: true, Hold: s.hold, Shed: true, Reroute: true, Limit: true, Break: true, InPlace: true,
			Grade: s.grade, Lapses: true,
		},
		FanIn: len(s.callers), Callers: s.callers, Owner: s.owner, Component: s.component, StickyCallers: s.sticky,
		RestartP99: s.startup, CallerDeadline: s.deadline, Rate: 100, Concurrency: 10, Takes: s.takes,
	}
	for i, p := range s.instances {
		out.Instances[i] = w.instance(p)
	}
	if ready := s.ready(w.now); ready > 0 {
		out.Utilisation = s.load / float64(ready)
	}
	return out
}

func (w *world) instance(p *process) mesh.Instance {
	state := mesh.Ready
	if p.up > w.now {
		state = mesh.Stopped
	}
	return mesh.Instance{Ref: p.ref, Name: p.name, State: state}
}

func (w *world) registry() []mesh.Instance {
	var out []mesh.Instance
	for _, s := range w.services {
		for _, p := range s.instances {
			out = append(out, w.instance(p))
		}
	}
	slices.SortFunc(out, func(a, b mesh.Instance) int { return strings.Compare(string(a.UID), string(b.UID)) })
	return out
}

// inForce lists the overlays that a proxy obeys now, sorted by key.
func (w *world) inForce() []mesh.Overlay {
	var out []mesh.Overlay
	for _, in := range w.overlays {
		if in.leaseEnd > w.now && slices.ContainsFunc(in.proxies, func(p proxy) bool { return p.obeys(w.now) }) {
			out = append(out, in.overlay)
		}
	}
	return out
}

// overlay returns what is installed under key, nil if nothing is.
func (w *world) overlay(key mesh.OverlayKey) *installed {
	if i, found := slices.BinarySearchFunc(w.overlays, key, byKey); found {
		return w.overlays[i]
	}
	return nil
}

// install adds what is installed under a key of its own.
func (w *world) install(in *installed) {
	i, _ := slices.BinarySearchFunc(w.overlays, in.key, byKey)
	w.overlays = slices.Insert(w.overlays, i, in)
}

func byKey(in *installed, key mesh.OverlayKey) int {
	return cmp.Or(cmp.Compare(in.key.Callee, key.Callee), cmp.Compare(in.key.Kind, key.Kind), cmp.Compare(in.key.Caller, key.Caller))
}

// busy reports whether requests may be in flight on the instance: some proxy of its
// callers does not keep away from it, or has not seen its last request end.
func (w *world) busy(uid mesh.UID) bool {
	p := w.process(uid)
	s := w.find(p.ref.Service)
	if !s.takes || p.up > w.now {
		return false
	}
	in := w.overlay(mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: s.name})
	if in == nil || in.leaseEnd <= w.now || !slices.Contains(in.overlay.Drain.Instances, uid) || in.overlay.Drain.Share < 100 {
		return true
	}
	return slices.ContainsFunc(in.proxies, func(p proxy) bool { return !p.obeys(w.now) || p.idle > w.now })
}

// crash loses what the control plane had sent but no proxy had taken yet.
func (w *world) crash() {
	for _, in := range w.overlays {
		for i := range in.proxies {
			p := &in.proxies[i]
			if p.from > w.now && w.rng.IntN(2) == 0 {
				p.from, p.to = never, never
			}
			if p.to > w.now && p.to != never && w.rng.IntN(2) == 0 {
				p.to = never
			}
		}
	}
}
