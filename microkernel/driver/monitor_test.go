package driver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/harm"
	"github.com/sluicemesh/sluice/topology"
)

// steady gives every service 100 requests a second; from second bad on, half of those of
// one service fail.
type steady struct {
	ill mesh.Service
	bad int64
}

func (s steady) Tick(service mesh.Service, second int64) (harm.Tick, bool) {
	tick := harm.Tick{Requests: 100, Hist: &topology.Histogram{}}
	for range 100 {
		tick.Hist.Add(4 * time.Millisecond)
	}
	if service == s.ill && second >= s.bad {
		tick.Errors = 50
	}
	return tick, true
}

func watcher(m *fakeMesh, stats Stats) *Watcher {
	return NewWatcher(WatcherSettings{
		Stats: stats, Topology: m, World: m.World, Now: time.Now, Window: 5 * time.Second,
	})
}

func TestTheWatcherJudgesAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		verdict, err := watcher(newMesh(), steady{}).Watch(t.Context(), microkernel.Watch{
			Plan: "p", Services: []mesh.Service{cart, front, web}, For: 10 * time.Second,
		})
		if err != nil || verdict.Label != microkernel.Clean {
			t.Errorf("Watch = %+v, %v", verdict, err)
		}
		if took := time.Since(began); took < 10*time.Second || took > 13*time.Second {
			t.Errorf("judged after %v", took)
		}
	})
}

func TestTheWatcherNoticesHarmAgainstTheFrozenBaseline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watcher(newMesh(), steady{ill: front, bad: time.Now().Unix() + 2})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		order := microkernel.Watch{Plan: "p", Services: []mesh.Service{cart, front}, Disturbed: []mesh.Service{cart}}
		if _, err := w.Watch(ctx, order); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Watch = %v", err)
		}
		<-time.After(50 * time.Second) // a new baseline would be bad by now
		order.For = 30 * time.Second
		verdict, err := w.Watch(t.Context(), order)
		if err != nil || verdict.Label != microkernel.Harm || verdict.Service != front {
			t.Errorf("Watch = %+v, %v", verdict, err)
		}
	})
}

// Requests that hang at a broken service fail at its callers after the plan has begun.
func TestWhatTheFaultStillDoesToItsCallersIsNoHarm(t *testing.T) {
	for name, test := range map[string]struct {
		symptoms []mesh.Service
		want     microkernel.HarmLabel
	}{
		"cart is broken": {[]mesh.Service{cart}, microkernel.Clean},
		"nothing was":    {nil, microkernel.Harm},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now().Unix()
				w := watcher(newMesh(), failing4s{front, now + 2})
				verdict, err := w.Watch(t.Context(), microkernel.Watch{
					Plan: "p", Services: []mesh.Service{cart, front}, Symptoms: test.symptoms, For: 20 * time.Second,
				})
				if err != nil || verdict.Label != test.want {
					t.Errorf("Watch = %+v, %v, want %s", verdict, err, test.want)
				}
			})
		})
	}
}

// failing4s gives every service 100 requests a second; those of one all fail for 4 s.
type failing4s struct {
	ill  mesh.Service
	from int64
}

func (f failing4s) Tick(service mesh.Service, second int64) (harm.Tick, bool) {
	tick, _ := steady{}.Tick(service, second)
	if service == f.ill && second >= f.from && second < f.from+4 {
		tick.Errors = 100
	}
	return tick, true
}

func TestWhoCallsADisturbedServiceIsDisturbedWhileThePlanRuns(t *testing.T) {
	w := watcher(newMesh(), steady{})
	order := microkernel.Watch{Plan: "p", Services: []mesh.Service{cart, front, web}, Disturbed: []mesh.Service{cart}}
	for _, s := range w.subjects(order, time.Now()) {
		if !s.Disturbed {
			t.Errorf("%s is not disturbed", s.Service)
		}
	}
	order.For = time.Second
	for _, s := range w.subjects(order, time.Now()) {
		if s.Disturbed != (s.Service == cart) {
			t.Errorf("%s: disturbed %v while it is verified", s.Service, s.Disturbed)
		}
	}
}

// slowly gives every service 100 requests a second of 4 ms; of some they take longer in
// some seconds.
type slowly struct {
	services    []mesh.Service
	from, until int64
}

func (s slowly) Tick(service mesh.Service, second int64) (harm.Tick, bool) {
	latency := 4 * time.Millisecond
	if second >= s.from && second < s.until && slices.Contains(s.services, service) {
		latency = 3 * time.Second
	}
	tick := harm.Tick{Requests: 100, Hist: &topology.Histogram{}}
	for range 100 {
		tick.Hist.Add(latency)
	}
	return tick, true
}

