package driver

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/mesh"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/topology"
)

// ill says that some services have a symptom.
type ill []mesh.Service

func (i ill) Symptoms() []topology.Symptom {
	var out []topology.Symptom
	for _, s := range i {
		out = append(out, topology.Symptom{Service: s, Onset: time.Now()})
	}
	return out
}

func viewOf(m *fakeMesh, p isa.Program, change func(*Config)) microkernel.View {
	cfg := configOf(m, nil)
	cfg.Capabilities, cfg.Sampling = httpSidecars, 1
	if change != nil {
		change(&cfg)
	}
	v := views{cfg: cfg, history: newHistory()}
	return v.of(p)
}

func TestAViewHoldsTheFactsOfTheProgramsServices(t *testing.T) {
	m := newMesh()
	view := viewOf(m, restartCart("x"), func(c *Config) { c.Symptoms = ill{cart} })
	if view.Epoch != m.Snapshot().Epoch() || view.GraphSize != 2 || view.Requests != 10_000 || !view.Declared {
		t.Errorf("view %+v", view)
	}
	if !reflect.DeepEqual(view.RestartSet, []mesh.Service{cart}) || !slices.Contains(view.Group, cart) {
		t.Errorf("restart set %v, group %v", view.RestartSet, view.Group)
	}
	if want := []mesh.Service{web, front}; !reflect.DeepEqual(view.BlastRadius, want) {
		t.Errorf("blast radius %v, want %v", view.BlastRadius, want)
	}
	s := view.Find(cart)
	if s == nil {
		t.Fatal("the target is not in the view")
	}
	if s.CallerDeadline != 10*time.Second || s.RestartP99 != 2*time.Second || !s.Symptom || !s.Takes || s.FanIn != 1 ||
		!reflect.DeepEqual(s.Callers, []mesh.Service{front}) || s.Capability.Grade != mesh.GradeA || !s.Capability.Lapses {
		t.Errorf("service view %+v", s)
	}
}

func TestTheRestartSetIsRecomputedWithStickyCallers(t *testing.T) {
	m := newMesh()
	m.world.Services[1].Upstreams[0].Sticky = true
	view := viewOf(m, restartCart("x"), nil)
	if want := []mesh.Service{cart, front}; !reflect.DeepEqual(view.RestartSet, want) {
		t.Errorf("restart set %v, want %v", view.RestartSet, want)
	}
	if want := []mesh.Service{front, cart}; !reflect.DeepEqual(view.DrainOrder, want) {
		t.Errorf("drain order %v, want callers first: %v", view.DrainOrder, want)
	}
	if view.Find(front) == nil {
		t.Error("a sticky caller has no view")
	}
	drain := restartCart("y")
	drain.Steps = drain.Steps[:1]
	if view := viewOf(m, drain, nil); len(view.RestartSet) != 0 || view.Find(cart) == nil || len(view.DrainOrder) == 0 {
		t.Errorf("a drain alone: restart set %v, order %v", view.RestartSet, view.DrainOrder)
	}
}

func TestUnknownTargetsHaveNoView(t *testing.T) {
	p := restartCart("x")
	p.Steps[0].Action = isa.Drain{Target: isa.Target{Service: "shop/nobody"}}
	if view := viewOf(newMesh(), p, nil); view.Find("shop/nobody") != nil {
		t.Error("a service that is not registered has a view")
	}
}

func TestCapabilitiesMustBeTold(t *testing.T) {
	cfg := configOf(newMesh(), nil)
	cfg.Capabilities = nil
	if _, err := Start(t.Context(), cfg); err == nil {
		t.Error("a driver that does not know what can be done has started")
	}
}

func TestRestartTimesAreLearned(t *testing.T) {
	h := newHistory()
	at := func(s int) microkernel.Stamp {
		return microkernel.Stamp{At: microkernel.Instant(s) * microkernel.Instant(time.Second)}
	}
	order := []microkernel.Effect{microkernel.Reboot{Plan: "p", Step: "r"}}
	h.note(microkernel.Applied{Stamp: at(10)}, order)
	h.note(microkernel.Led{Stamp: at(12)}, order) // ordered again after a crash
	h.note(microkernel.Restarted{Stamp: at(17), Plan: "p", Step: "r", Old: mesh.Ref{Service: cart}}, nil)
	if got := h.p99(cart, 0); got != 7*time.Second {
		t.Errorf("P99 = %v, want 7 s since the first order", got)
	}
	if got := h.p99(cart, 20*time.Second); got != 20*time.Second {
		t.Errorf("P99 = %v, want the declared 20 s", got)
	}
	h.note(microkernel.Applied{Stamp: at(20)}, order)
	h.note(microkernel.Failed{Stamp: at(21), Plan: "p", Step: "r"}, []microkernel.Effect{microkernel.Finish{Plan: "p"}})
	if len(h.begun) != 0 || h.p99(front, 0) != 0 {
		t.Errorf("begun %v", h.begun)
	}
}

// busyAt says how much of some services' capacity is in use.
type busyAt map[mesh.Service]float64

func (b busyAt) Load(s mesh.Service) Load { return Load{Utilisation: b[s]} }

func (b busyAt) Utilisation(s mesh.Service) float64 { return b[s] }

func TestCallersWithoutHeadroomAreTold(t *testing.T) {
	m := newMesh()
	for _, test := range []struct {
		used float64
		want []mesh.Service
	}{{0, nil}, {0.8, nil}, {0.81, []mesh.Service{front}}} {
		view := viewOf(m, restartCart("x"), func(c *Config) { c.Loads = busyAt{front: test.used, cart: 0.99} })
		if !slices.Equal(view.Crowded, test.want) {
			t.Errorf("%v in use: crowded %v, want %v", test.used, view.Crowded, test.want)
		}
	}
}
