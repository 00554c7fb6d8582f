package explore

import (
	"cmp"
	"slices"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
)

// proxies is how many proxies every overlay has to reach. They are alike, so that only
// how many of them are in a state matters.
const proxies = 2

// node is one state of the kernel and of the world. It is a value: moves work on clones.
type node struct {
	kernel    microkernel.State
	like      microkernel.Likeness // of kernel
	now       microkernel.Instant  // moves only when a timer runs out, or in an outage
	left      Budget
	process   int  // of the control plane, from 1
	down      bool // no process runs
	sent      [2]bool
	replicas  [3]int // wanted, by service
	revised   bool   // the object is at revision goodRevision
	instances []instance
	overlays  []overlay // sorted by key
	orders    []order   // that the present process has out; sorted
	timers    []timer   // of the present process; sorted by instant
	reboots   []reboot  // carried out
	formers   []former
	journal   []microkernel.Event // in a drill, since base
	base      microkernel.State   // as the last recovery replayed it, or a new one
}

type instance struct {
	ref  mesh.Ref
	up   bool
	dead bool // will not come up any more
}

// overlay is what the proxies know under one key.
type overlay struct {
	overlay  mesh.Overlay
	leaseEnd microkernel.Instant
	obey     int // proxies that obey it ...
	acked    int // ... and ACKed this generation
	busy     int // proxies that obey it and have a request from before in flight
	lapsed   bool
	removing bool // a withdrawal is on its way
	stuck    bool // the mesh refuses to give it back, for good
	proved   int  // the process that was given a proof of emptiness of this generation
}

// order is an effect that is not answered yet.
type order struct {
	effect microkernel.Effect
	kind   byte
	plan   microkernel.PlanID
	step   isa.StepID
	number uint64 // generation, replicas, or the last picture that was told
	done   bool   // carried out; only an answer is still to come
}

type timer struct {
	id  microkernel.TimerID
	due microkernel.Instant
}

// reboot is a restart that was carried out, and of what.
type reboot struct {
	plan microkernel.PlanID
	step isa.StepID
	ref  mesh.Ref
}

// former is how many replicas there were before a Scale.
type former struct {
	plan     microkernel.PlanID
	step     isa.StepID
	replicas int
}

// newNode is the world before anything has happened.
func newNode(s *Setup, left Budget) *node {
	n := &node{kernel: microkernel.New(microkernel.DefaultPolicy()), now: microkernel.Instant(time.Hour), left: left, process: 1, down: true}
	n.replicas = [3]int{1, s.Replicas, 1}
	for i, name := range services() {
		for k := range n.replicas[i] {
			uid := mesh.UID(name.Name() + "-" + string(rune('0'+k)))
			n.instances = append(n.instances, instance{ref: mesh.Ref{Service: name, UID: uid, Incarnation: 1}, up: name != s.Down, dead: name == s.Down})
		}
	}
	return n
}

func services() [3]mesh.Service { return [3]mesh.Service{web, cart, db} }

func (n *node) clone() *node {
	c := *n
	c.instances = slices.Clone(n.instances)
	c.overlays = slices.Clone(n.overlays)
	c.orders = slices.Clone(n.orders)
	c.timers = slices.Clone(n.timers)
	c.reboots = slices.Clone(n.reboots)
	c.formers = slices.Clone(n.formers)
	return &c
}

// overlay returns the index of what is installed under key, and whether anything is.
func (n *node) overlay(key mesh.OverlayKey) (int, bool) {
	return slices.BinarySearchFunc(n.overlays, key, func(o overlay, k mesh.OverlayKey) int {
		return cmp.Or(cmp.Compare(o.overlay.Key.Callee, k.Callee), cmp.Compare(o.overlay.Key.Kind, k.Kind),
			cmp.Compare(o.overlay.Key.Caller, k.Caller))
	})
}

func (n *node) instance(uid mesh.UID) *instance {
	i := slices.IndexFunc(n.instances, func(in instance) bool { return in.ref.UID == uid })
	if i < 0 {
		return nil
	}
	return &n.instances[i]
}

// ready counts the instances of a service that are up, but for those in without.
func (n *node) ready(s mesh.Service, without []mesh.UID) int {
	count := 0
	for i := range n.instances {
		in := &n.instances[i]
		if in.ref.Service == s && in.up && !slices.Contains(without, in.ref.UID) {
			count++
		}
	}
	return count
}

// busy reports whether requests may be in flight on the instance.
func (n *node) busy(in *instance) bool {
	i, found := n.overlay(mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: in.ref.Service})
	if !in.up {
		return false
	}
	if !found || !slices.Contains(n.overlays[i].overlay.Drain.Instances, in.ref.UID) {
		return true
	}
	o := &n.overlays[i]
	return o.lapsed || o.obey < proxies || o.busy > 0
}

// want adds an order, instead of one of the same kind, plan and step.
func (n *node) want(o order) {
	n.drop(o)
	i, _ := slices.BinarySearchFunc(n.orders, o, compareOrders)
	n.orders = slices.Insert(n.orders, i, o)
}

