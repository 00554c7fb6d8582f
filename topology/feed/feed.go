// Package feed holds the call graph that evidence flows into while the control plane
// runs: it owns the lock and the clock that package topology does without. Once a
// second it takes a snapshot and looks for symptoms. It is not for deciding anything.
package feed

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/topology"
	"github.com/sluicemesh/sluice/topology/symptom"
)

// lag is how long after a second's end its evidence may still arrive: proxies flush
// their access log every 100 ms.
const lag = 250 * time.Millisecond

// Feed is safe for concurrent use.
type Feed struct {
	now func() time.Time

	mu       sync.Mutex // guards graph to silent
	graph    *topology.Graph
	detector *symptom.Detector

	connected func() bool // see Sources
	heard     bool        // a call was observed since the last tick
	silent    silence

	world    atomic.Pointer[mesh.World]
	snapshot atomic.Pointer[topology.Snapshot]
	symptoms atomic.Pointer[[]symptom.Symptom]
}

// New returns a feed without any evidence.
func New(now func() time.Time) *Feed {
	f := &Feed{now: now, graph: topology.NewGraph(), detector: symptom.New(symptom.Defaults())}
	f.world.Store(&mesh.World{})
	f.snapshot.Store(f.graph.Snapshot(now()))
	f.symptoms.Store(&[]symptom.Symptom{})
	return f
}

// SetWorld replaces the registry: services, instances, objectives, declared edges.
func (f *Feed) SetWorld(world *mesh.World) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.graph.Register(world)
	f.world.Store(world)
	f.snapshot.Store(f.graph.Snapshot(f.now()))
}

// Sources tells f how to ask whether any source of evidence is there at this moment: an
// idle mesh sends no evidence, and so does one whose proxies are all cut off. connected is
// called once a second. Without Sources some source is always there.
func (f *Feed) Sources(connected func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.connected = connected
}

// Reporting reports whether a call in a Unix second could have been reported: false if,
// at the tick after it, no source was there and nothing had been heard since the tick
// before. It is true of seconds for which there was no tick, and of the distant past.
func (f *Feed) Reporting(second int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.silent.has(second)
}

// silence remembers the last seconds that were silent, each at its place in the ring.
type silence [64]int64

func (s *silence) add(second int64)      { s[uint64(second)%uint64(len(s))] = second }
func (s *silence) has(second int64) bool { return s[uint64(second)%uint64(len(s))] == second }

// World returns the registry; it must not be changed.
func (f *Feed) World() *mesh.World { return f.world.Load() }

// Observe adds the evidence of one call.
func (f *Feed) Observe(call topology.Call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.graph.Observe(call)
	f.heard = true
}

// ObserveAll adds the evidence of several calls, at once.
func (f *Feed) ObserveAll(calls []topology.Call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.graph.ObserveAll(calls)
	f.heard = f.heard || len(calls) > 0
}

// Snapshot returns the graph as it was at most a second ago.
func (f *Feed) Snapshot() *topology.Snapshot { return f.snapshot.Load() }

// Present returns the symptoms found at the last tick, sorted by service.
func (f *Feed) Present() []symptom.Symptom { return slices.Clone(*f.symptoms.Load()) }

// Run ticks once a second, shortly after each full second, until ctx ends. expected
// names the services that are being restarted on purpose.
func (f *Feed) Run(ctx context.Context, expected func() []mesh.Service) {
	for {
		now := f.now()
		next := now.Add(-lag).Truncate(time.Second).Add(time.Second + lag)
		select {
		case <-ctx.Done():
			return
		case <-time.After(next.Sub(now)):
		}
		f.tick(expected())
	}
}

// tick takes a snapshot and looks for symptoms.
func (f *Feed) tick(expected []mesh.Service) {
	present := f.present()
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if !f.heard && !present {
		f.silent.add(now.Unix() - 1)
	}
	f.heard = false
	snapshot := f.graph.Snapshot(now)
	f.detector.Expect(expected)
	found := f.detector.Tick(now, f.world.Load(), snapshot.Series())
	f.snapshot.Store(snapshot)
	f.symptoms.Store(&found)
}

// present asks whether any source of evidence is there; it does not hold the lock
// meanwhile, for who answers has locks of its own.
func (f *Feed) present() bool {
	f.mu.Lock()
	connected := f.connected
	f.mu.Unlock()
	return connected == nil || connected()
}
