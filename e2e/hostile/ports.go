package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/driver"
	"github.com/sluicemesh/sluice/topology"
)

// platform is the mesh and the processes under a plane, in memory: it obeys the
// contracts of the driver's ports, counts what was done to it, and can be told to
// resist. It outlives kernels, as a mesh does.
type platform struct {
	clock    *clock
	mu       sync.Mutex
	world    *mesh.World
	overlays map[mesh.OverlayKey]mesh.Overlay
	graph    *topology.Graph
	snapshot *topology.Snapshot
	loads    map[mesh.Service]float64
	symptoms []topology.Symptom
	starts   map[mesh.Ref]int
	touched  map[string]int // overlays applied, restarts and scales by plan or "*"
	pages    []string
	faults   []string // what must never happen
	busy     int      // calls of ports that do something

	refuseApply    func(mesh.Overlay) error // nil = ACK
	muteApply      bool                     // no ACK ever comes
	refuseWithdraw func(mesh.OverlayKey) error
	refuseRestart  func(mesh.Ref) error
	refuseScale    error
	refuseRevision error
	revisions      map[string]string // of the objects, where it is not the first
}

func newPlatform(f *fleet, c *clock) *platform {
	p := &platform{
		clock: c, world: f.world(), overlays: map[mesh.OverlayKey]mesh.Overlay{}, loads: f.loads,
		starts: map[mesh.Ref]int{}, touched: map[string]int{}, revisions: map[string]string{},
	}
	p.graph = f.graph(p.world, c.Now())
	p.snapshot = p.graph.Snapshot(c.Now())
	return p
}

// state is what an attack must leave as it was. Counters only grow.
func (p *platform) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, s := range p.world.Services {
		for _, in := range s.Instances {
			if in.Incarnation != 1 || in.State != mesh.Ready {
				fmt.Fprintf(&b, "%s %d %s; ", in.UID, in.Incarnation, in.State)
			}
		}
	}
	return fmt.Sprintf("%d overlays, changes %v, instances %s", len(p.overlays), p.touched, b.String())
}

// enter and leave bracket work; between leave and enter a port waits for the world.
func (p *platform) enter() {
	p.mu.Lock()
	p.busy++
	p.mu.Unlock()
}

func (p *platform) leave() {
	p.mu.Lock()
	p.busy--
	p.mu.Unlock()
}

// Apply implements driver.Traffic.
func (p *platform) Apply(ctx context.Context, o mesh.Overlay) (mesh.Acks, error) {
	p.mu.Lock()
	if refuse := p.refuseApply; refuse != nil {
		if err := refuse(o); err != nil {
			p.mu.Unlock()
			return mesh.Acks{}, err
		}
	}
	p.overlays[o.Key] = o
	p.touched[o.Plan]++
	mute := p.muteApply
	p.mu.Unlock()
	if mute {
		<-ctx.Done()
		return mesh.Acks{Required: 2, Acked: 1}, ctx.Err()
	}
	return mesh.Acks{Required: 2, Acked: 2}, nil
}

// Prove implements driver.Traffic: whatever is drained is empty at once.
func (p *platform) Prove(
	ctx context.Context, key mesh.OverlayKey, generation uint64, report func(mesh.Proof),
) error {
	p.enter()
	report(mesh.Proof{
		Key: key, Generation: generation, Required: 2, Acked: 2, Reported: 2, Quiet: time.Second,
	})
	p.leave()
	<-ctx.Done()
	return nil
}

// Extend implements driver.Traffic.
func (p *platform) Extend(_ context.Context, key mesh.OverlayKey, generation uint64, _ time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have, there := p.overlays[key]; !there || have.Generation != generation {
		return errors.New("no such overlay")
	}
	return nil
}

// Withdraw implements driver.Traffic.
func (p *platform) Withdraw(_ context.Context, key mesh.OverlayKey, _ time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuseWithdraw != nil {
		if err := p.refuseWithdraw(key); err != nil {
			return err
		}
	}
	delete(p.overlays, key)
	return nil
}

// Installed implements driver.Traffic.
func (p *platform) Installed() []mesh.Overlay {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.overlays), func(a, b mesh.Overlay) int {
		return strings.Compare(fmt.Sprint(a.Key), fmt.Sprint(b.Key))
	})
}

// World implements driver.Processes.
func (p *platform) World() *mesh.World {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.world
}