func (n *node) drop(o order) {
	n.orders = slices.DeleteFunc(n.orders, func(p order) bool { return compareOrders(p, o) == 0 })
}

func compareOrders(a, b order) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.plan, b.plan), cmp.Compare(a.step, b.step))
}

// pass lets time pass until at: leases end.
func (n *node) pass(at microkernel.Instant) {
	n.now = max(n.now, at)
	for i := range n.overlays {
		o := &n.overlays[i]
		if o.leaseEnd <= n.now && !o.lapsed {
			o.lapsed, o.obey, o.busy = true, 0, 0
		}
	}
}

// crash ends the process. What it had sent and no proxy had taken is lost.
func (n *node) crash() {
	n.left.Crashes--
	n.down = true
	n.process++
	n.orders, n.timers = nil, nil
	for i := range n.overlays {
		n.overlays[i].removing = false
	}
}

// view gathers the facts that a verdict on p needs.
func (n *node) view(s *Setup, p isa.Program) microkernel.View {
	v := microkernel.View{Epoch: "sha256:1", GraphSize: 3, Requests: 1000, Sampling: 1, Declared: true}
	touched := map[mesh.Service]bool{}
	for i := range p.Steps {
		switch a := p.Steps[i].Action.(type) {
		case isa.Restart:
			v.RestartSet = append(v.RestartSet, a.Target.Service)
			if s.Sticky && a.Target.Service == cart {
				v.RestartSet = append(v.RestartSet, web)
			}
		case isa.Drain:
			touched[a.Target.Service] = true
			touched[a.To] = true
		case isa.RateLimit:
			touched[a.Target.Service] = true
		case isa.CircuitBreak:
			touched[a.Target.Service] = true
		case isa.Scale:
			touched[a.Target.Service] = true
		}
	}
	v.Rollback = true
	v.Objects = []microkernel.ObjectView{{
		Name: object, Services: []mesh.Service{cart}, Current: n.revision(), Known: []string{goodRevision, badRevision},
	}}
	slices.Sort(v.RestartSet)
	v.RestartSet = slices.Compact(v.RestartSet)
	for _, name := range v.RestartSet {
		touched[name] = true
	}
	depth := 0
	for i, name := range services() { // callers come before callees
		if touched[name] {
			v.Services = append(v.Services, n.serviceView(s, i))
			depth = i
		}
		if slices.Contains(v.RestartSet, name) {
			v.DrainOrder = append(v.DrainOrder, name)
		}
	}
	v.RestartSeq = slices.Clone(v.DrainOrder)
	slices.Reverse(v.RestartSeq)
	v.RestoreSeq = v.RestartSeq
	v.BlastRadius = append([]mesh.Service{"outside/web"}, callers(depth)...)
	slices.SortFunc(v.Services, func(a, b microkernel.ServiceView) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(v.BlastRadius)
	return v
}

// The one configuration object of the world, and its revisions.
const (
	object       = "configmap/shop/cart"
	goodRevision = "7"
	badRevision  = "8"
)

func (n *node) revision() string {
	if n.revised {
		return goodRevision
	}
	return badRevision
}

// callers are the services above the one at depth.
func callers(depth int) []mesh.Service {
	all := services()
	return slices.Clone(all[:depth])
}

func (n *node) serviceView(s *Setup, i int) microkernel.ServiceView {
	name := services()[i]
	out := microkernel.ServiceView{
		ServiceState: mesh.ServiceState{Name: name, Protocol: mesh.HTTP, Replicas: n.replicas[i], Startup: time.Second},
		Capability: mesh.Capability{
			Drain: true, Hold: true, Shed: true, Reroute: true, Limit: true, Break: true, InPlace: true, Grade: mesh.GradeA, Lapses: true,
		},
		FanIn: 1, Callers: []mesh.Service{"outside/web"}, Component: []mesh.Service{name}, RestartP99: time.Second,
		CallerDeadline: 10 * time.Second, Rate: 100, Concurrency: 10, Takes: true,
	}
	if i > 0 {
		out.Callers = []mesh.Service{services()[i-1]}
	}
	if s.Sticky && name == cart {
		out.StickyCallers = []mesh.Service{web}
	}
	if s.Quorum && name == db {
		out.Quorum = 1
	}
	if s.Slow && name == cart {
		out.CallerDeadline = 100 * time.Millisecond
	}
	for k := range n.instances {
		if n.instances[k].ref.Service == name {
			out.Instances = append(out.Instances, n.instances[k].shown())
		}
	}
	if ready := n.ready(name, nil); ready > 0 && name == cart {
		out.Utilisation = s.Load / float64(ready)
	}
	return out
}

func (in *instance) shown() mesh.Instance {
	state := mesh.Ready
	if !in.up {
		state = mesh.Stopped
	}
	return mesh.Instance{Ref: in.ref, Name: string(in.ref.UID), State: state}
}