func TestASlowMachineIsNoHarm(t *testing.T) {
	for name, test := range map[string]struct {
		slow  []mesh.Service
		order microkernel.Watch
		want  microkernel.HarmLabel
	}{
		"front alone":                      {[]mesh.Service{front}, microkernel.Watch{}, microkernel.Harm},
		"cart too, which is not its doing": {[]mesh.Service{front, cart}, microkernel.Watch{}, microkernel.Clean},
		"cart too, which the plan's service calls": {
			[]mesh.Service{front, cart}, microkernel.Watch{Disturbed: []mesh.Service{web}}, microkernel.Harm,
		},
		"cart too, which is watched": {
			[]mesh.Service{front, cart}, microkernel.Watch{Services: []mesh.Service{cart}}, microkernel.Harm,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now().Unix()
				w := watcher(newMesh(), slowly{test.slow, now + 3, now + 20})
				order := test.order
				order.Plan, order.Services, order.For = "p", append(order.Services, front), 30*time.Second
				verdict, err := w.Watch(t.Context(), order)
				if err != nil || verdict.Label != test.want {
					t.Errorf("Watch = %+v, %v, want %s", verdict, err, test.want)
				}
			})
		})
	}
}

func TestABacklogAfterAHoldIsNoHarmUpstream(t *testing.T) {
	for name, test := range map[string]struct {
		held int64 // seconds of the verification in which another plan still holds requests
		want microkernel.HarmLabel
	}{
		"the hold goes on": {8, microkernel.Clean},
		"there is no hold": {0, microkernel.Harm},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now().Unix()
				w := watcher(newMesh(), slowly{[]mesh.Service{front}, now + 1, now + 12})
				w.settings.Overlays = func() []mesh.Overlay {
					if time.Now().Unix() >= now+test.held {
						return nil
					}
					return []mesh.Overlay{{
						Key:   mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: cart},
						Drain: &mesh.DrainOverlay{OnEmpty: mesh.OnEmptyHold},
					}}
				}
				verdict, err := w.Watch(t.Context(), microkernel.Watch{
					Plan: "p", Services: []mesh.Service{front}, For: 30 * time.Second,
				})
				if err != nil || verdict.Label != test.want {
					t.Errorf("Watch = %+v, %v, want %s", verdict, err, test.want)
				}
			})
		})
	}
}

// losing gives every service 100 requests a second, of which so many fail.
type losing map[mesh.Service]uint64

func (f losing) Tick(service mesh.Service, _ int64) (harm.Tick, bool) {
	tick, _ := steady{}.Tick(service, 0)
	tick.Errors = f[service]
	return tick, true
}

func TestWhatIsShedOnPurposeIsNoHarm(t *testing.T) {
	shed := func(off ...mesh.UID) func() []mesh.Overlay {
		return func() []mesh.Overlay {
			return []mesh.Overlay{{
				Key:   mesh.OverlayKey{Kind: mesh.OverlayDrain, Callee: cart},
				Drain: &mesh.DrainOverlay{OnEmpty: mesh.OnEmptyShed, Instances: off},
			}}
		}
	}
	for name, test := range map[string]struct {
		fails    losing
		overlays func() []mesh.Overlay
		harmed   mesh.Service
	}{
		"shed, and passed on":        {losing{cart: 60, front: 60, web: 60}, shed("cart-uid"), ""},
		"more than is passed on":     {losing{cart: 30, front: 60}, shed("cart-uid"), front},
		"the rest of it should work": {losing{cart: 60}, shed(), cart},
		"not in force":               {losing{cart: 60}, func() []mesh.Overlay { return nil }, cart},
		"nobody knows what is":       {losing{cart: 60, front: 60}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := watcher(newMesh(), steady{})
				order := microkernel.Watch{
					Plan: "p", Services: []mesh.Service{cart, front, web}, Shed: []mesh.Service{cart},
				}
				w.subjects(order, time.Now()) // healthy before
				w.settings.Stats, w.settings.Overlays = test.fails, test.overlays
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				verdict, _ := w.Watch(ctx, order)
				if verdict.Service != test.harmed {
					t.Errorf("Watch = %+v, want harm at %q", verdict, test.harmed)
				}
			})
		})
	}
}

func TestTheWatcherTellsSilenceFromIdleness(t *testing.T) {
	for label, reporting := range map[microkernel.HarmLabel]int64{microkernel.Harm: 10, microkernel.Inconclusive: 60} {
		synctest.Test(t, func(t *testing.T) {
			last := time.Now().Unix() + reporting
			w := watcher(newMesh(), nil)
			w.settings.Stats = GraphStats{
				Topology: newMesh(), Reporting: func(second int64) bool { return second <= last },
			}
			verdict, err := w.Watch(t.Context(), microkernel.Watch{
				Plan: "p", Services: []mesh.Service{front}, For: 30 * time.Second,
			})
			if err != nil || verdict.Label != label {
				t.Errorf("Watch = %+v, %v, want %s", verdict, err, label)
			}
		})
	}
}

func TestLoadsAreMeasured(t *testing.T) {
	load := watcher(newMesh(), steady{}).Load(cart)
	if load.Rate != 100 || load.Concurrency < 0.35 || load.Concurrency > 0.45 {
		t.Errorf("Load = %+v, want 100 a second and 0.4 at once", load)
	}
}
