package driver

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluicemesh/sluice/isa"
	"github.com/sluicemesh/sluice/microkernel"
	"github.com/sluicemesh/sluice/microkernel/journal"
)

// A state that breaks an invariant as soon as a restart is ordered: the order is not
// carried out, traffic is given back, a human is called, and an admin may go on.
func TestABrokenInvariantFreezesTheKernelBeforeItActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, j, p := newMesh(), &journal.Memory{}, &pages{}
		cfg := configOf(m, j)
		cfg.Pager = p
		cfg.check = func(s microkernel.State) string {
			for _, r := range s.OpenRecords() {
				for i := range r.Steps {
					if _, restart := r.Steps[i].Step.Action.(isa.Restart); restart && r.Steps[i].Started != 0 && s.Frozen() == "" {
						return "I2: there is no proof"
					}
				}
			}
			return ""
		}
		k := start(t, cfg)
		led(t, k)
		submit(t, k, restartCart("cart-1"))
		r := ended(t, k, "cart-1")
		if r.Phase != microkernel.Compensated || !strings.Contains(r.Reason, "I2: there is no proof") {
			t.Errorf("phase %s: %s", r.Phase, r.Reason)
		}
		if len(m.starts) != 0 || len(m.Installed()) != 0 {
			t.Errorf("restarts %v, overlays %v; want none", m.starts, m.Installed())
		}
		if n := counted(t, cfg.Metrics.(*prometheus.Registry), "sluice_invariant_violations_total"); n != 1 {
			t.Errorf("%v violations counted, want 1", n)
		}
		if !strings.Contains(k.Status().Frozen, "I2") || len(p.all) == 0 {
			t.Errorf("status %+v, pages %v", k.Status(), p.all)
		}
		if got := replayed(t, j); microkernel.Hash(got) != microkernel.Hash(k.snapshot()) {
			t.Error("replay does not yield the live state")
		}
		verdict, _, err := k.Submit(t.Context(), agent, restartCart("cart-2"))
		if err != nil || verdict.Code != isa.CodeFrozen {
			t.Errorf("a new plan: %+v, %v; want frozen", verdict, err)
		}
		if err := k.Resume(t.Context(), microkernel.Principal{Name: "adam", Role: microkernel.Admin}, ""); err != nil || k.Status().Frozen != "" {
			t.Errorf("resume: %v, still %q", err, k.Status().Frozen)
		}
	})
}

func counted(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