// Restart implements driver.Processes: an incarnation is started at most once.
func (p *platform) Restart(_ context.Context, ref mesh.Ref, _ isa.Mode) (mesh.Instance, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, in := p.world.Instance(ref.UID)
	if in == nil {
		return mesh.Instance{}, &driver.Refused{Code: isa.CodeUnknownTarget, Reason: "no such instance"}
	}
	if in.Incarnation > ref.Incarnation {
		return *in, nil
	}
	if p.refuseRestart != nil {
		if err := p.refuseRestart(ref); err != nil {
			return mesh.Instance{}, err
		}
	}
	p.checkDrained(ref)
	p.starts[ref]++
	p.touched["*"]++
	return p.set(ref.UID, func(in *mesh.Instance) { in.Incarnation++ }), nil
}

// checkDrained notes a restart of what takes traffic.
func (p *platform) checkDrained(ref mesh.Ref) {
	for _, o := range p.overlays {
		if o.Drain != nil && slices.Contains(o.Drain.Instances, ref.UID) {
			return
		}
	}
	if len(p.snapshot.Callers(ref.Service)) > 0 {
		p.faults = append(p.faults, fmt.Sprintf("%s was restarted while it takes traffic", ref.UID))
	}
}

// set replaces the world by one in which an instance is different.
func (p *platform) set(uid mesh.UID, change func(*mesh.Instance)) mesh.Instance {
	next := *p.world
	next.Version++
	next.Services = slices.Clone(next.Services)
	var out mesh.Instance
	for i := range next.Services {
		k := slices.IndexFunc(next.Services[i].Instances, func(in mesh.Instance) bool { return in.UID == uid })
		if k < 0 {
			continue
		}
		next.Services[i].Instances = slices.Clone(next.Services[i].Instances)
		change(&next.Services[i].Instances[k])
		out = next.Services[i].Instances[k]
	}
	p.world = &next
	return out
}

// Scale implements driver.Scaler.
func (p *platform) Scale(_ context.Context, service mesh.Service, replicas int) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuseScale != nil {
		return 0, p.refuseScale
	}
	p.touched["*"]++
	return p.world.Find(service).Replicas, nil
}

// Owner implements driver.Scaler: an autoscaler has shop/other.
func (p *platform) Owner(service mesh.Service) string {
	if service == "shop/other" {
		return "HorizontalPodAutoscaler shop/other"
	}
	return ""
}

// Object implements driver.Configs.
func (p *platform) Object(name string) (microkernel.ObjectView, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var o microkernel.ObjectView
	switch name {
	case "configmap/shop/cart":
		o = microkernel.ObjectView{Services: []mesh.Service{"shop/cart"}, Current: "8", Known: []string{"7", "8"}, Denied: []string{"6"}}
	case "deployment/shop/leaf":
		o = microkernel.ObjectView{Services: []mesh.Service{"shop/leaf"}, Current: "41", Known: []string{"40", "41"}}
	case "configmap/shop/front":
		o = microkernel.ObjectView{Services: []mesh.Service{"shop/front"}, Current: "3", Known: []string{"2", "3"}, Owner: "Argo CD application shop"}
	default:
		return o, false
	}
	if now, set := p.revisions[name]; set {
		o.Current = now
	}
	return o, true
}

// SetRevision implements driver.Configs.
func (p *platform) SetRevision(_ context.Context, object, revision string) (string, error) {
	o, found := p.Object(object)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !found || p.refuseRevision != nil {
		return "", p.refuseRevision
	}
	p.touched["*"]++
	p.revisions[object] = revision
	return o.Current, nil
}

// Page implements driver.Pager.
func (p *platform) Page(_ context.Context, _ microkernel.PlanID, reason string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pages = append(p.pages, reason)
	return nil
}

// Snapshot implements driver.Topology.
func (p *platform) Snapshot() *topology.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot
}

// observe adds evidence to the graph and shows it.
func (p *platform) observe(change func(*topology.Graph)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p.graph)
	p.snapshot = p.graph.Snapshot(p.clock.Now())
}

// Symptoms implements driver.Symptoms.
func (p *platform) Symptoms() []topology.Symptom {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.symptoms
}

// Load implements driver.Loads.
func (p *platform) Load(service mesh.Service) driver.Load {
	return driver.Load{Rate: p.loads[service], Concurrency: p.loads[service] / 10}
}

// Watch implements driver.Monitor: nothing is ever wrong.
func (p *platform) Watch(ctx context.Context, order microkernel.Watch) (microkernel.HarmVerdict, error) {
	if order.For == 0 {
		<-ctx.Done()
		return microkernel.HarmVerdict{}, ctx.Err()
	}
	if err := p.clock.wait(ctx, order.For); err != nil {
		return microkernel.HarmVerdict{}, err
	}
	return microkernel.HarmVerdict{Label: microkernel.Clean, Evidence: "nothing was seen"}, nil
}
