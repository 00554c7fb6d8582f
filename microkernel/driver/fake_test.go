package driver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
	"github.com/sluicemesh/sluice/topology"
)

const (
	front = mesh.Service("shop/front")
	cart  = mesh.Service("shop/cart")
	web   = mesh.Service("outside/web")
)

// fakeMesh is a world of its own: proxies that take overlays, and processes that restart.
// It outlives kernels, as a mesh does, and obeys the contracts of Traffic and Processes.
type fakeMesh struct {
	mu       sync.Mutex
	world    *mesh.World
	overlays map[mesh.OverlayKey]mesh.Overlay
	highest  uint64 // generation ever applied
	starts   map[mesh.Ref]int
	faults   []string // what must never happen
	applied  int

	nack    error         // of every Apply
	ackTime time.Duration // until an Apply or Withdraw is ACKed; negative = never
	startup time.Duration // until a restarted process is ready; negative = never
	busy    bool          // requests never end
	refuse  int           // Withdraws that fail before one does not
}

func newMesh() *fakeMesh {
	loopback := netip.MustParseAddr("127.0.0.1")
	instance := func(s mesh.Service, port uint16) mesh.Instance {
		return mesh.Instance{
			Ref: mesh.Ref{Service: s, UID: mesh.UID(s.Name() + "-uid"), Incarnation: 1}, Name: s.Name() + "-0",
			State: mesh.Ready, Inbound: netip.AddrPortFrom(loopback, port), Proxy: s.Name() + "-0",
		}
	}
	return &fakeMesh{
		overlays: map[mesh.OverlayKey]mesh.Overlay{}, starts: map[mesh.Ref]int{},
		ackTime: 20 * time.Millisecond, startup: 2 * time.Second,
		world: &mesh.World{
			Version: 1,
			Services: []mesh.ServiceState{
				{Name: cart, Protocol: mesh.HTTP, Replicas: 1, Startup: 2 * time.Second,
					Instances: []mesh.Instance{instance(cart, 20001)}},
				{Name: front, Protocol: mesh.HTTP, Replicas: 1, Startup: 2 * time.Second,
					Upstreams: []mesh.Upstream{{Service: cart, Timeout: 10 * time.Second}},
					Instances: []mesh.Instance{instance(front, 20002)}},
			},
			Gateways: []mesh.Gateway{{Name: web, Service: front, Proxy: "web"}},
		},
	}
}

func (m *fakeMesh) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func wait(ctx context.Context, d time.Duration) error {
	if d < 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *fakeMesh) Apply(ctx context.Context, o mesh.Overlay) (mesh.Acks, error) {
	m.mu.Lock()
	if m.nack != nil {
		m.mu.Unlock()
		return mesh.Acks{}, m.nack
	}
	if have, there := m.overlays[o.Key]; there && have.Generation > o.Generation {
		m.fault("generation %d of %s applied over %d", o.Generation, o.Key.Callee, have.Generation)
	}
	if o.Generation < m.highest {
		m.fault("generation %d applied after %d", o.Generation, m.highest)
	}
	m.highest = max(m.highest, o.Generation)
	m.overlays[o.Key] = o
	m.applied++
	m.mu.Unlock()
	err := wait(ctx, m.ackTime)
	return mesh.Acks{Required: 2, Acked: 2, Last: m.ackTime}, err
}

func (m *fakeMesh) Prove(
	ctx context.Context, key mesh.OverlayKey, generation uint64, report func(mesh.Proof),
) error {
	proof := mesh.Proof{Key: key, Generation: generation, Required: 2, Acked: 2, Reported: 2, InFlight: 3, Inbound: 3}
	report(proof)
	for quiet := time.Duration(0); ; quiet += 30 * time.Millisecond {
		if wait(ctx, 30*time.Millisecond) != nil {
			return nil
		}
		m.mu.Lock()
		have, there := m.overlays[key]
		busy := m.busy
		m.mu.Unlock()
		if !there || have.Generation != generation {
			return errors.New("the overlay is gone")
		}
		if !busy {
			proof.InFlight, proof.Inbound, proof.Quiet = 0, 0, quiet
		}
		report(proof)
		if quiet > time.Second {
			<-ctx.Done()
			return nil
		}
	}
}

func (m *fakeMesh) Extend(_ context.Context, key mesh.OverlayKey, generation uint64, _ time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if have, there := m.overlays[key]; !there || have.Generation != generation {
		return errors.New("no such overlay")
	}
	return nil
}

func (m *fakeMesh) Withdraw(ctx context.Context, key mesh.OverlayKey, ramp time.Duration) error {
	m.mu.Lock()
	if m.refuse > 0 {
		m.refuse--
		m.mu.Unlock()
		return errors.New("not now")
	}
	delete(m.overlays, key)
	m.mu.Unlock()
	return wait(ctx, max(m.ackTime, 0)+ramp)
}

func (m *fakeMesh) Installed() []mesh.Overlay {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []mesh.Overlay
	for _, o := range m.overlays {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b mesh.Overlay) int { return int(a.Generation) - int(b.Generation) })
	return out
}

func (m *fakeMesh) World() *mesh.World {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.world
}

// change replaces the world by one in which the instance of ref is now.
func (m *fakeMesh) change(uid mesh.UID, now func(*mesh.Instance)) mesh.Instance {
	next := *m.world
	next.Version++
	next.Services = slices.Clone(next.Services)
	var out mesh.Instance
	for i := range next.Services {
		next.Services[i].Instances = slices.Clone(next.Services[i].Instances)
		for k := range next.Services[i].Instances {
			if in := &next.Services[i].Instances[k]; in.UID == uid {
				now(in)
				out = *in
			}
		}
	}
	m.world = &next
	return out
}

// Restart obeys Processes: at most one start an incarnation, and it goes on when ctx ends.
func (m *fakeMesh) Restart(ctx context.Context, ref mesh.Ref, _ isa.Mode) (mesh.Instance, error) {
	m.mu.Lock()
	_, in := m.world.Instance(ref.UID)
	if in.Incarnation == ref.Incarnation {
		m.begin(ref)
	}
	m.mu.Unlock()
	for {
		if _, in := m.World().Instance(ref.UID); in.State == mesh.Ready && in.Incarnation > ref.Incarnation {
			return *in, nil
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return mesh.Instance{}, err
		}
	}
}

func (m *fakeMesh) begin(ref mesh.Ref) {
	m.starts[ref]++
	drained := false
	for _, o := range m.overlays {
		drained = drained || o.Drain != nil && slices.Contains(o.Drain.Instances, ref.UID)
	}
	if !drained {
		m.fault("%s restarted while it takes traffic", ref.UID)
	}
	m.change(ref.UID, func(in *mesh.Instance) {
		in.Incarnation++
		in.State = mesh.Starting
	})
	if m.startup < 0 {
		return
	}
	time.AfterFunc(m.startup, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.change(ref.UID, func(in *mesh.Instance) { in.State = mesh.Ready })
	})
}

func (m *fakeMesh) Snapshot() *topology.Snapshot {
	g := topology.NewGraph()
	g.Register(m.World())
	now := time.Now()
	for _, edge := range [][2]mesh.Service{{web, front}, {front, cart}} {
		g.Observe(topology.Call{
			Caller: edge[0], Callee: edge[1], At: now, Latency: time.Millisecond,
			Source: topology.AccessLog, Weight: 5000,
		})
	}
	return g.Snapshot(now)
}

// calm is a Monitor that finds nothing, or harm after a while.
type calm struct {
	harmAfter time.Duration // 0 = never
}

func (c calm) Watch(ctx context.Context, order microkernel.Watch) (microkernel.HarmVerdict, error) {
	if c.harmAfter > 0 {
		if err := wait(ctx, c.harmAfter); err != nil {
			return microkernel.HarmVerdict{}, err
		}
		return microkernel.HarmVerdict{Label: microkernel.Harm, Service: front, Evidence: "it burns"}, nil
	}
	after := order.For
	if after == 0 {
		after = -1
	}
	if err := wait(ctx, after); err != nil {
		return microkernel.HarmVerdict{}, err
	}
	return microkernel.HarmVerdict{Label: microkernel.Clean, Evidence: "all is well"}, nil
}

// pages collects pages.
type pages struct {
	mu  sync.Mutex
	all []string
}

func (p *pages) Page(_ context.Context, _ microkernel.PlanID, reason string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, reason)
	return nil
}

func configOf(m *fakeMesh, j Journal) Config {
	return Config{
		Policy: microkernel.DefaultPolicy(), Open: func() (Journal, error) { return j, nil },
		Traffic: m, Processes: m, Topology: m, Monitor: calm{}, Pager: &pages{},
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Tracer: noop.NewTracerProvider().Tracer(""), Metrics: prometheus.NewRegistry(), Capabilities: httpSidecars,
	}
}

// httpSidecars is what can be done where every service speaks HTTP behind sidecars: all of
// it. What is true of other services is xds.Capability's to say.
func httpSidecars(*mesh.ServiceState) mesh.Capability {
	return mesh.Capability{
		Drain: true, Hold: true, Shed: true, Reroute: true, Limit: true, Break: true, InPlace: true,
		Grade: mesh.GradeA, Lapses: true,
	}
}

// start starts a kernel that is closed with the test.
func start(t *testing.T, cfg Config) *Kernel {
	t.Helper()
	k, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return k
}

var operator = microkernel.Principal{Name: "olga", Role: microkernel.Approver}
var agent = microkernel.Principal{Name: "rules", Role: microkernel.Proposer}

// restartCart drains the only instance of cart with hold, restarts and restores it.
func restartCart(id string) isa.Program {
	return isa.Program{
		ID: id,
		Steps: []isa.Step{
			{ID: "d1", Action: isa.Drain{
				Target: isa.Target{Service: cart}, Share: 100, OnEmpty: mesh.OnEmptyHold,
				Deadline: 20 * time.Second, Lease: 60 * time.Second,
			}},
			{ID: "r1", After: []isa.StepID{"d1"}, Action: isa.Restart{
				Target: isa.Target{Service: cart}, Mode: isa.InPlace, Drain: "d1", Deadline: 8 * time.Second,
			}},
			{ID: "t1", After: []isa.StepID{"r1"}, Action: isa.RestoreTraffic{Drain: "d1"}},
		},
		Verify: []isa.Check{{Service: cart, For: 5 * time.Second}},
	}
}

// ended waits for the plan's final phase.
func ended(t *testing.T, k *Kernel, id microkernel.PlanID) microkernel.Record {
	t.Helper()
	records, cancel := k.Watch(id)
	defer cancel()
	timeout := time.After(20 * time.Minute)
	for {
		select {
		case r, open := <-records:
			if !open {
				t.Fatalf("plan %s: the watch ended before it did", id)
			}
			if r.Phase.Final() {
				return r
			}
		case <-timeout:
			r, _ := k.Record(id)
			t.Fatalf("plan %s is still %s: %s; %s", id, r.Phase, r.Reason, r.Waiting)
		}
	}
}

// replayed returns the state that a journal gives.
func replayed(t *testing.T, j *journal.Memory) microkernel.State {
	t.Helper()
	state := microkernel.New(microkernel.DefaultPolicy())
	if err := j.Replay(func(e journal.Entry) error {
		state, _ = microkernel.Step(state, e.Event)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return state
}
